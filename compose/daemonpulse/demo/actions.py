"""The demo's actions API and MCP gate: over the simulated daemon and its GPUs, with an operator's token in a file.

Depends only on the demo's folders and the API's settings.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from actions import app
from actions.auth.tokens import TokenStore
from actions.domain.actor import Scope
from actions.mcp.mcp_json.adoption import TOKEN_NAME
from actions.settings import ActionsSettings
from actions.store.database import Storage
from daemonpulse.demo import mcp_policy
from daemonpulse.demo.servers import Servers
from daemonpulse.demo.simulated_host import SimulatedHost, simulated_gpus
from exporter.settings import DaemonSettings
from exporter.shared.live_token import LiveToken
from llmster_sim.server import Simulator

DAEMON_NAME: Final = "demo"
TEXT_TOKEN: Final = "text-token"  # noqa: S105 - a file
"""Name of the file that holds the token with which Grafana sees text of running requests."""


async def start_actions(
    servers: Servers,
    simulator: Simulator,
    folder: Path,
    mcp_json: Path,
    *,
    exporter_url: str,
    live_token: LiveToken,
) -> tuple[str, Path]:
    """Start it on a free port; returns its URL and the file that holds its token.

    A token of scope text is in TEXT_TOKEN beside it. `mcp_json` is written for the daemon, which then calls its tools
    through the gate.
    """
    state = folder / "actions"
    token_file = folder / "actions-token"
    storage = await Storage.open(state)
    try:
        tokens = TokenStore(storage)
        _, token = await storage.write(lambda db: tokens.add(db, name="demo", scope=Scope.OPERATE))
        _, text_token = await storage.write(lambda db: tokens.add(db, name="demo-text", scope=Scope.TEXT))
        _, daemons_token = await storage.write(lambda db: tokens.add(db, name=TOKEN_NAME, scope=Scope.READ))
    finally:
        await storage.close()
    mcp_policy.write_policy(state, mcp_json)
    for file, secret in ((token_file, token), (folder / TEXT_TOKEN, text_token)):
        file.touch(mode=0o600)
        file.write_text(secret + "\n", encoding="utf-8")
    settings = ActionsSettings(
        listen_host="127.0.0.1",
        listen_port=0,
        state=state,
        web_config=None,
        allowed_hosts=(),
        commands_per_minute=300,
        prometheus_url=None,
        prometheus_selector="",
        log_level="info",
        log_format="logfmt",
        daemons=(DaemonSettings(name=DAEMON_NAME, url=simulator.url, token=None, home=None),),
        exporter_url=exporter_url,
        live_token=live_token,
    )
    loop = asyncio.get_running_loop()
    url, _parts = await servers.start(
        app.serve,
        settings,
        gpus=simulated_gpus(simulator.daemon, loop),
        host=SimulatedHost(simulator.daemon, loop),
    )
    mcp_policy.write_mcp_json(mcp_json, url, daemons_token)
    return url, token_file
