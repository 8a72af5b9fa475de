"""The demo's tap: before the simulated daemon, on free ports, with the names of the demo's clients."""

from __future__ import annotations

from dataclasses import replace

from daemonpulse.demo.clients import key_hashes
from daemonpulse.demo.servers import Servers
from exporter.shared.live_token import LiveToken
from exporter.tap import app, settings
from llmster_sim.server import Simulator


async def start_tap(servers: Servers, simulator: Simulator, live_token: LiveToken) -> tuple[str, str]:
    """Start it; returns the URL for clients and the one for the exporter."""
    anywhere = "127.0.0.1:0"
    flags = {
        "listen": anywhere,
        "reports_listen": anywhere,
        "upstream": f"http://127.0.0.1:{simulator.port}",
        "drain_seconds": "0",
    }
    chosen = replace(settings.load(flags, {}), client_keys=key_hashes(), live_token=live_token)
    url, reports_url = await servers.start(app.serve, chosen)
    return url, reports_url
