"""The ends of a call: allowed, denied, cut, timed out, cancelled, with an audit row each."""

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from tests.actions.conftest import make_token
from tests.actions.mcp.conftest import (
    Start,
    asked,
    eventually,
    gate_of,
    holds,
    rawbox,
    rule,
    stop,
    text_of,
    toolbox,
)
from tests.actions.store.test_audit import tamper

ALLOW = rule("allow")


async def test_an_allowed_call_works_and_names_the_rule(start: Start) -> None:
    gate = await start(toolbox() + rule("allow", "echo", name='"echoes are harmless"'))
    async with gate.client() as client:
        result = await client.call_tool("echo", {"text": "hello"})
    assert text_of(result) == "hello"
    assert not result.is_error
    assert gate_of(result) == {"decision": "allow", "rule": "echoes are harmless"}
    assert (
        await gate.metric(
            "daemonpulse_mcp_tool_calls_total",
            server="toolbox",
            tool="echo",
            decision="allow",
            outcome="done",
        )
        == 1
    )
    assert await gate.metric("daemonpulse_mcp_server_up", server="toolbox") == 1


async def test_every_call_is_on_record_with_a_digest_and_without_arguments(start: Start) -> None:
    gate = await start(toolbox() + ALLOW)
    async with gate.client() as client:
        await client.call_tool("echo", {"text": "my diary"})
        await client.call_tool("fails")
    await gate.outcomes(2)
    rows = await gate.audit()
    assert [row["kind"] for row in rows] == ["intent", "outcome"] * 2
    assert [row["detail"].get("outcome") for row in rows] == [None, "done", None, "tool_error"]
    assert {row["actor"] for row in rows} == {"token:llmster"}
    assert rows[0]["subject"] == "toolbox/echo"
    assert rows[0]["operation"] == rows[1]["operation"]
    assert "diary" not in json.dumps(rows)
    assert len(rows[0]["detail"]["arguments_digest"]) == 64


async def test_captured_arguments_are_redacted(start: Start) -> None:
    gate = await start("capture_arguments = true\n" + toolbox() + ALLOW)
    async with gate.client() as client:
        await client.call_tool("echo", {"text": "hello", "api_key": "abc", "note": "Bearer abcdefghijkl"})
    arguments = (await gate.audit("intent"))[0]["detail"]["arguments"]
    assert arguments == {"text": "hello", "api_key": "[redacted]", "note": "Bearer [redacted]"}


async def test_a_denied_tool_is_hidden_and_refused(start: Start) -> None:
    gate = await start(toolbox() + rule("deny", "d*", name='"no d"') + ALLOW)
    async with gate.client() as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert "echo" in names
        assert "die" not in names
        result = await client.call_tool("die", {})
    assert result.is_error
    assert "no d" in text_of(result)
    assert gate_of(result) == {"decision": "deny", "rule": "no d", "outcome": "refused"}
    assert [row["detail"]["outcome"] for row in await gate.audit("denied")] == ["refused"]


async def test_a_denied_call_does_not_start_the_server(start: Start) -> None:
    gate = await start(toolbox() + rule("deny"))
    async with gate.client() as client:
        assert (await client.call_tool("echo", {})).is_error
    assert (await gate.admin.get("/v1/mcp/servers")).json()["servers"][0]["state"] == "idle"


@pytest.mark.parametrize(
    ("kind", "ref"),
    [
        ("prompt", types.PromptReference(name="mail")),
        ("resource", types.ResourceTemplateReference(uri="mail://{box}")),
    ],
)
async def test_nothing_is_completed_for_what_is_denied(
    start: Start, kind: str, ref: types.PromptReference | types.ResourceTemplateReference
) -> None:
    gate = await start(toolbox() + f'[[rules]]\n{kind} = "mail*"\ndecision = "deny"\n')
    argument = {"name": "box", "value": "in"}
    async with gate.client() as client:
        assert (await client.complete(ref, argument)).completion.values == []
        assert (await gate.admin.get("/v1/mcp/servers")).json()["servers"][0]["state"] == "idle"
        other = types.PromptReference(name="news")
        assert (await client.complete(other, argument)).completion.values == ["in..."]


async def test_a_tool_the_server_does_not_have_is_refused(start: Start) -> None:
    gate = await start(toolbox() + ALLOW)
    async with gate.client() as client:
        result = await client.call_tool("teleport", {})
    assert "no such tool" in text_of(result)
    assert await gate.metric("daemonpulse_mcp_tool_calls_total", tool="unknown", outcome="unknown") == 1


