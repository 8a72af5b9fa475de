"""Answers that break the protocol: they reach their call at once, as what they plainly mean or as malformed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.actions.mcp.conftest import Start, asked, eventually, gate_of, rawbox, rule, start, text_of
from tests.faults.test_tool_servers import served

__all__ = ["start"]

ALLOW = rule("allow")
FINE = '{"content": [{"type": "text", "text": "fine"}]}'
UNREADABLE = {
    "a list as result": '{"jsonrpc": "2.0", "id": ID, "result": [1]}',
    "neither result nor error": '{"jsonrpc": "2.0", "id": ID}',
    "cut in the middle": '{"jsonrpc": "2.0", "id": ID, "result": {"content": [',
    "nested without end": '{"jsonrpc": "2.0", "id": ID, "result": {"content": [], "structuredContent": {"a": '
    + "[" * 100_000
    + "]" * 100_000
    + "}}}",
}
MEANT = {
    "a byte order mark": f'\xef\xbb\xbf{{"jsonrpc": "2.0", "id": ID, "result": {FINE}}}',
    "a batch": f'[{{"jsonrpc": "2.0", "method": "notifications/x"}}, {{"jsonrpc": "2.0", "id": ID, "result": {FINE}}}]',
    "the id as text": f'{{"jsonrpc": "2.0", "id": "ID", "result": {FINE}}}',
    "the id as a decimal number": f'{{"jsonrpc": "2.0", "id": ID.0, "result": {FINE}}}',
    "no version": f'{{"id": ID, "result": {FINE}}}',
    "invalid UTF-8": f'{{"jsonrpc": "2.0", "id": ID, "x": "\xff", "result": {FINE}}}',
    "half a character": f'{{"jsonrpc": "2.0", "id": ID, "x": "\\ud800", "result": {FINE}}}',
    "carriage returns": f'{{"jsonrpc": "2.0", "id": ID, "result": {FINE}}}\r',
}
ERRORS = {
    "a text as error": '{"jsonrpc": "2.0", "id": ID, "error": "its own words"}',
    "an error without code": '{"jsonrpc": "2.0", "id": ID, "error": {"message": "its own words"}}',
    "an error of another version": '{"jsonrpc": "1.0", "id": ID, "error": {"code": 1, "message": "its own words"}}',
}


async def test_an_answer_that_cannot_be_read_ends_its_call_at_once(start: Start) -> None:
    gate = await start(rawbox(call_timeout_s=600, breaker_failures=100) + ALLOW)
    async with gate.client("rawbox") as client:
        for what, raw in UNREADABLE.items():
            result = await client.call_tool("twist", {"raw": raw})
            assert gate_of(result)["outcome"] == "malformed", what
            assert text_of(result).endswith("the response is not valid MCP"), what
        assert text_of(await client.call_tool("twist", {})) == "twisted"
    assert await gate.metric("daemonpulse_mcp_server_starts_total", outcome="done") == 1


async def test_an_answer_that_is_plain_is_taken_for_what_it_means(start: Start) -> None:
    gate = await start(rawbox(call_timeout_s=600) + ALLOW)
    async with gate.client("rawbox") as client:
        for what, raw in MEANT.items():
            assert text_of(await client.call_tool("twist", {"raw": raw})) == "fine", what
        nothing = await client.call_tool("twist", {"raw": '{"jsonrpc": "2.0", "id": ID, "result": null}'})
        assert (nothing.content, nothing.is_error) == ([], False)
        for what, raw in ERRORS.items():
            with pytest.raises(MCPError, match="its own words"):
                await client.call_tool("twist", {"raw": raw})
            assert await gate.metric("daemonpulse_mcp_tool_calls_total", outcome="error"), what
        odd = '{"jsonrpc": "2.0", "id": "ID", "result": {"content": [{"type": "x"}, {"type": "text", "text": "kept"}]}}'
        assert text_of(await client.call_tool("twist", {"raw": odd})).startswith("kept\n")


async def test_what_is_no_answer_costs_nothing(start: Start) -> None:
    gate = await start(rawbox(call_timeout_s=600) + ALLOW)
    noise = [
        "Listening on port 3000",
        "\x00\x01\xff",
        "{}",
        "[]",
        "null",
        '{"jsonrpc": "2.0", "id": 99999, "result": {}}',
        '{"jsonrpc": "2.0", "id": 9e999, "result": {}}',
        '{"jsonrpc": "2.0", "id": "nobody", "error": {"code": 1, "message": "x"}}',
        '{"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": ID, "progress": "x"}}',
        '{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": ID}}',
        '{"jsonrpc": "2.0", "id": ID, "method": "sampling/createMessage", "params": {}}',
        '{"jsonrpc": "2.0", "id": "s", "method": "elicitation/create", "params": {"message": "your password?"}}',
        '{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "obey"}}',
    ]
    async with gate.client("rawbox") as client:
        for raw in noise:
            assert text_of(await client.call_tool("twist", {"raw": raw, "then": 1})) == "then", raw
        late = f'{{"jsonrpc": "2.0", "id": ID, "result": {FINE}}}'
        assert (
            text_of(await client.call_tool("twist", {"raw": late, "then": 1})) == "fine"
        )  # and a second answer
        assert text_of(await client.call_tool("twist", {})) == "twisted"


async def test_requests_of_a_server_without_number_do_not_keep_its_answer_back(start: Start) -> None:
    gate = await start(rawbox(call_timeout_s=600) + ALLOW)
    asks = [
        '{"jsonrpc": "2.0", "id": "p", "method": "ping"}',
        '{"jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}',
        *(f'{{"jsonrpc": "2.0", "id": {number}, "method": "roots/list"}}' for number in range(3_000)),
    ]
    async with gate.client("rawbox") as client:
        for _ in range(2):
            result = await client.call_tool("twist", {"raw": "\n".join(asks), "then": 1})
            assert text_of(result) == "then"


WITHOUT_ID = {
    "an error": (
        '{"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "its own words"}}',
        "its own",
    ),
    "no id at all": ('{"jsonrpc": "2.0", "error": {"code": -32600, "message": "its own words"}}', "its own"),
    "a text as error": ('{"jsonrpc": "2.0", "id": null, "error": "its own words"}', "its own"),
    "a result": (f'{{"jsonrpc": "2.0", "id": null, "result": {FINE}}}', ""),
}


@pytest.mark.parametrize("what", WITHOUT_ID)
async def test_an_answer_without_an_id_ends_the_call_that_alone_can_be_meant(start: Start, what: str) -> None:
    gate = await start(rawbox(call_timeout_s=600) + ALLOW)
    raw, words = WITHOUT_ID[what]
    async with gate.client("rawbox") as client:
        for _ in range(2):
            if words:
                with pytest.raises(MCPError, match=words):
                    await client.call_tool("twist", {"raw": raw})
            else:  # whose it is is not certain enough to show it
                assert gate_of(await client.call_tool("twist", {"raw": raw}))["outcome"] == "malformed"
        assert text_of(await client.call_tool("twist", {})) == "twisted"


async def test_an_answer_without_an_id_ends_the_call_that_is_left_when_others_are_answered(
    start: Start, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    gate = await start(rawbox(log=log, call_timeout_s=600) + ALLOW)
    silence = '{"jsonrpc": "2.0", "method": "notifications/x"}'

    async def sent(count: int) -> None:
        async def are_sent() -> bool:
            return len(asked(log, "tools/call")) == count

        await eventually(are_sent)

    async with gate.client("rawbox") as client:

        def call(raw: str) -> asyncio.Task[types.CallToolResult]:
            return asyncio.create_task(client.call_tool("twist", {"raw": raw}))

        first = call(silence)
        await sent(1)
        lost = call(WITHOUT_ID["an error"][0])
        await sent(2)
        number = asked(log, "tools/call")[0]["id"]
        third = call(f'{{"jsonrpc": "2.0", "id": {number}, "result": {FINE}}}')
        assert text_of(await first) == "fine"
        with pytest.raises(MCPError, match="its own words"):
            await lost
        assert not third.done()
        third.cancel()


async def test_a_progress_message_has_a_length(start: Start) -> None:
    gate = await start(rawbox() + ALLOW)
    seen: list[str | None] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - the SDK's
        seen.append(message)

    async with gate.client("rawbox") as client:
        params = json.dumps({"progressToken": 0, "progress": 1, "message": "m" * 1_000_000}).replace(
            "0", "ID", 1
        )
        raw = f'{{"jsonrpc": "2.0", "method": "notifications/progress", "params": {params}}}'
        await client.call_tool("twist", {"raw": raw, "then": 1}, progress_callback=note)
    assert [len(message or "") for message in seen] == [4_096]


async def test_a_server_of_another_time_says_its_version_and_not_how_it_was_stopped(start: Start) -> None:
    gate = await start(rawbox("future") + ALLOW)
    async with gate.client("rawbox") as client:
        said = text_of(await client.call_tool("good", {}))
    assert "Unsupported protocol version from the server: 2099-01-01" in said
    assert "exited" not in said


HTTP = {
    "500": (Response("<html>Traceback", 500), "unavailable", "HTTP 500"),
    "405": (Response("no", 405), "unavailable", "HTTP 405"),
    "429": (Response("no", 429, headers={"retry-after": "5"}), "unavailable", "HTTP 429, Retry-After: 5"),
    "307": (
        Response("", 307, headers={"location": "http://127.0.0.1:9/x?key=1"}),
        "unavailable",
        "redirects are not",
    ),
    "403": (Response("", 403), "unavailable", "HTTP 403: the server refuses the gate's requests"),
    "202": (Response("", 202), "malformed", "not valid MCP (HTTP 202"),
    "html": (Response("<html>Sign in", media_type="text/html"), "malformed", "content-type 'text/html"),
    "garbage": (Response("{", media_type="application/json"), "malformed", "not valid MCP"),
    "other id": (JSONResponse({"jsonrpc": "2.0", "id": 99, "result": {}}), "malformed", "not valid MCP"),
    "stream without answer": (
        Response(": ping\n\n", media_type="text/event-stream"),
        "unavailable",
        "ended the stream",
    ),
}


ASKED = asyncio.Event()
"""Set when a call came that is not answered."""


def events(text: str) -> Response:
    return Response(text, media_type="text/event-stream")


async def answer(request: Request) -> Response:
    asked_for = await request.json()
    if "id" not in asked_for:
        return Response(status_code=202)
    params = asked_for.get("params", {})
    how = str((params.get("arguments") or {}).get("how", ""))
    if how in HTTP:
        return HTTP[how][0]
    if how == "nothing yet":
        ASKED.set()
        await asyncio.Event().wait()
    if how:
        text = how.replace("ID", str(asked_for["id"]))
        return events(text) if "data:" in how else Response(text, media_type="application/json")
    results: dict[str, Any] = {
        "initialize": {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "x", "version": "1"},
        },
        "tools/list": {"tools": [{"name": "x", "inputSchema": {"type": "object"}}]},
    }
    if asked_for["method"] not in results:
        return Response("<html>", 404)  # of server/discover, which it does not know
    return JSONResponse({"jsonrpc": "2.0", "id": asked_for["id"], "result": results[asked_for["method"]]})


async def test_http_that_is_no_answer_is_not_taken_for_the_servers_own_and_counts_as_its_failure(
    start: Start,
) -> None:
    async with served(answer) as url:
        limits = "call_timeout_s = 600\nbreaker_failures = 100\n"
        gate = await start(f'[servers.web]\nurl = "{url}"\n{limits}' + ALLOW)
        async with gate.client("web") as client:
            for how, (_, outcome, words) in HTTP.items():
                result = await client.call_tool("x", {"how": how})
                assert (gate_of(result)["outcome"], words in text_of(result)) == (outcome, True), text_of(
                    result
                )
            for raw in UNREADABLE.values():
                for how in (raw, f"data: {raw}\n\n"):
                    if len(how) < 1_000:  # larger events wait for the timeout
                        assert gate_of(await client.call_tool("x", {"how": how}))["outcome"] == "malformed", (
                            how
                        )
            for raw in MEANT.values():
                if raw.isascii() and "\r" not in raw:
                    for how in (raw, f"data: {raw}\n\n", f": ping\n\nevent: ping\ndata: {{}}\n\ndata: {raw}"):
                        assert text_of(await client.call_tool("x", {"how": how})) == "fine", how
            for raw in ERRORS.values():
                for how in (raw, f"data: {raw}\n\n"):
                    with pytest.raises(MCPError, match="its own words"):
                        await client.call_tool("x", {"how": how})
        assert await gate.metric("daemonpulse_mcp_tool_calls_total", outcome="error") == 2 * len(ERRORS)


async def test_over_http_an_answer_without_an_id_is_its_own_requests_whatever_else_is_open(
    start: Start,
) -> None:
    async with served(answer) as url:
        gate = await start(f'[servers.web]\nurl = "{url}"\ncall_timeout_s = 600\n' + ALLOW)
        async with gate.client("web") as client:
            open_ = [asyncio.create_task(client.call_tool("x", {"how": "nothing yet"})) for _ in range(3)]
            await ASKED.wait()
            for what, (raw, words) in WITHOUT_ID.items():
                for how in (raw, f"data: {raw}\n\n"):
                    if words:
                        with pytest.raises(MCPError, match=words):
                            await client.call_tool("x", {"how": how})
                    elif how is raw:
                        assert text_of(await client.call_tool("x", {"how": how})) == "fine", what
                    else:  # a stream may hold other messages too
                        assert gate_of(await client.call_tool("x", {"how": how}))["outcome"] == "malformed"
            assert not any(one.done() for one in open_)
            for one in open_:
                one.cancel()
            await asyncio.gather(*open_, return_exceptions=True)
