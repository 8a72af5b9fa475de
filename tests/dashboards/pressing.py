"""Presses the boards' buttons as Grafana does: the row's fields put into the action, POSTed through its proxy.

Grafana's datasource proxy cuts its own prefix and adds the token; here the client's base URL and headers do both.
"""

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from dashboards.kit.targets import RESOURCES
from llmster_sim.server import Simulator
from tests.actions.conftest import SMALL, Forge
from tests.dashboards.asked import Json, board, chosen, panels

SERVER, BROKEN = "echoes", "broken"
_PROXY = "/api/datasources/proxy/uid/${actions}"
_FIELD = re.compile(r"\$\{__data\.fields\.(\w+)\}")


def button(data: Json, title: str) -> Json:
    """Find a board's button by its title."""
    found: Json = next(
        action
        for panel in panels(data)
        if "fieldConfig" in panel  # a text has none
        for override in panel["fieldConfig"]["overrides"]
        for entry in override["properties"]
        if entry["id"] == "actions"
        for action in entry["value"]
        if action["title"] == title
    )
    return found


async def press(http: httpx.AsyncClient, board_name: str, title: str, row: dict[str, Any]) -> httpx.Response:
    """Press a button of a shipped board in a row; the client's base URL and headers are the proxy."""
    return await http.send(pressed(http, board(board_name), title, row))


def pressed(http: httpx.AsyncClient, data: Json, title: str, row: dict[str, Any]) -> httpx.Request:
    """Make a button's request. Grafana encodes query parameters, and paths not at all: no button has a value there."""
    form = {f"${name}": value for name, value in chosen(data).items()}

    def put(text: str) -> str:
        return form.get(text) or _FIELD.sub(lambda match: str(row[match.group(1)]), text)

    fetch = button(data, title)["fetch"]
    path = put(fetch["url"].removeprefix(_PROXY))
    return http.build_request(
        fetch["method"], path, params={key: put(value) for key, value in fetch["queryParams"]}
    )


def policy(folder: Path, mcp_json: Path) -> None:
    """Write a gate's policy with one server, and a mcp.json that knows another one."""
    folder.mkdir(mode=0o700)
    mcp_json.write_text('{"mcpServers": {"past-the-gate": {"command": "true"}}}', encoding="utf-8")
    program = Path(__file__).with_name("tool_server.py")
    (folder / "mcp.toml").write_text(
        f'mcp_json = "{mcp_json}"\n[servers.{SERVER}]\ncommand = "{sys.executable}"\nargs = ["{program}"]\n'
        "output_cap_bytes = 2000\n"
        f'[servers.{BROKEN}]\ncommand = "false"\n',
        encoding="utf-8",
    )


@contextlib.asynccontextmanager
async def caller(forge: Forge) -> AsyncIterator[Client]:
    """The official MCP client, as llmster would call through the gate."""
    headers = {"Authorization": f"Bearer {await forge.token('read', name='llmster')}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http:
        transport = streamable_http_client(
            f"{forge.url}/mcp/{SERVER}", http_client=http, max_sse_event_size=None
        )
        async with Client(transport, cache=None) as client:
            yield client


async def rows(http: httpx.AsyncClient, path: str, resource: str, **query: str) -> list[dict[str, Any]]:
    """Read a list of the API as the datasource plugin would show it, and check that it has the boards' columns."""
    answer = (await http.get(path, params=query)).json()
    key = {"gates": "tools", "audit": "entries"}.get(resource, resource)
    found: list[dict[str, Any]] = answer[key]
    if resource == "gates":
        found = [
            {**one, "server": answer["server"], "id": f"{answer['server']}/{one['tool']}"} for one in found
        ]
    for one in found:
        assert set(RESOURCES[resource]) <= one.keys(), set(RESOURCES[resource]) - one.keys()
    return found


async def press_forge(forge: Forge, sim: Simulator) -> None:
    """Load, eject, probe, cancel: every button of the Forge but the kill switch."""
    small = {"daemon": forge.name, "model": SMALL}
    instance = {**small, "instance_id": SMALL}
    for title, row in (
        ("Probe model", small),  # loads it
        ("Eject instance", instance),
        ("Load model", small),
        ("Eject instance", instance),
        ("Probe model", {**small, "model": "openai/gpt-oss-20b"}),  # reasons
    ):
        ended = await forge.done(await press(forge.http, "forge", title, row))
        assert ended["state"] == "done", ended
    too_large = {**small, "model": "mistralai/magistral-small-2509"}
    assert (await press(forge.http, "forge", "Load model", too_large)).status_code == 409
    sim.faults.delay("llm.loadModel", 3.0, times=1)
    begun = await press(forge.http, "forge", "Load model", small)
    assert begun.status_code == 202, begun.text
    running = [
        one
        for one in await rows(forge.http, "/v1/operations", "operations")
        if one["state"] in {"pending", "running"}
    ]
    cancelled = await press(forge.http, "forge", "Cancel operation", running[0])
    assert (await forge.done(cancelled))["finished_ms"]  # as cancelled, or as done if the load was quicker
    refused = await forge.http.get("/v1/daemons", headers={"Authorization": "Bearer dp_wrong"})
    assert refused.status_code == 401
    assert await rows(forge.http, "/v1/audit", "audit")


async def press_toolchain(forge: Forge) -> None:
    """Approve one call, deny one, then let the tool run, ask, and not run at all."""
    gates = await rows(forge.http, f"/v1/mcp/servers/{SERVER}/tools", "gates")
    async with caller(forge) as client:
        for title, works in (("Approve call", True), ("Deny call", False)):
            call = asyncio.create_task(client.call_tool("echo", {"text": "hello"}))
            waiting = await _until_one_waits(forge.http)
            assert (await press(forge.http, "toolchain", title, waiting)).status_code == 200
            assert (await call).is_error is not works
        for title in ("Ask tool", "Deny tool", "Reset tool", "Allow tool"):
            assert (await press(forge.http, "toolchain", title, gates[0])).status_code == 200
            if title == "Deny tool":
                assert (await client.call_tool("echo", {})).is_error
    assert (await forge.http.get(f"/v1/mcp/servers/{BROKEN}/tools")).status_code == 503


async def _until_one_waits(http: httpx.AsyncClient) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while not (found := await rows(http, "/v1/mcp/approvals", "approvals", state="pending")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # the call is on its way through other processes
    return found[0]
