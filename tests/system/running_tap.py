"""Starts a tap in this process, with the settings that its reader gives."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from exporter.tap import app
from exporter.tap.exchange import Clocks
from exporter.tap.settings import load
from llmster_sim.server import Simulator

CLIENTS = ("ci", "chat")


def key_of(client: str) -> str:
    """The API key by which the tap knows a client."""
    return f"key-{client}"


@asynccontextmanager
async def running_tap(simulator: Simulator) -> AsyncIterator[tuple[str, str]]:
    """Give the URLs, for clients and for the exporter, of a tap on the simulator's clock that knows two clients."""
    clock = simulator.clock
    async with serving_tap(
        simulator.port,
        clocks=Clocks(lambda: clock.now_s, lambda: clock.now_ms * 1_000_000),
        client_keys={hashlib.sha256(key_of(name).encode()).hexdigest(): name for name in CLIENTS},
    ) as urls:
        yield urls


@asynccontextmanager
async def serving_tap(
    port: int, *, clocks: Clocks | None = None, **changed: Any
) -> AsyncIterator[tuple[str, str]]:
    """Give the URLs of a tap before whatever listens on a port of this host, with other settings where told."""
    environ = {
        "DAEMONPULSE_TAP_LISTEN": "127.0.0.1:0",
        "DAEMONPULSE_TAP_UPSTREAM": f"http://127.0.0.1:{port}",
        "DAEMONPULSE_TAP_REPORTS_LISTEN": "127.0.0.1:0",
        "DAEMONPULSE_TAP_DRAIN_SECONDS": "0",
        "DAEMONPULSE_LOG_LEVEL": "debug",
    }
    settings = replace(load({}, environ), **changed)
    urls: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    options = {} if clocks is None else {"clocks": clocks}
    task = asyncio.create_task(app.serve(settings, ready=lambda *found: urls.put_nowait(found), **options))
    try:
        yield await asyncio.wait_for(urls.get(), 10)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
