"""The demo's tap: before the simulated daemon, on free ports, with the names of the demo's clients."""

from __future__ import annotations

import asyncio
import contextlib

from daemonpulse.demo.actions import end
from daemonpulse.demo.clients import key_hashes
from exporter.shared.live_token import LiveToken
from exporter.tap import app
from exporter.tap.settings import TapSettings
from llmster_sim.server import Simulator


async def start_tap(
    stack: contextlib.AsyncExitStack, simulator: Simulator, live_token: LiveToken
) -> tuple[str, str]:
    """Start it; returns the URL for clients and the one for the exporter. It ends with `stack`."""
    settings = TapSettings(
        listen_host="127.0.0.1",
        listen_port=0,
        upstream_host="127.0.0.1",
        upstream_port=simulator.port,
        upstream_tls=False,
        reports_host="127.0.0.1",
        reports_port=0,
        allowed_hosts=(),
        client_keys=key_hashes(),
        client_header="",
        max_connections=1000,
        drain_s=0,
        reasoning_tags=(),
        log_level="info",
        log_format="logfmt",
        live_token=live_token,
    )
    urls: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    task = asyncio.create_task(app.serve(settings, ready=lambda *found: urls.put_nowait(found)))
    stack.push_async_callback(end, task)
    return await urls.get()
