"""The log stream as metrics: what it was and what came through, from 0 on where an alert waits for the first one."""

from exporter.collectors import log_stream
from exporter.collectors.base import Scrape
from exporter.collectors.prediction_metrics import PredictionMetrics, Stream
from exporter.pipeline.log_stream import EventFlow
from exporter.pipeline.predictions import PredictionBuilder
from tests.exporter.collectors.values import by, collected
from tests.exporter.pipeline.engine_lines import NOW, runtime, server
from tests.exporter.readings import NOW_S

CRASHES = "llmster_engine_crashes_total"
RAN = "The model has crashed without additional information. (Exit code: 139)"
STARTED = "Engine protocol runtime llama-server for x exited before becoming healthy. exitCode=1"


def crashes(flow: EventFlow) -> dict[str, float]:
    stream = Stream("local", flow, PredictionMetrics("local"), lambda identifier: identifier)
    samples = collected(log_stream.collect, Scrape(now_s=NOW_S, daemons=(), streams=(stream,)))
    return by(samples, CRASHES, "when")


def test_engines_that_die_are_counted_from_zero_by_what_they_did() -> None:
    flow = EventFlow(PredictionBuilder("local"), [])
    assert crashes(flow) == {"running": 0, "starting": 0}
    for line in (RAN, STARTED, RAN):
        flow.take(runtime(line))
    assert crashes(flow) == {"running": 2, "starting": 1}


def test_a_line_that_only_speaks_of_a_crash_counts_nothing() -> None:
    flow = EventFlow(PredictionBuilder("local"), [])
    flow.take(runtime(f"user said: {RAN}"))
    assert crashes(flow) == {"running": 0, "starting": 0}


def test_a_death_that_both_logs_tell_of_counts_once_and_a_second_one_again() -> None:
    flow = EventFlow(PredictionBuilder("local"), [])
    for _ in range(2):
        flow.take(runtime(RAN))
        flow.take(server(RAN, NOW + 1, "error", "[m]"))
    assert crashes(flow)["running"] == 2
    flow.take(server(RAN, NOW + 2, "error"))
    flow.take(runtime(RAN, NOW + 3))
    assert crashes(flow)["running"] == 3, "a line that names no instance may be any instance's"
    flow.take(runtime(RAN, NOW + 4))
    flow.take(server(RAN, NOW + 60_000, "error", "[m]"))
    assert crashes(flow)["running"] == 5, "so much later it is another one"
    flow.take(server(RAN, NOW + 60_001, "error", "[m]"))
    flow.take(runtime(RAN, NOW + 60_002, model="other"))
    assert crashes(flow)["running"] == 7, "another instance, and another time in the same log"
