"""Attacks that resemble known ones: every field of a tool, limits that hold up a denial, raw JSON, sessions at once."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.actions.conftest import make_token
from tests.actions.mcp.conftest import Start, asked, gate_of, rawbox, rule, start, text_of, toolbox
from tests.actions.mcp.upstream.test_spec import INITIALIZE

__all__ = ["start"]

ACCEPT = {"Accept": "application/json, text/event-stream"}
OBJECT = {"type": "object", "properties": {"path": {"type": "string"}}}


def define(log: Path, changed: dict[str, Any]) -> None:
    """Change what the server says about its good tool."""
    log.with_name(f"{log.name}.definition").write_text(json.dumps(changed), encoding="utf-8")


@pytest.mark.parametrize("always", ["false", "true"])
@pytest.mark.parametrize(
    "change",
    [
        {"title": "Works well"},
        {"outputSchema": {"type": "object"}},
        {"annotations": {"readOnlyHint": True}},
        {"_meta": {"x.example/y": None}},
        {"icons": [{"src": "data:image/png;base64,AA=="}]},
        {"execution": {"taskSupport": "optional"}},
        {"inputSchema": {"type": "object", "properties": {"path": {"type": "string", "default": None}}}},
        {"inputSchema": {**OBJECT, "required": ["path"]}},
        {"inputSchema": {**OBJECT, "x-anything": 1}},
    ],
    ids="-".join,
)
async def test_no_field_of_a_tool_changes_unseen_between_asking_and_approval(
    start: Start, tmp_path: Path, change: dict[str, Any], always: str
) -> None:
    log = tmp_path / "log"
    first = {"inputSchema": OBJECT}
    define(log, first)
    gate = await start(rawbox(log=log) + rule("ask", "good") + rule("allow"))
    async with gate.client("rawbox") as client:
        waiting = asyncio.create_task(client.call_tool("good", {"path": "x"}))
        (approval,) = await gate.pending()
        define(log, first | change)
        await client.list_tools()
        answer = await gate.admin.post(
            f"/v1/mcp/approvals/{approval['id']}/approve", params={"always": always}
        )
        assert (answer.status_code, "the tool changed" in answer.json()["detail"]) == (409, True)
        assert gate_of(await waiting)["outcome"] == "interrupted"
    assert asked(log, "tools/call") == []
    (tool,) = [
        tool
        for tool in (await gate.admin.get("/v1/mcp/servers/rawbox/tools")).json()["tools"]
        if tool["tool"] == "good"
    ]
    assert (tool["changed"], tool["set_by"]) == (True, None)


async def test_a_tool_that_changes_over_a_reconnect_while_it_is_asked_about_is_not_called(
    start: Start, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    gate = await start(rawbox(log=log) + rule("ask", "good") + rule("allow"))
    async with gate.client("rawbox") as client:
        waiting = asyncio.create_task(client.call_tool("good", {}))
        (approval,) = await gate.pending()
        define(log, {"title": "Other"})
        await client.call_tool("exit", {})  # nobody lists the tools of the new process before the approval
        await gate.admin.post(f"/v1/mcp/approvals/{approval['id']}/approve", params={"always": "true"})
        assert (await waiting).is_error
        assert [one for one in asked(log, "tools/call") if one["params"]["name"] == "good"] == []
        again = asyncio.create_task(client.call_tool("good", {}))
        await gate.pending()
        again.cancel()


async def test_a_denial_is_heard_whatever_limit_its_token_has_used_up(start: Start) -> None:
    gate = await start(toolbox() + rule("ask", "echo") + rule("allow"), commands_per_minute=2)
    wrong = {"Authorization": f"Bearer dp_{gate.token.split('_')[1]}_{'A' * 43}"}
    async with gate.client() as client, httpx.AsyncClient(base_url=gate.url, trust_env=False) as stranger:
        waiting = asyncio.create_task(client.call_tool("echo", {"text": "x"}))
        (approval,) = await gate.pending()
        for _ in range(20):
            await stranger.get("/v1/mcp/servers", headers=wrong)
        gate_url = "/v1/mcp/servers/toolbox/tools/meta/gate"
        answers = [
            (await gate.admin.post(gate_url, params={"decision": "allow"})).status_code for _ in range(3)
        ]
        assert answers == [200, 200, 429]
        approving = await gate.admin.post(f"/v1/mcp/approvals/{approval['id']}/approve")
        assert approving.status_code == 429
        assert (await gate.admin.post(f"/v1/mcp/approvals/{approval['id']}/deny")).status_code == 200
        assert (await gate.admin.post(gate_url, params={"decision": "deny"})).status_code == 200
        assert gate_of(await waiting)["outcome"] == "refused"
        assert gate_of(await client.call_tool("meta", {}))["decision"] == "deny"
        reader = await make_token(gate.parts.service.storage, "read", name="reader")
        denied = [
            (
                await stranger.post(
                    gate_url, params={"decision": "deny"}, headers={"Authorization": f"Bearer {reader}"}
                )
            ).status_code
            for _ in range(4)
        ]
        assert denied == [403, 403, 429, 429]  # who may not deny is limited


async def test_an_override_that_denies_ends_a_call_that_was_approved_before_it_ran(start: Start) -> None:
    gate = await start(toolbox() + rule("ask"))
    async with gate.client() as client:
        waiting = asyncio.create_task(client.call_tool("echo", {"text": "x"}))
        (approval,) = await gate.pending()
        await gate.admin.post("/v1/mcp/servers/toolbox/tools/echo/gate", params={"decision": "deny"})
        await gate.admin.post(f"/v1/mcp/approvals/{approval['id']}/approve")
        assert (await waiting).is_error


SCHEMA = (
    "{ properties = { n = { type = 'integer', maximum = 10 }, mode = { enum = ['ro'] }, "
    "o = { properties = { mode = { enum = ['ro'] }, path = { const = '/srv' } } } }, required = ['n'] }"
)


async def test_raw_json_is_decided_about_as_it_is_sent(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    gate = await start(rawbox(log=log) + rule("allow", "good", schema=SCHEMA))
    refused = [
        '{"n": 1, "n": 11}',
        '{"n": 1, "o": {"mode": "ro", "mode": "rw"}}',
        '{"n": 11.0}',
        '{"n": 1.1e1}',
        '{"n": 1e999}',
        '{"n": "1"}',
        '{"n": true}',
        '{"n": null}',
        '{"n": ' + "9" * 400 + "}",
        '{"n": 1, "MODE": "rw"}',
        '{"n": 1, "\\uff4dode": "rw"}',
        '{"n": 1, "mo\\u200bde": "rw"}',
        '{"n": 1, "o": {"Mode": "rw"}}',
        '{"n": 1, "o": {"pa-th": "/etc"}}',
        '{"n": 1, "o": [{"mo\\u00adde": "rw"}]}',
        '{"n": 1, "o/mode": "rw"}',
        '{"n": 1, "/o/mode": "rw"}',
        '{"n": 1, "o~1mode": "rw"}',
        '{"n": 1, "o.mode": "rw"}',
        '{"n": 1, "o": {"' + "\\u200b" * 1_000 + 'mode": "rw"}}',
    ]
    passed = ['{"n": 1e0}', '{"n": 1.0}', '{"n": 11, "n": 1}', '{"n": 1, "o": {"mode": "ro"}}']
    headers = {**ACCEPT, "Authorization": f"Bearer {gate.token}"}
    async with httpx.AsyncClient(headers=headers, timeout=20, trust_env=False) as http:
        url = f"{gate.url}/mcp/rawbox"
        session = (await http.post(url, json=INITIALIZE)).headers["mcp-session-id"]

        async def call(arguments: str) -> str:
            body = (
                '{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": '
                '{"name": "good", "arguments": ' + arguments + "}}"
            )
            sent = {"Mcp-Session-Id": session, "Content-Type": "application/json"}
            return (await http.post(url, content=body, headers=sent)).text

        for arguments in refused:
            answer = await call(arguments)
            assert '"isError":true' in answer or '"error":' in answer, (arguments[:100], answer[:300])
        assert asked(log, "tools/call") == []
        for arguments in passed:
            assert '"isError":true' not in await call(arguments), arguments
    sent = [one["params"]["arguments"] for one in asked(log, "tools/call")]
    assert sent == [{"n": 1}, {"n": 1}, {"n": 1}, {"n": 1, "o": {"mode": "ro"}}]


async def test_sessions_that_are_opened_at_once_leave_others_theirs(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actions.mcp.http_server.MAX_SESSIONS_OF_TOKEN", 20)
    gate = await start(toolbox() + rule("allow"))
    second = await make_token(gate.parts.service.storage, "read", name="second")
    url = f"{gate.url}/mcp/toolbox"
    listing = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(
        headers={**ACCEPT, "Authorization": f"Bearer {gate.token}"},
        timeout=60,
        limits=limits,
        trust_env=False,
    ) as http:
        answers = await asyncio.gather(*(http.post(url, json=INITIALIZE) for _ in range(200)))
        opened = [answer.headers["mcp-session-id"] for answer in answers if answer.status_code == 200]
        async with gate.client(token=second) as other:
            assert text_of(await other.call_tool("echo", {"text": "heard"})) == "heard"
        alive = [
            (await http.post(url, json=listing, headers={"Mcp-Session-Id": one})).status_code
            for one in opened
        ]
    assert len(opened) == 200
    assert alive.count(200) <= 20


async def test_approvals_asked_for_without_end_are_kept_up_to_a_number(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actions.mcp.approvals.MAX_SETTLED", 4)
    monkeypatch.setattr("actions.mcp.approvals.MAX_SETTLED_PREVIEW", 20)
    gate = await start("capture_arguments = true\n" + toolbox() + rule("ask"))
    async with gate.client() as client:
        kept = asyncio.create_task(client.call_tool("echo", {"text": "waits all the time"}))
        (first,) = await gate.pending()
        for number in range(12):
            waiting = asyncio.create_task(client.call_tool("echo", {"text": "x" * 1_000, "n": number}))
            newest = next(one for one in await gate.pending(2) if one["id"] != first["id"])
            await gate.admin.post(f"/v1/mcp/approvals/{newest['id']}/deny")
            assert (await waiting).is_error
        found = (await gate.admin.get("/v1/mcp/approvals")).json()["approvals"]
        settled = [one for one in found if one["state"] == "denied"]
        assert len(settled) <= 5
        assert {len(one["arguments"]) for one in settled} == {20}
        assert (await gate.admin.post(f"/v1/mcp/approvals/{first['id']}/approve")).status_code == 200
        assert text_of(await kept) == "waits all the time"


async def test_a_server_that_lists_other_names_each_time_uses_up_its_pins_and_is_asked_about(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actions.mcp.policy.store.MAX_PINS_OF_SERVER", 8)
    log = tmp_path / "log"
    gate = await start(rawbox(log=log) + rule("allow"))
    async with gate.client("rawbox") as client:
        for number in range(6):  # six tools at first, one new name each time
            define(log, {"name": f"good{number}"})
            await client.list_tools()
        for known in ("twist", "good5"):
            calling = asyncio.create_task(client.call_tool(known, {}))
            if known == "twist":
                assert text_of(await calling) == "twisted"
            else:
                (approval,) = await gate.pending()
                assert approval["tool"] == known
                answer = await gate.admin.post(
                    f"/v1/mcp/approvals/{approval['id']}/approve", params={"always": "true"}
                )
                assert answer.status_code == 200
                assert not (await calling).is_error
        assert not (await client.call_tool("good5", {})).is_error
    pins = await gate.parts.service.storage.read(
        lambda db: db.execute("SELECT count(*) FROM mcp_pins").fetchone()[0]
    )
    assert pins == 9
