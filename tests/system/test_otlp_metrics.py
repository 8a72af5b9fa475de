"""Metrics by OTLP, judged by the OTLP receiver of a Prometheus 3: what it stores is what a scrape shows."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemonpulse.demo.programs import Program as Started
from daemonpulse.demo.programs import free_port, running
from exporter.catalogue import CATALOGUE, Kind
from llmster_sim.server import SimConfig, Simulator
from tests.external import FindTool
from tests.system.conftest import RunningExporter, StartExporter, daemon

COUNTED = [
    row.name if row.kind is Kind.COUNTER else f"{row.name}_count"
    for row in CATALOGUE
    if row.kind is not Kind.GAUGE and row.name.startswith("llmster_")
]
"""What must be equal to the last digit: counters, and the counts of histograms."""
Stored = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def stored(http: httpx.AsyncClient, url: str, name: str) -> list[dict[str, Any]]:
    answer = (await http.get(f"{url}/api/v1/query", params={"query": name})).json()
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


async def pushed(
    http: httpx.AsyncClient, url: str, *, added: frozenset[str] = frozenset({"job", "instance"})
) -> Stored:
    """Read what Prometheus stored, without the labels that were `added` on the way."""
    found: Stored = {}
    for name in COUNTED:
        for series in await stored(http, url, name):
            labels = {
                label: value
                for label, value in series["metric"].items()
                if label not in {"__name__", *added} and not label.startswith("otel_scope_")
            }
            found[name, frozenset(labels.items())] = float(series["value"][1])
    return found


async def scraped(exporter: RunningExporter) -> Stored:
    return {
        (name, frozenset((label, value) for label, value in labels.items() if value)): value
        for name, labels, value in (await exporter.scrape()).samples
        if name in COUNTED
    }


@pytest.mark.external("prometheus-3")
async def test_a_prometheus_that_is_pushed_to_stores_what_a_scrape_shows(
    tmp_path: Path,
    start_exporter: StartExporter,
    external_tool: FindTool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "prometheus.yml").write_text("global: {}\n")
    prometheus = str(external_tool("prometheus-3"))
    port = free_port()
    program = Started(
        name="prometheus",
        binary=prometheus,
        arguments=lambda _: [
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-otlp-receiver",
        ],
        ready_path="/-/ready",
    )
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"http://127.0.0.1:{port}/api/v1/otlp/v1/metrics"
    )
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
    monkeypatch.setattr("daemonpulse.demo.programs.free_port", lambda: port)
    async with (
        running(program, log_file=tmp_path / "log") as url,
        httpx.AsyncClient(trust_env=False) as http,
        Simulator(SimConfig(scenario="steady", manual_clock=True)) as sim,
    ):
        assert url is not None
        exporter = await start_exporter(daemon("box", sim.url))
        await exporter.until(lambda seen: seen.value("llmster_log_stream_up") == 1)
        sim.clock.advance(120)
        expected: Stored = {}
        async with asyncio.timeout(60):
            while True:  # the log stream is read, then pushed by another clock
                before, found, expected = expected, await pushed(http, url), await scraped(exporter)
                if expected == before == found:
                    break
                await asyncio.sleep(0.2)
        assert (
            sum(value for (name, _), value in found.items() if name == "llmster_generation_tokens_total") > 0
        )
        up = await stored(http, url, "llmster_up")
        assert [(one["metric"]["daemon"], one["value"][1]) for one in up] == [("box", "1")]
        assert await stored(http, url, "gen_ai_server_request_duration_seconds_count")
