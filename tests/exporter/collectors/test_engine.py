"""Engines as metrics: size, prompt cache, truncations and failures of those that said so, nothing of others."""

from exporter.catalogue import log_stream as m
from exporter.collectors import engine, slots
from exporter.collectors.base import Scrape
from exporter.collectors.prediction_metrics import PredictionMetrics, Stream
from exporter.pipeline.log_stream import EventFlow
from exporter.pipeline.predictions import PredictionBuilder
from tests.exporter.collectors.values import by, collected
from tests.exporter.pipeline.engine_lines import DECODE, LAUNCH, NOW, PROMPT, runtime, server
from tests.exporter.pipeline.engine_replay import recording
from tests.exporter.readings import NOW_S, instance, snapshot


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def scrape(flow: EventFlow) -> Scrape:
    flow.counts.up = True
    stream = Stream("local", flow, PredictionMetrics("local"), lambda identifier: f"key of {identifier}")
    return Scrape(now_s=NOW_S, daemons=(), streams=(stream,))


def flow_of(*lines: str, clock: Clock | None = None) -> EventFlow:
    flow = EventFlow(PredictionBuilder("local"), [], clock=clock or Clock())
    for line in lines:
        flow.take(runtime(line))
    return flow


def test_an_engine_is_told_as_it_reports_itself() -> None:
    flow = flow_of(*(line for _, line in recording("kv_exhausted").lines[:-1]))
    samples = collected(engine.collect, scrape(flow))
    name = "llmster_engine_request_failures_total"
    assert by(samples, name, "reason") == {"kv_exhausted": 4, "too_large": 0, "other": 0}
    assert by(samples, "llmster_engine_slots", "instance_id") == {"m": 4}
    assert by(samples, "llmster_engine_slot_context_length_tokens", "model") == {"key of m": 2048}
    assert by(samples, "llmster_prompt_cache_hit_ratio", "instance_id") == {}


def test_the_prompt_cache_is_told_with_its_ratio() -> None:
    flow = flow_of()
    flow.take(
        runtime("Prompt cache restore: cached_tokens=300 uncached_tokens=100 lifetime_efficiency=62.41%")
    )
    flow.take(
        server("Prompt cache restore: cached_tokens=300 uncached_tokens=100", bracket="[n]", level="info")
    )
    samples = collected(engine.collect, scrape(flow))
    assert by(samples, "llmster_prompt_cache_hit_tokens_total", "instance_id") == {"m": 300, "n": 300}
    assert by(samples, "llmster_prompt_cache_miss_tokens_total", "instance_id") == {"m": 100, "n": 100}
    assert by(samples, "llmster_prompt_cache_hit_ratio", "instance_id") == {"m": 0.75, "n": 0.75}
    assert by(samples, "llmster_context_shifts_total", "instance_id") == {}, "it is not known to log them"
    assert by(collected(slots.collect, scrape(flow)), "llmster_slots", "instance_id") == {}


def test_a_rate_goes_when_it_is_older_than_what_it_speaks_of() -> None:
    clock = Clock()
    flow = flow_of(LAUNCH, PROMPT, clock=clock)
    assert by(collected(slots.collect, scrape(flow)), "llmster_slot_prefill_tokens_per_second", "slot") == {
        "0": 898.87
    }
    flow.take(runtime(DECODE, NOW + 1))
    assert by(collected(slots.collect, scrape(flow)), "llmster_slot_tokens_per_second", "slot") == {
        "0": 30.85
    }
    clock.now_s = 3.1
    samples = collected(slots.collect, scrape(flow))
    assert by(samples, "llmster_slot_tokens_per_second", "slot") == {}
    assert by(samples, "llmster_slot_busy", "slot") == {"0": 1}


def test_queue_times_reach_the_histogram() -> None:
    flow = flow_of()
    waited: list[tuple[str, float]] = []
    flow.on_queue_time = lambda instance, waited_s: waited.append((instance, waited_s))
    for line in (
        "0.01.000.000 W srv  process_sing: no slot is available, defer task, id_task = 7",
        "0.03.500.000 I slot launch_slot_: id  0 | task 7 | processing task",
    ):
        flow.take(runtime(line))
        flow.take(server(line, bracket="[m]"))
    assert waited == [("m", 2.5)]
    metrics = PredictionMetrics("local")
    metrics.take_queue_time("m", 2.5)
    [family] = [
        family for row, family in metrics.collect() if row.name == "llmster_request_queue_time_seconds"
    ]
    assert {sample.value for sample in family.samples if sample.name.endswith("_sum")} == {2.5}


def test_the_counters_of_a_loaded_model_start_at_zero_for_every_reason() -> None:
    metrics = PredictionMetrics("local")
    metrics.expect(snapshot(instance()))
    [family] = [family for row, family in metrics.collect() if row is m.REQUESTS]
    totals = {
        (sample.labels["model"], sample.labels["finished_reason"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert {reason for _, reason in totals} == {"stop", "length", "tool_calls", "abort", "error", "unknown"}
    assert set(totals.values()) == {0}
