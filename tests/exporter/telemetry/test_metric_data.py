import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.resources import Resource
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

from exporter.catalogue import CATALOGUE, Kind, daemon, hardware, log_stream, mcp
from exporter.collectors.accumulators import Accumulators
from exporter.collectors.base import Samples
from exporter.telemetry.metric_data import CONVENTIONS, GEN_AI_SCHEMA, Convention, metrics_data, points_of

START, NOW = 1_000, 2_000


def converted(samples: Samples) -> dict[str, Any]:
    data = metrics_data(
        samples.collect(), resource=Resource({"host.name": "h"}), version="1", start_ns=START, now_ns=NOW
    )
    ((resource,),) = (data.resource_metrics,)
    ((scope,),) = (resource.scope_metrics,)
    encode_metrics(data)  # OpenTelemetry's own encoder takes it
    return {metric.name: metric for metric in scope.metrics}


def histogram_of(values: list[float], *, daemons: tuple[str, ...] = ("x",)) -> Samples:
    row = log_stream.TTFT
    kept = Accumulators()
    for value in values:
        for daemon_name in daemons:
            kept.distribution(row, daemon_name, "x").observe(value)
    samples = Samples()
    for metric, family in kept.collect():
        samples.adopt(metric, family)
    return samples


def test_a_gauge_keeps_its_name_labels_and_unit() -> None:
    samples = Samples()
    samples.add(hardware.POWER, 310.5, gpu="0")
    metric = converted(samples)["gpu_power_watts"]
    (point,) = metric.data.data_points
    assert (metric.unit, point.value, dict(point.attributes)) == ("W", 310.5, {"gpu": "0"})
    assert point.time_unix_nano == NOW


def test_a_counter_is_a_monotonic_cumulative_sum_without_total_from_the_start_of_the_process() -> None:
    samples = Samples()
    samples.add(daemon.RESTARTS, 3, daemon="d")
    metric = converted(samples)["llmster_restarts"]
    (point,) = metric.data.data_points
    assert (metric.data.is_monotonic, metric.data.aggregation_temporality.name) == (True, "CUMULATIVE")
    assert (point.value, point.start_time_unix_nano) == (3, START)


@given(st.lists(st.floats(min_value=0, max_value=10_000), min_size=1, max_size=30))
def test_a_histogram_has_the_counts_of_its_buckets_apart_and_its_sum(values: list[float]) -> None:
    metric = converted(histogram_of(values))[log_stream.TTFT.name]
    (point,) = metric.data.data_points
    bounds = [*point.explicit_bounds, float("inf")]
    below = [float("-inf"), *point.explicit_bounds]
    expected = [sum(low < value <= high for value in values) for low, high in zip(below, bounds, strict=True)]
    assert list(point.bucket_counts) == expected
    assert point.count == len(values)
    assert point.sum == pytest.approx(sum(values))


def test_the_conventions_have_their_names_beside_ours() -> None:
    metrics = converted(histogram_of([0.5]))
    (point,) = metrics["gen_ai.server.time_to_first_token"].data.data_points
    assert point.attributes["gen_ai.operation.name"] == "chat"
    assert point.attributes["gen_ai.request.model"] == "x"
    assert point.count == 1


def test_two_daemons_with_one_model_are_two_series_of_a_convention() -> None:
    metrics = converted(histogram_of([0.5], daemons=("a", "b")))
    points = metrics["gen_ai.server.time_to_first_token"].data.data_points
    assert [point.attributes["llmster.daemon"] for point in points] == ["a", "b"]
    assert [point.attributes["gen_ai.provider.name"] for point in points] == ["lmstudio"] * 2


@pytest.mark.parametrize("one", CONVENTIONS, ids=lambda one: f"{one.name} of {one.row.name}")
def test_no_two_series_of_a_row_become_one_under_the_conventions_name(one: Convention) -> None:
    series = [{**dict.fromkeys(one.row.labels, "same"), label: "other"} for label in one.row.labels]
    samples = [Sample(one.row.name, labels, 1.0) for labels in series]
    family = Family(one.row.name.removesuffix("_total"), "", one.row.kind.value)
    if one.row.kind is Kind.HISTOGRAM:
        samples = [Sample(f"{one.row.name}_bucket", {**labels, "le": "+Inf"}, 1.0) for labels in series]
    family.samples = samples
    data = metrics_data([family], resource=Resource({}), version="1", start_ns=START, now_ns=NOW)
    (metric,) = [
        metric for metric in data.resource_metrics[0].scope_metrics[0].metrics if metric.name == one.name
    ]
    told = {frozenset((point.attributes or {}).items()) for point in metric.data.data_points}
    assert len(told) == len(series)


