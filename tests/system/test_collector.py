"""An OpenTelemetry Collector of official parts takes what the exporter pushes, and passes on what a scrape shows."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from daemonpulse.demo.programs import Program, free_port, running
from exporter.catalogue import log_stream as m
from llmster_sim.server import SimConfig, Simulator
from tests.external import FindTool
from tests.otlp_sink import Received, attributes, otlp_sink
from tests.system.conftest import Scraper, StartExporter, daemon
from tests.system.test_otlp_metrics import COUNTED, Stored, scraped
from tests.system.test_pulse import all_seen, play, spans_settled, stream_open, total

pytestmark = pytest.mark.external("otelcol")

TRANSPORTS = {"http/protobuf": "http", "grpc": "grpc"}


def collector(binary: Path, folder: Path, ports: dict[str, int], receiver: str) -> Program:
    """Take every signal over both transports, and pass it on over HTTP; its own metrics tell what it thinks of it."""
    protocols = {name: {"endpoint": f"127.0.0.1:{port}"} for name, port in ports.items()}
    pipeline = {
        "receivers": ["otlp"],
        "processors": ["memory_limiter", "batch"],
        "exporters": ["otlp_http", "debug"],
    }

    def arguments(port: int) -> list[str]:
        own = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": port}}}}
        configuration: dict[str, Any] = {
            "receivers": {"otlp": {"protocols": protocols}},
            "processors": {
                "memory_limiter": {"check_interval": "1s", "limit_mib": 256},
                "batch": {"timeout": "100ms"},
            },
            "exporters": {"otlp_http": {"endpoint": receiver}, "debug": {"verbosity": "basic"}},
            "service": {
                "telemetry": {"metrics": {"readers": [own]}},
                "pipelines": dict.fromkeys(("metrics", "traces", "logs"), pipeline),
            },
        }
        (folder / "otelcol.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
        return [f"--config={folder / 'otelcol.yaml'}"]

    return Program(name="otelcol", binary=str(binary), arguments=arguments, ready_path="/metrics")


def passed_on(received: Received) -> Stored:
    """Name the counters and histograms that came through as a scrape names them; of each, the newest value."""
    found: Stored = {}
    for metric in received.metrics:
        for point in (*metric.sum.data_points, *metric.histogram.data_points):
            name, value = f"{metric.name}_total", getattr(point, "as_double", None)
            if value is None:
                name, value = f"{metric.name}_count", point.count
            labels = {key: str(one) for key, one in attributes(point.attributes).items() if one}
            found[name, frozenset(labels.items())] = value
    return {key: value for key, value in found.items() if key[0] in COUNTED}


def tokens(spans: list[Span], kind: str) -> int:
    """Add up the tokens that root spans name."""
    return sum(int(str(attributes(span.attributes).get(f"gen_ai.usage.{kind}_tokens", 0))) for span in spans)


@pytest.mark.parametrize("protocol", TRANSPORTS)
async def test_a_collector_takes_every_signal_whole(
    tmp_path: Path,
    start_exporter: StartExporter,
    external_tool: FindTool,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
) -> None:
    transport = TRANSPORTS[protocol]
    ports = {"http": free_port(), "grpc": free_port()}
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{ports[transport]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
    with otlp_sink() as received:
        program = collector(external_tool("otelcol"), tmp_path, ports, received.url)
        async with (
            running(program, log_file=tmp_path / "log") as url,
            Simulator(SimConfig(scenario="agent", manual_clock=True, seed=3)) as sim,
        ):
            assert url is not None
            exporter = await start_exporter(daemon("box", sim.url))
            await stream_open(exporter)
            await play(sim, 400)
            await all_seen(exporter, sim)
            await exporter.until(lambda seen: spans_settled(seen, received), within_s=60)
            expected: Stored = {}
            async with asyncio.timeout(60):
                while True:  # the log stream is read, then pushed, then passed on, each by its own clock
                    before, found, expected = expected, passed_on(received), await scraped(exporter)
                    if expected == before == found:
                        break
                    await asyncio.sleep(0.2)
            own = await Scraper(url, exporter.http).scrape()
            seen = await exporter.scrape()
            totals = sim.daemon.totals
    assert sum(expected.values()) > 0

    roots = [span for span in received.spans if not span.parent_span_id]
    assert len(roots) == totals.logged_predictions
    assert tokens(roots, "input") == totals.logged_prompt_tokens
    assert tokens(roots, "output") == totals.logged_generated_tokens
    by_id = {span.span_id: span for span in received.spans}
    for span in received.spans:
        parent = by_id[span.parent_span_id] if span.parent_span_id else span
        assert span.trace_id == parent.trace_id
        assert parent.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
    predictions = [
        one for one in received.records if attributes(one.attributes).get("llmster.log") == "prediction"
    ]
    assert {one.span_id for one in predictions} == {span.span_id for span in roots}

    for signal, sent in (
        ("spans", seen.value("daemonpulse_otlp_spans_exported_total")),
        ("log_records", seen.value("daemonpulse_otlp_logs_exported_total")),
    ):
        assert total(own, f"otelcol_receiver_accepted_{signal}_total", transport=transport) == sent
    assert total(own, "otelcol_receiver_accepted_metric_points_total", transport=transport) > 0
    for signal in ("spans", "log_records", "metric_points"):
        for why in ("refused", "failed"):
            assert total(own, f"otelcol_receiver_{why}_{signal}_total") == 0
    assert total(seen, m.REQUESTS.name) == totals.logged_predictions
