"""Starts a tap before a simulated daemon, in this process and on its clock. The tap knows two clients by keys."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from exporter.tap import app
from exporter.tap.exchange import Clocks
from exporter.tap.settings import TapSettings
from llmster_sim.server import Simulator

CLIENTS = ("ci", "chat")


def key_of(client: str) -> str:
    """The API key by which the tap knows a client."""
    return f"key-{client}"


@asynccontextmanager
async def running_tap(simulator: Simulator) -> AsyncIterator[tuple[str, str]]:
    """Give its URL for clients and its URL for the exporter."""
    clock = simulator.clock
    settings = TapSettings(
        listen_host="127.0.0.1",
        listen_port=0,
        upstream_host="127.0.0.1",
        upstream_port=simulator.port,
        upstream_tls=False,
        reports_host="127.0.0.1",
        reports_port=0,
        allowed_hosts=(),
        client_keys={hashlib.sha256(key_of(name).encode()).hexdigest(): name for name in CLIENTS},
        client_header="",
        max_connections=1000,
        drain_s=0,
        reasoning_tags=(),
        log_level="debug",
        log_format="logfmt",
    )
    urls: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    task = asyncio.create_task(
        app.serve(
            settings,
            ready=lambda *found: urls.put_nowait(found),
            clocks=Clocks(lambda: clock.now_s, lambda: clock.now_ms * 1_000_000),
        )
    )
    try:
        yield await asyncio.wait_for(urls.get(), 10)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
