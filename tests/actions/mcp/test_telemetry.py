"""Spans of tool calls, and the daemon's own plugins as its log tells of them."""

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llmster_sim.server import SimConfig, Simulator
from tests.actions.conftest import daemon
from tests.actions.mcp.conftest import Start, eventually, rule, stop, toolbox

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def test_a_call_is_a_span_below_its_callers_without_arguments(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr("exporter.telemetry.otlp.span_exporter", lambda _rejections, _environ: exporter)
    gate = await start(toolbox() + rule("deny", "die", name='"no"') + rule("allow"))
    meta = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
    async with gate.client() as client:
        result = await client.call_tool("meta", {"secret": "my diary"}, meta=meta)  # type: ignore[arg-type]
        await client.call_tool("die", {})
    await stop(gate.task)
    done, refused = exporter.get_finished_spans()
    assert done.name == "execute_tool meta"
    assert done.context is not None
    assert done.parent is not None
    assert format(done.context.trace_id, "032x") == TRACE_ID
    attributes = dict(done.attributes or {})
    assert attributes["gen_ai.tool.name"] == "meta"
    assert attributes["daemonpulse.mcp.server"] == "toolbox"
    assert attributes["daemonpulse.mcp.decision"] == "allow"
    assert attributes["daemonpulse.mcp.outcome"] == "done"
    assert "diary" not in done.to_json()
    assert dict(refused.attributes or {})["error.type"] == "refused"
    # What the tool server got is a child of our span.
    assert format(done.context.span_id, "016x") in str(result.content)


async def test_the_daemons_own_plugins_are_told_well_from_ill_by_its_log(start: Start) -> None:
    async with Simulator(SimConfig(scenario="idle")) as simulator:
        gate = await start(toolbox() + rule("allow"), daemons=(daemon(simulator.url),))

        async def counted() -> bool:
            simulator.daemon.server_line(
                level="error",
                scope="Plugin(mcp/toolbox)",
                text="stderr: env: node: No such file or directory",
            )
            simulator.daemon.server_line(
                level="error", scope="Plugin(mcp/toolbox)", text="stderr: Server running on stdio"
            )
            kinds = ("error", "notice")
            name = "daemonpulse_mcp_plugin_messages_total"
            return all([await gate.metric(name, server="toolbox", kind=kind) for kind in kinds])

        await eventually(counted)
        (server,) = (await gate.admin.get("/v1/mcp/servers")).json()["servers"]
        assert server["plugin_error"] == "stderr: env: node: No such file or directory"
