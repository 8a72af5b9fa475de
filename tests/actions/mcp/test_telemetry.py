"""Spans of tool calls."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from mcp.shared.exceptions import MCPError
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import mcp_attributes
from opentelemetry.trace import SpanKind

from tests.actions.mcp.conftest import Start, rawbox, rule, stop, toolbox
from tests.actions.mcp.upstream.test_spec import served_toolbox

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def receiving(monkeypatch: pytest.MonkeyPatch, exporter: SpanExporter) -> None:
    """Stand in for a receiver of spans."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/v1/traces")
    monkeypatch.setattr("exporter.telemetry.otlp.span_exporter", lambda _rejections, _environ: exporter)


async def test_a_call_is_a_span_below_its_callers_without_arguments(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    receiving(monkeypatch, exporter)
    gate = await start(toolbox() + rule("deny", "die", name='"no"') + rule("allow"))
    meta = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
    async with gate.client() as client:
        result = await client.call_tool("meta", {"secret": "my diary"}, meta=meta)  # type: ignore[arg-type]
        await client.call_tool("die", {})
    await stop(gate.task)
    upstream, done, refused = exporter.get_finished_spans()
    assert (done.name, done.kind) == (upstream.name, done.kind) == ("tools/call meta", SpanKind.SERVER)
    assert upstream.kind is SpanKind.CLIENT
    assert done.context is not None
    assert done.parent is not None
    assert upstream.parent is not None
    assert upstream.context is not None
    assert format(done.context.trace_id, "032x") == TRACE_ID
    assert format(done.parent.span_id, "016x") == PARENT_ID
    assert upstream.parent.span_id == done.context.span_id
    attributes = dict(done.attributes or {})
    for name, value in {
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "meta",
        "mcp.protocol.version": "2026-07-28",
        "daemonpulse.mcp.server": "toolbox",
        "daemonpulse.mcp.decision": "allow",
        "daemonpulse.mcp.outcome": "done",
    }.items():
        assert attributes[name] == value
    assert attributes["jsonrpc.request.id"]
    assert "error.type" not in attributes
    sent = dict(upstream.attributes or {})
    assert (sent["mcp.method.name"], sent["mcp.protocol.version"]) == ("tools/call", "2026-07-28")
    assert sent["jsonrpc.request.id"]
    assert "diary" not in done.to_json() + upstream.to_json()
    assert dict(refused.attributes or {})["error.type"] == "refused"
    # What the tool server got is a child of the span upstream.
    assert format(upstream.context.span_id, "016x") in str(result.content)


async def test_a_tools_error_is_one_in_both_spans_and_an_older_clients_session_is_named(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    receiving(monkeypatch, exporter)
    gate = await start(toolbox() + rule("allow"))
    async with gate.client(mode="legacy") as client:
        assert (await client.call_tool("fails", {})).is_error
    name = "mcp_server_operation_duration_seconds_count"
    labels = {"server": "toolbox", "mcp_method_name": "tools/call", "error_type": "tool_error"}
    assert await gate.metric(name, **labels) == 1
    assert await gate.metric(name, mcp_method_name="initialize", error_type="") == 1
    await stop(gate.task)
    for span in exporter.get_finished_spans():
        attributes = dict(span.attributes or {})
        assert attributes["error.type"] == "tool_error"
        assert not span.status.is_ok
        assert ("mcp.session.id" in attributes) == (span.kind is SpanKind.SERVER)


async def test_an_error_of_the_server_has_its_code_and_the_upstream_span_its_transport(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    receiving(monkeypatch, exporter)
    async with served_toolbox() as url:
        gate = await start(rawbox() + f'[servers.web]\nurl = "{url}"\n' + rule("allow"))
        async with gate.client("rawbox") as client:
            with pytest.raises(MCPError):
                await client.call_tool("own-error", {"code": -32042})
        async with gate.client("web") as client:
            await client.call_tool("echo", {"text": "1"})
        await stop(gate.task)
    upstream, received, web, _ = (dict(span.attributes or {}) for span in exporter.get_finished_spans())
    for attributes in (upstream, received):
        assert attributes["error.type"] == attributes["rpc.response.status_code"] == "-32042"
    assert (upstream["network.transport"], received["network.transport"]) == ("pipe", "tcp")
    port = int(url.split(":")[2].split("/")[0])
    assert (web["network.transport"], web["server.address"], web["server.port"]) == ("tcp", "127.0.0.1", port)
    names = {name for name, value in vars(mcp_attributes).items() if isinstance(value, str)}
    known = {getattr(mcp_attributes, name) for name in names}
    assert {name for name in received if name.startswith("mcp.")} <= known


async def test_a_receiver_that_never_answers_holds_up_neither_a_call_nor_the_end(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = threading.Event(), threading.Event()

    class Silent(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            asked.set()
            answer.wait()
            return super().export(spans)

    receiving(monkeypatch, Silent())
    gate = await start(toolbox() + rule("allow"))
    async with gate.client() as client:
        await client.call_tool("echo", {"text": "one"})
        assert await asyncio.to_thread(asked.wait, 30)
        assert not (await client.call_tool("echo", {"text": "two"})).is_error
    try:
        async with asyncio.timeout(20):  # where the SDK's own queue waits for 30 s
            await stop(gate.task)
    finally:
        answer.set()
