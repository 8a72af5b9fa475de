"""Grafana's datasource plugin, under node, against the real actions API over the simulator."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from dashboards.kit.targets import RESOURCES
from llmster_sim.server import Simulator
from tests.actions.conftest import SMALL, Forge, StartForge, sim, start_forge  # noqa: F401 - fixtures
from tests.actions.live.chain import END, HEAD, chain, delta
from tests.actions.mcp.conftest import TOOLBOX
from tests.external import FindTool

Row = dict[str, Any]
TESTS = Path(__file__).parent / "node" / "plugin.test.mjs"
POLICY = f"""
[servers.toolbox]
command = "{sys.executable}"
args = ["{TOOLBOX}"]
[[rules]]
decision = "ask"
"""


@pytest.mark.external("node", "@grafana/data")
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
    async with asyncio.timeout(60), _a_call_that_waits(forge.url, token):
        pending = await _pending(forge.http)
        wanted = await _wanted(forge, loaded.json(), pending)
        environment = {
            "API": forge.url,
            "TOKEN": token,
            "WANTED": json.dumps(wanted),
            "PATH": os.environ["PATH"],
        }
        process = await asyncio.create_subprocess_exec(
            external_tool("node"),
            "--test",
            str(TESTS),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.mark.external("node", "@grafana/data")
async def test_the_datasource_plugin_shows_what_runs_while_it_runs(
    tmp_path: Path, external_tool: FindTool
) -> None:
    async def wait() -> None:
        await asyncio.sleep(0.5)

    answers = [
        (
            *(
                HEAD,
                delta(reasoning_content="Two and "),
                wait,
                delta(reasoning_content="two."),
                wait,
                wait,
                wait,
            ),
            *(delta(content="It is "), wait, wait, delta(content="four."), wait, END),
        )
        for _ in range(20)
    ]
    async with chain(tmp_path, *answers) as all_of, asyncio.timeout(150):
        environment = {
            "API": all_of.forge.url,
            "TOKEN": all_of.forge.http.headers["Authorization"].removeprefix("Bearer "),
            "TEXT_TOKEN": all_of.text_token,
            "TAP": all_of.tap_url,
            "PATH": os.environ["PATH"],
        }
        process = await asyncio.create_subprocess_exec(
            external_tool("node"),
            "--test",
            str(TESTS.with_name("live.test.mjs")),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def _wanted(forge: Forge, operation: Row, pending: Row) -> dict[str, Any]:
    """What the plugin must show: the columns the boards name, and a column for every key of the API's rows."""
    keys = {
        "operations": operation.keys(),
        "audit": (await forge.audit())[0].keys(),
        "instances": (await _list(forge.http, "daemons/box/instances")).keys() | {"daemon"},
        "gates": (await _list(forge.http, "mcp/servers/toolbox/tools")).keys() | {"id", "server"},
        "approvals": pending.keys(),
    }
    return {
        "columns": {name: list(columns) for name, columns in RESOURCES.items()},
        "keys": {name: sorted(found) for name, found in keys.items()},
    }


@contextlib.asynccontextmanager
async def _a_call_that_waits(url: str, token: str) -> AsyncIterator[None]:
    """Let a model call a tool that asks first; nobody answers."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http:
        transport = streamable_http_client(f"{url}/mcp/toolbox", http_client=http)
        async with Client(transport, cache=None) as client:
            calling = asyncio.create_task(client.call_tool("echo", {"text": "hello"}))
            try:
                yield
            finally:
                calling.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await calling


async def _pending(http: httpx.AsyncClient) -> Row:
    """The call that waits."""
    while True:
        answer = await http.get("/v1/mcp/approvals", params={"state": "pending"})
        if answer.json()["approvals"]:
            found: Row = answer.json()["approvals"][0]
            return found
        await asyncio.sleep(0.05)  # the call goes its own way through a tool server in another process


async def _list(http: httpx.AsyncClient, path: str) -> Row:
    """The first row of a list."""
    answer = (await http.get(f"/v1/{path}")).json()
    found: Row = next(rows[0] for rows in answer.values() if isinstance(rows, list))
    return found