def test_rows_that_share_a_convention_are_one_metric() -> None:
    samples = Samples()
    samples.add(hardware.UTILIZATION, 0.5, gpu="0")
    samples.add(hardware.ENCODER, 0.1, gpu="0")
    points = converted(samples)["hw.gpu.utilization"].data.data_points
    assert {(point.attributes["hw.gpu.task"], point.value) for point in points} == {
        ("general", 0.5),
        ("encoder", 0.1),
    }


def test_what_was_not_collected_has_no_point() -> None:
    data = metrics_data((), resource=Resource({}), version="1", start_ns=START, now_ns=NOW)
    assert points_of(data) == 0


def test_every_convention_is_of_a_catalogued_row() -> None:
    assert all(one.row in {*CATALOGUE, *mcp.ROWS} for one in CONVENTIONS)
    assert all(set(one.attributes) <= set(one.row.labels) for one in CONVENTIONS)


def test_a_scrape_is_written_whole() -> None:
    families = [
        Family("gpu_temperature_celsius", "Heat.", "gauge"),
        Family("llmster_restarts", "Restarts.", "counter"),
        Family("of_another_exporter", "Odd.", "unknown"),
        Family(log_stream.TTFT.name, "TTFT.", "histogram"),
    ]
    families[0].add_sample("gpu_temperature_celsius", {"gpu": "0", "sensor": ""}, 71.0)
    families[1].add_sample("llmster_restarts_total", {"daemon": "d"}, 3.0)
    families[2].add_sample("of_another_exporter", {}, 1.0)
    for le, count in (("0.5", 1.0), ("+Inf", 3.0), ("1.0", 1.0)):
        families[3].add_sample(
            f"{log_stream.TTFT.name}_bucket", {"daemon": "d", "model": "", "le": le}, count
        )
    resource = Resource({"host.name": "h"}, schema_url="https://h")
    data = metrics_data(families, resource=resource, version="1.2", start_ns=START, now_ns=NOW)
    (of_resource,) = data.resource_metrics
    (of_scope,) = of_resource.scope_metrics
    assert (of_resource.resource, of_resource.schema_url) == (resource, "https://h")
    assert of_scope.schema_url == of_scope.scope.schema_url == GEN_AI_SCHEMA
    assert (of_scope.scope.name, of_scope.scope.version) == ("daemonpulse", "1.2")
    written = [
        (one.name, one.description, one.unit, [json.loads(point.to_json()) for point in one.data.data_points])
        for one in of_scope.metrics
    ]
    number = {"exemplars": [], "time_unix_nano": NOW}
    buckets = {
        "exemplars": [],
        "start_time_unix_nano": START,
        "time_unix_nano": NOW,
        "count": 3,
        "sum": 0.0,
        "bucket_counts": [1, 0, 2],
        "explicit_bounds": [0.5, 1.0],
        "min": None,
        "max": None,
    }
    chat = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "lmstudio", "llmster.daemon": "d"}
    assert written == [
        (
            "gpu_temperature_celsius",
            "Heat.",
            "Cel",
            [{**number, "attributes": {"gpu": "0", "sensor": ""}, "start_time_unix_nano": 0, "value": 71.0}],
        ),
        (
            "llmster_restarts",
            "Restarts.",
            "",
            [{**number, "attributes": {"daemon": "d"}, "start_time_unix_nano": START, "value": 3.0}],
        ),
        (
            "of_another_exporter",
            "Odd.",
            "",
            [{**number, "attributes": {}, "start_time_unix_nano": 0, "value": 1.0}],
        ),
        (log_stream.TTFT.name, "TTFT.", "s", [{**buckets, "attributes": {"daemon": "d", "model": ""}}]),
        ("gen_ai.server.time_to_first_token", "TTFT.", "s", [{**buckets, "attributes": chat}]),
    ]


def test_a_unit_that_otlp_has_no_word_for_is_an_annotation() -> None:
    samples = Samples()
    samples.add(daemon.CONTEXT_LENGTH, 8192, daemon="d", model="m", instance_id="i")
    assert converted(samples)[daemon.CONTEXT_LENGTH.name].unit == "{tokens}"