async def test_progress_reaches_the_client(start: Start) -> None:
    gate = await start(toolbox() + ALLOW)
    heard: list[tuple[float, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert total == 3
        heard.append((progress, message))

    async with gate.client() as client:
        result = await client.call_tool("slow", {}, progress_callback=on_progress)
    assert text_of(result) == "slow is done"
    assert heard == [(1, "step 1"), (2, "step 2"), (3, "step 3")]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_cancelling_a_call_cancels_it_at_the_server(start: Start, tmp_path: Path, mode: str) -> None:
    gate = await start(toolbox() + ALLOW)
    marker = tmp_path / "marker"
    async with gate.client(mode=mode) as client:
        call = asyncio.create_task(client.call_tool("slow", {"seconds": 60, "marker": str(marker)}))
        await holds(marker, "began")
        call.cancel()
        await holds(marker, "cancelled")
        assert (await gate.outcomes(1))[0]["detail"]["outcome"] == "cancelled"
        assert text_of(await client.call_tool("echo", {"text": "still here"})) == "still here"


async def test_a_slow_call_times_out_and_the_server_is_told(start: Start, tmp_path: Path) -> None:
    gate = await start(toolbox(call_timeout_s=0.3) + ALLOW)
    marker = tmp_path / "marker"
    async with gate.client() as client:
        result = await client.call_tool("slow", {"seconds": 60, "marker": str(marker)})
        await holds(marker, "cancelled")
    assert result.is_error
    assert "no response within 0.3 s" in text_of(result)
    assert gate_of(result)["outcome"] == "timeout"


async def test_a_result_of_10_mb_is_cut_and_says_so(start: Start) -> None:
    gate = await start(toolbox() + ALLOW)
    async with gate.client() as client:
        result = await client.call_tool("big", {"bytes": 10_000_000})
        text = text_of(result)
        assert len(text) < 1_000_200
        assert text.endswith(
            "[Cut by the DaemonPulse gate: the result has more than 1000000 bytes, its output_cap_bytes.]"
        )
        assert not result.is_error
        structured = await client.call_tool("echo", {"text": "fine"})
        assert not structured.is_error
    assert await gate.metric("daemonpulse_mcp_results_capped_total", tool="big") == 1


async def test_a_structured_result_that_is_cut_is_an_error(start: Start) -> None:
    gate = await start(toolbox(output_cap_bytes=1000) + ALLOW)
    async with gate.client() as client:
        result = await client.call_tool("structured", {"bytes": 5000})
    assert result.is_error
    assert "Cut by the DaemonPulse gate" in text_of(result)


async def test_100_calls_at_once_all_come_back(start: Start) -> None:
    gate = await start(toolbox() + ALLOW)
    async with gate.client() as client:
        results = await asyncio.gather(*(client.call_tool("echo", {"text": str(n)}) for n in range(100)))
    assert [text_of(result) for result in results] == [str(n) for n in range(100)]
    assert await gate.metric("daemonpulse_mcp_tool_calls_total", tool="echo", outcome="done") == 100


async def test_too_many_calls_a_minute_are_refused(start: Start) -> None:
    gate = await start(toolbox(calls_per_minute=2) + ALLOW)
    async with gate.client() as client:
        results = [await client.call_tool("echo", {"text": "x"}) for _ in range(3)]
    assert [result.is_error for result in results] == [False, False, True]
    assert "calls_per_minute is 2" in text_of(results[2])
    assert gate_of(results[2])["outcome"] == "limited"


async def test_the_limits_of_a_server_count_each_token_by_itself(start: Start) -> None:
    gate = await start(toolbox(calls_per_minute=2, concurrent_calls=1) + ALLOW)
    other = await make_token(gate.parts.service.storage, "read", name="other")
    async with gate.client() as client, gate.client(token=other) as others:
        busy = asyncio.create_task(client.call_tool("slow", {"seconds": 30}))

        async def is_running() -> bool:
            return len(await gate.audit("intent")) == 1

        await eventually(is_running)
        beyond = await client.call_tool("echo", {"text": "x"})
        assert "concurrent_calls is 1" in text_of(beyond)
        assert gate_of(await client.call_tool("echo", {"text": "x"}))["outcome"] == "limited"
        assert not (await others.call_tool("echo", {"text": "x"})).is_error, "another token has its own share"
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)


async def test_refused_calls_do_not_fill_the_audit(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actions.mcp.call.REFUSALS_PER_MINUTE", 3)
    gate = await start(toolbox(calls_per_minute=1) + rule("deny", "die", name='"no"') + ALLOW)
    async with gate.client() as client:
        answers = [await client.call_tool("die", {}) for _ in range(5)]
        assert {gate_of(answer)["rule"] for answer in answers} == {"no"}
        assert not (await client.call_tool("echo", {"text": "refusals cost nothing of it"})).is_error
        limited = [gate_of(await client.call_tool("echo", {})) for _ in range(2)]
    assert {gate["outcome"] for gate in limited} == {"limited"}
    assert len(await gate.audit("denied")) == 3
    counted = {
        outcome: await gate.metric("daemonpulse_mcp_tool_calls_total", server="toolbox", outcome=outcome)
        for outcome in ("refused", "limited")
    }
    assert counted == {"refused": 5, "limited": 2}


async def test_trace_context_travels_in_meta_and_nothing_that_nobody_decided_about(start: Start) -> None:
    gate = await start(toolbox() + ALLOW)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with gate.client() as client:
        result = await client.call_tool(
            "meta", {}, meta=cast("Any", {"traceparent": parent, "path": "/etc/passwd"})
        )
    meta = json.loads(text_of(result))
    assert meta["traceparent"].split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
    assert "path" not in meta


async def test_arguments_nested_too_deep_are_refused(start: Start) -> None:
    gate = await start(toolbox() + ALLOW)
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"a": deep}
    async with gate.client() as client:
        result = await client.call_tool("echo", deep)
    assert "nested deeper" in text_of(result)


async def test_nothing_is_called_while_the_audit_cannot_be_written(start: Start, tmp_path: Path) -> None:
    gate = await start(toolbox() + ALLOW)
    marker = tmp_path / "marker"
    async with gate.client() as client:
        await client.call_tool("echo", {"text": "once"})
        storage = gate.parts.service.storage
        storage._writer.submit(storage._write_connection.execute, "PRAGMA query_only = ON").result()
        with pytest.raises(MCPError, match="the audit cannot be written"):
            await client.call_tool("slow", {"marker": str(marker)})
        storage._writer.submit(storage._write_connection.execute, "PRAGMA query_only = OFF").result()
        assert not marker.exists()
        assert text_of(await client.call_tool("echo", {"text": "again"})) == "again"


async def test_a_call_left_open_by_a_crash_is_said_to_be_interrupted(start: Start, tmp_path: Path) -> None:
    policy = toolbox() + ALLOW
    gate = await start(policy)
    marker = tmp_path / "marker"
    async with gate.client() as client:
        call = asyncio.create_task(client.call_tool("slow", {"seconds": 60, "marker": str(marker)}))
        await holds(marker, "began")
        (intent,) = await gate.audit("intent")
        call.cancel()
    await gate.outcomes(1)
    await stop(gate.task)
    # as if the process had died before
    tamper(gate.parts.service.storage, "DELETE FROM audit WHERE kind = 'outcome'")
    gate = await start(policy)
    (outcome,) = await gate.outcomes(1)
    assert (outcome["operation"], outcome["detail"]["outcome"]) == (intent["operation"], "interrupted")
    assert outcome["actor"] == "recovery"


async def test_what_belongs_to_the_clients_connection_stays_there(start: Start, tmp_path: Path) -> None:
    """A server of the older protocol refuses requests whose `_meta` names the client's newer one (Go's SDK does)."""
    log = tmp_path / "log"
    gate = await start(rawbox(log=log) + ALLOW)
    async with gate.client("rawbox") as client:
        await client.list_prompts()
        await client.list_resources()
        await client.get_prompt("mail")
        await client.read_resource("file:///srv/a")
        await client.call_tool("good", {})
    for method in ("prompts/list", "resources/list", "prompts/get", "resources/read", "tools/call"):
        for request in asked(log, method):
            meta = (request.get("params") or {}).get("_meta") or {}
            assert not [key for key in meta if key.startswith("io.modelcontextprotocol/")], method


async def test_a_call_that_is_cancelled_while_its_intent_is_written_is_not_sent_and_has_its_outcome(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    gate = await start(rawbox(log=log) + rule("allow"))
    storage, on_its_way, disk = gate.parts.service.storage, asyncio.Event(), asyncio.Event()
    submit = storage.submit
    writes = []

    async def when_the_disk_answers(work: Any, then: Any, options: Any) -> None:
        await disk.wait()
        submit(work, then, **options)

    def slow(work: Any, then: Any, **options: Any) -> None:
        writes.append(asyncio.ensure_future(when_the_disk_answers(work, then, options)))
        if options.get("audit_only"):
            on_its_way.set()

    async def is_cancelled() -> bool:
        return await gate.metric("daemonpulse_mcp_tool_calls_total", outcome="cancelled") == 1

    async with gate.client("rawbox") as client:
        await client.call_tool("good", {})
        await gate.outcomes(1)
        monkeypatch.setattr(storage, "submit", slow)
        calling = asyncio.create_task(client.call_tool("good", {}))
        await asyncio.wait_for(on_its_way.wait(), 20)
        calling.cancel()
        await eventually(is_cancelled)
        disk.set()
        *_, last = await gate.outcomes(2)
    assert last["detail"]["outcome"] == "cancelled"
    assert len(await gate.audit("intent")) == 2
    assert len(asked(log, "tools/call")) == 1


async def test_a_tool_that_changes_while_the_intent_is_written_is_not_called(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    gate = await start(rawbox(log=log) + rule("allow"))
    storage = gate.parts.service.storage
    submit = storage.submit

    def changes_first(work: Any, then: Any, **options: Any) -> None:
        endpoint = gate.parts.mcp.pool.endpoint("rawbox")
        assert endpoint is not None
        assert endpoint.proxy.upstream.listing is not None
        endpoint.proxy.upstream.listing.fingerprints["good"] = "another"
        submit(work, then, **options)

    async with gate.client("rawbox") as client:
        await client.call_tool("good", {})
        await gate.outcomes(1)
        monkeypatch.setattr(storage, "submit", changes_first)
        result = await client.call_tool("good", {})
        assert (result.is_error, "the tool changed before the call was sent" in text_of(result)) == (
            True,
            True,
        )
        *_, last = await gate.outcomes(2)
    assert last["detail"]["outcome"] == "refused"
    assert len(asked(log, "tools/call")) == 1
