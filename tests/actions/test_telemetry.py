"""What leaves over OTLP: an exact trace of every action, and every audit row with its hash."""

import asyncio

import pytest

from llmster_sim.server import Simulator
from tests.actions.conftest import BIG, StartForge, stop
from tests.otlp_sink import attributes, otlp_sink


async def test_operations_leave_as_spans_and_audit_rows_as_records(
    start_forge: StartForge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_sink() as received:
        for name, value in received.environment().items():
            monkeypatch.setenv(name, value)
        forge = await start_forge(sim)
        loaded = (await forge.load(headers={"X-Grafana-User": "alice"})).json()
        probed = (await forge.post("probe", model="qwen/qwen3-8b")).json()
        denied = await forge.load(BIG)
        rows = await forge.audit()
        await stop(forge.task)
    assert denied.status_code == 409
    roots = {span.name: span for span in received.spans if not span.parent_span_id}
    assert roots.keys() == {"action load", "action probe"}
    told = attributes(roots["action load"].attributes)
    assert told["daemonpulse.operation"] == loaded["id"]
    assert (told["daemonpulse.outcome"], told["enduser.id"]) == ("done", "alice")
    probe = roots["action probe"]
    children = {span.name: span for span in received.spans if span.parent_span_id == probe.span_id}
    assert {"prefill", "reasoning", "answer"} <= children.keys()
    for child in children.values():
        assert child.trace_id == probe.trace_id
        assert child.start_time_unix_nano <= child.end_time_unix_nano
    first_token_ns = children["prefill"].end_time_unix_nano
    assert first_token_ns <= children["answer"].end_time_unix_nano
    assert probed["result"]["time_to_first_token_seconds"] > 0
    records = [attributes(record.attributes) for record in received.records]
    assert [record["daemonpulse.audit.hash"] for record in records] == [row["hash"] for row in rows]
    kinds = [record["daemonpulse.audit.kind"] for record in records]
    assert kinds == ["intent", "outcome", "intent", "outcome", "denied"]
    ids = {record.trace_id for record in received.records if record.trace_id}
    assert ids == {span.trace_id for span in roots.values()}


async def test_a_dead_receiver_costs_no_action(
    start_forge: StartForge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    forge = await start_forge(sim)
    assert (await forge.load()).status_code == 200


async def test_deliveries_and_losses_are_counted_as_the_exporter_does(
    start_forge: StartForge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_sink() as received:
        for name, value in received.environment().items():
            monkeypatch.setenv(name, value)
        received.status = 301
        forge = await start_forge(sim)
        assert (await forge.load()).status_code == 200
        assert forge.parts.telemetry is not None
        for queue in (forge.parts.telemetry.spans, forge.parts.telemetry.logs):
            assert queue is not None
            await asyncio.to_thread(queue.wait_until_empty, within_s=20)
        counted = {
            (signal, word): await forge.metric(f"daemonpulse_otlp_{signal}_{word}_total")
            for signal in ("spans", "logs")
            for word in ("exported", "failed", "dropped")
        }
        rows = len(await forge.audit())
    assert counted["spans", "failed"] == 1
    assert counted["logs", "failed"] == rows
    assert {counted[signal, word] for signal in ("spans", "logs") for word in ("exported", "dropped")} == {0}


async def test_metrics_are_pushed_as_a_scrape_shows_them_and_what_came_of_it_is_counted(
    start_forge: StartForge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_sink() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{received.url}/v1/metrics")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
        forge = await start_forge(sim)
        assert (await forge.load()).status_code == 200

        def loads() -> float:
            return max(
                (
                    point.as_double
                    for metric in list(received.metrics)
                    if metric.name == "daemonpulse_actions"
                    for point in metric.sum.data_points
                    if attributes(point.attributes) == {"action": "load", "outcome": "done"}
                ),
                default=0.0,
            )

        async with asyncio.timeout(20):
            while loads() < 1:  # noqa: ASYNC110 - the push has its own clock
                await asyncio.sleep(0.05)
        assert await forge.metric("daemonpulse_actions_total", action="load", outcome="done") == 1
        assert (await forge.metric("daemonpulse_otlp_metric_points_exported_total") or 0) > 0
        assert received.resources[0]["service.name"] == "daemonpulse-actions"
        assert {metric.name for metric in received.metrics} >= {"daemonpulse_audit_writable"}
