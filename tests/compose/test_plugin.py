"""Grafana's datasource plugin, under node, against the real actions API over the simulator."""

import asyncio
import json
import os
import sys
from pathlib import Path

import httpx
import pytest

from dashboards.targets import RESOURCES
from llmster_sim.server import Simulator
from tests.actions.conftest import SMALL, StartForge, sim, start_forge  # noqa: F401 - fixtures
from tests.actions.mcp.conftest import TOOLBOX
from tests.external import FindTool

TESTS = Path(__file__).parent / "node" / "plugin.test.mjs"
POLICY = f"""
[servers.toolbox]
command = "{sys.executable}"
args = ["{TOOLBOX}"]
[[rules]]
decision = "ask"
"""


@pytest.mark.external("node")
async def test_the_datasource_plugin_shows_the_real_api(
    tmp_path: Path,
    sim: Simulator,  # noqa: F811
    start_forge: StartForge,  # noqa: F811
    external_tool: FindTool,
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "mcp.toml").write_text(POLICY)
    forge = await start_forge(sim, state=state)
    loaded = await forge.load(SMALL)
    assert loaded.status_code == 200, loaded.text
    token = forge.http.headers["Authorization"].removeprefix("Bearer ")
    keys = {
        "operations": loaded.json().keys(),
        "audit": (await forge.audit())[0].keys(),
        "instances": (await _list(forge.http, "daemons/box/instances")).keys() | {"daemon"},
        "gates": (await _list(forge.http, "mcp/servers/toolbox/tools")).keys() | {"id", "server"},
    }
    wanted = {
        # A pending approval needs a model that calls; the columns of an empty list are tested all the same.
        "columns": {name: list(columns) for name, columns in RESOURCES.items() if name != "approvals"},
        "keys": {name: sorted(found) for name, found in keys.items()},
    }
    environment = {"API": forge.url, "TOKEN": token, "WANTED": json.dumps(wanted), "PATH": os.environ["PATH"]}
    process = await asyncio.create_subprocess_exec(
        external_tool("node"),
        "--test",
        str(TESTS),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def _list(http: httpx.AsyncClient, path: str) -> dict[str, object]:
    """The first row of a list."""
    answer = (await http.get(f"/v1/{path}")).json()
    found: dict[str, object] = next(rows[0] for rows in answer.values() if isinstance(rows, list))
    return found
