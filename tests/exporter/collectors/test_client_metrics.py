"""The metrics of a tap: labels are bounded, gaps become one histogram, tokens come from counts alone."""

from typing import Any

from exporter.catalogue import tap as m
from exporter.collectors.client_metrics import MAX_MODELS, MAX_PAIRS, ClientMetrics
from exporter.shared.labels import OTHER
from exporter.tap.report import Report, Usage


def report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "id": 1,
        "client": "ci",
        "route": "/v1/messages",
        "method": "POST",
        "model": "m",
        "status": 200,
        "is_prediction": True,
        "start_ns": 1,
        "e2e_s": 2.0,
        "ttft_s": 0.5,
        "queue_s": 0.4,
    }
    return Report(**values | changes)


def samples(metrics: ClientMetrics) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for _, family in metrics.collect()
        for sample in family.samples
    }


def test_gaps_of_all_reports_become_one_cumulative_histogram() -> None:
    metrics = ClientMetrics("local")
    counts = [0] * (len(m.GAPS.buckets) + 1)
    counts[0], counts[2], counts[-1] = 5, 3, 1
    for _ in range(2):
        metrics.take_report(report(gaps=tuple(counts), gaps_s=30.0))
    seen = samples(metrics)
    name = m.GAPS.name
    assert seen[f"{name}_bucket", ("local", "m", "0.001")] == 10
    assert seen[f"{name}_bucket", ("local", "m", "0.005")] == 16
    assert seen[f"{name}_bucket", ("local", "m", "10.0")] == 16
    assert seen[f"{name}_bucket", ("local", "m", "+Inf")] == seen[f"{name}_count", ("local", "m")] == 18
    assert seen[f"{name}_sum", ("local", "m")] == 60


def test_tokens_are_what_the_answer_states_and_absent_where_it_does_not() -> None:
    metrics = ClientMetrics("local")
    metrics.settle(report(usage=Usage(input=7, cached=2, output=10, reasoning=4)), None)
    metrics.settle(report(), None)
    name = m.TOKENS.name
    assert {key[1][-1]: value for key, value in samples(metrics).items() if key[0] == name} == {
        "input": 7,
        "output": 10,
        "cached": 2,
        "reasoning": 4,
    }


def test_a_request_that_failed_counts_by_its_status_and_under_no_model() -> None:
    metrics = ClientMetrics("local")
    metrics.take_report(report(is_prediction=False, status=404, model="made up"))
    metrics.take_report(report(is_prediction=False, status=None, cancelled=True))
    seen = samples(metrics)
    assert seen[m.REQUESTS.name, ("local", "ci", "/v1/messages", "", "404")] == 1
    assert seen[m.REQUESTS.name, ("local", "ci", "/v1/messages", "", "none")] == 1
    assert seen[m.CANCELLED.name, ("local", "ci")] == 1


def test_clients_and_models_without_number_are_counted_under_other() -> None:
    metrics = ClientMetrics("local")
    for number in range(3 * MAX_PAIRS):
        metrics.take_report(report(client=f"c{number}", model=f"m{number}"))
    seen = samples(metrics)
    clients = {labels[1] for name, labels in seen if name == m.REQUESTS.name}
    models = {labels[3] for name, labels in seen if name == m.REQUESTS.name}
    assert len(clients) == MAX_PAIRS + 1
    assert len(models) == MAX_MODELS + 1
    assert OTHER in clients & models
    assert sum(value for (name, _), value in seen.items() if name == m.REQUESTS.name) == 3 * MAX_PAIRS
