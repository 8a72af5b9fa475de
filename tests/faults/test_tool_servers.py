"""Tool servers as they are in the field: old, silent, careless, restarted, crying, and protected."""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.actions.mcp.conftest import Start, asked, eventually, gate_of, rawbox, rule, start, text_of
from tests.actions.mcp.upstream.test_spec import served_toolbox

__all__ = ["start"]

ALLOW = rule("allow")


async def test_a_server_that_exits_when_it_is_discovered_is_started_anew_and_remembered(
    start: Start, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    gate = await start(rawbox("exits-on-discover", log=log, idle_s=0.1) + ALLOW)
    async with gate.client("rawbox") as client:
        assert text_of(await client.call_tool("twist", {"text": "1"})) == "1"

        async def idle() -> bool:
            return bool((await gate.admin.get("/v1/mcp/servers")).json()["servers"][0]["state"] == "idle")

        await eventually(idle)
        assert text_of(await client.call_tool("twist", {"text": "2"})) == "2"
    assert len(asked(log, "server/discover")) == 1
    assert len(asked(log, "initialize")) == 2
    assert await gate.metric("daemonpulse_mcp_server_starts_total", outcome="failed") is None


async def test_a_server_that_is_silent_when_it_is_discovered_is_asked_once(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp.client.session.DISCOVER_TIMEOUT_SECONDS", 0.2)
    log = tmp_path / "log"
    gate = await start(rawbox("silent-on-discover", log=log, idle_s=0.1) + ALLOW)
    async with gate.client("rawbox") as client:
        for text in ("1", "2"):
            assert text_of(await client.call_tool("twist", {"text": text})) == text
            await asyncio.sleep(0.3)  # it is idle then, and stopped
    assert len(asked(log, "server/discover")) == 1


async def test_malformed_items_cost_themselves_and_are_counted(start: Start) -> None:
    gate = await start(rawbox("malformed") + ALLOW)
    async with gate.client("rawbox") as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"good", "twist"} <= names
        assert "no-schema" not in names
        assert (await client.call_tool("no-content", {})).structured_content == {"a": 1}
        odd = await client.call_tool("odd-block", {})
        assert text_of(odd) == "fine\n[3 malformed content blocks were dropped.]"
    assert (await gate.metric("daemonpulse_mcp_items_dropped_total", method="tools/list") or 0) >= 4
    assert await gate.metric("daemonpulse_mcp_items_dropped_total", method="tools/call") == 3


@pytest.mark.parametrize("code", [-32000, -32001, -32603, 0])
async def test_a_servers_own_error_is_its_own_whatever_its_code_and_opens_no_breaker(
    start: Start, code: int
) -> None:
    gate = await start(rawbox(breaker_failures=2) + ALLOW)
    async with gate.client("rawbox") as client:
        for _ in range(6):
            with pytest.raises(MCPError, match="the server's own words"):
                await client.call_tool("own-error", {"code": code})
        assert text_of(await client.call_tool("twist", {})) == "twisted"
    assert await gate.metric("daemonpulse_mcp_tool_calls_total", tool="own-error", outcome="error") == 6
    assert await gate.metric("daemonpulse_mcp_server_starts_total", outcome="done") == 1


async def test_a_start_that_fails_shows_the_programs_last_words(start: Start) -> None:
    policy = '[servers.x]\ncommand = "sh"\nargs = ["-c", "echo to stdout; echo needs API_KEY >&2; exit 3"]\n'
    gate = await start(policy + ALLOW)
    async with gate.client("x") as client:
        said = text_of(await client.call_tool("y", {}))
    assert "it exited with status 3: " in said
    assert "to stdout" in said
    assert "needs API_KEY" in said


async def test_a_server_that_cries_is_listed_at_a_pace(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    gate = await start(rawbox("cries", log=log) + ALLOW)
    async with gate.client("rawbox") as client:
        for _ in range(4):
            await client.call_tool("twist", {})
    assert len(asked(log, "tools/call")) == 4
    assert len(asked(log, "tools/list")) < 12  # of 2,000 cries


async def test_pages_without_end_are_not_read_without_end(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    gate = await start(rawbox("pages", log=log) + ALLOW)
    async with gate.client("rawbox") as client:
        assert len((await client.list_tools()).tools) < 150  # 8 MB
    assert len(asked(log, "tools/list")) <= 2 * 3
    assert (await gate.metric("daemonpulse_mcp_items_dropped_total", method="tools/list") or 0) >= 8


async def test_a_tool_that_changed_while_the_server_was_away_asks_before_it_passes(
    start: Start, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    gate = await start(rawbox("changes", log=log) + ALLOW)
    async with gate.client("rawbox") as client:
        assert not (await client.call_tool("good", {})).is_error
        assert (await client.call_tool("exit", {})).is_error
        waiting = asyncio.create_task(client.call_tool("good", {}))
        (approval,) = await gate.pending()
        assert "tool definition changed" in approval["reason"]
        assert len(asked(log, "tools/call")) == 2
        waiting.cancel()


@pytest.mark.parametrize("stateless", [False, True])
async def test_the_first_request_after_a_restart_of_a_server_at_a_url_succeeds(
    start: Start,
    stateless: bool,  # noqa: FBT001
) -> None:
    async with served_toolbox(legacy=not stateless) as url:
        gate = await start(f'[servers.web]\nurl = "{url}"\n' + ALLOW)
        async with gate.client("web") as client:
            assert text_of(await client.call_tool("echo", {"text": "1"})) == "1"
    port = int(url.split(":")[2].split("/")[0])
    async with served_toolbox(port, legacy=not stateless), gate.client("web") as client:
        assert text_of(await client.call_tool("echo", {"text": "2"})) == "2"


async def test_one_error_of_http_cuts_no_other_call(start: Start) -> None:
    """A server whose `fails` breaks HTTP in every way while `slow` runs."""
    slow = asyncio.Event()

    async def answer(request: Request) -> Response:
        asked_for = await request.json()
        if "id" not in asked_for:
            return Response(status_code=202)
        method, params = asked_for["method"], asked_for.get("params", {})
        name, how = params.get("name"), str((params.get("arguments") or {}).get("how"))
        if name == "fails":
            return {
                "500": Response("oops", 500),
                "502": Response("oops", 502),
                "garbage": Response("{", media_type="application/json"),
                "html": Response("<html>", media_type="text/html"),
                "cut": Response(
                    '{"jsonrpc"', media_type="application/json", headers={"content-length": "900"}
                ),
                "gzip": Response(b"x", headers={"content-encoding": "gzip"}, media_type="application/json"),
            }[how]
        if name == "slow":
            await slow.wait()
        results: dict[str, Any] = {
            "initialize": {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "x", "version": "1"},
            },
            "tools/list": {
                "tools": [{"name": one, "inputSchema": {"type": "object"}} for one in ("slow", "fails")]
            },
            "tools/call": {"content": [{"type": "text", "text": "done"}]},
        }
        if method not in results:
            body = {"jsonrpc": "2.0", "id": asked_for["id"], "error": {"code": -32601, "message": "no"}}
            return JSONResponse(body, 404)
        return JSONResponse({"jsonrpc": "2.0", "id": asked_for["id"], "result": results[method]})

    async with served(answer) as url:
        gate = await start(f'[servers.web]\nurl = "{url}"\nbreaker_failures = 100\n' + ALLOW)
        async with gate.client("web") as client:
            running = asyncio.create_task(client.call_tool("slow", {}))
            for how in ("500", "502", "garbage", "html", "cut", "gzip"):
                with contextlib.suppress(MCPError):
                    assert (await client.call_tool("fails", {"how": how})).is_error, how
            slow.set()
            assert text_of(await running) == "done"


async def test_a_server_that_wants_authorization_says_what_is_missing(start: Start) -> None:
    asks = 'Bearer resource_metadata="https://example.org/.well-known/oauth-protected-resource"'

    async def answer(_request: Request) -> Response:
        return JSONResponse({"error": "invalid_token"}, 401, headers={"www-authenticate": asks})

    async with served(answer) as url:
        gate = await start(f'[servers.web]\nurl = "{url}"\n' + ALLOW)
        async with gate.client("web") as client:
            said = await client.call_tool("x", {})
    assert "HTTP 401: the server requires authorization" in text_of(said)
    assert "OAuth, which is not supported" in text_of(said)
    assert "set headers = {" in text_of(said)
    assert gate_of(said)["outcome"] == "unavailable"


class served:  # noqa: N801 - used like a function
    """A web server whose POSTs are answered by a function."""

    def __init__(self, answer: Any) -> None:
        self._app = Starlette(routes=[Route("/mcp", answer, methods=["POST"])])

    async def __aenter__(self) -> str:
        self._listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(self._app, log_config=None, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/mcp"

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._task
        self._listener.close()
