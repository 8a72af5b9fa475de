"""PromQL that chooses: which text is written, and what it knows of labels and metrics."""

import pytest

from dashboards.kit.choosing import first_of, largest, spread
from dashboards.kit.promql import Expr, QueryError, Selector
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h

UP = Selector().now(d.UP)
TOTAL = Selector().now(h.HOST_MEMORY_TOTAL)
TEMPERATURE = Selector().now(h.TEMPERATURE)


def parts(expr: Expr) -> tuple[frozenset[str], tuple[str, ...], int]:
    return expr.labels or frozenset(), tuple(row.name for row in expr.metrics), len(expr.selectors)


def test_the_first_that_has_an_answer_is_asked_for_in_order() -> None:
    found = first_of([UP, TOTAL, TEMPERATURE], "instance")
    assert found.text == f"{UP.text} or on (instance) {TOTAL.text} or on (instance) {TEMPERATURE.text}"
    labels = (UP.labels or frozenset()) | (TOTAL.labels or frozenset()) | (TEMPERATURE.labels or frozenset())
    assert parts(found) == (
        labels,
        ("llmster_up", "llmster_host_memory_total_bytes", "gpu_temperature_celsius"),
        3,
    )
    assert first_of([UP], "instance") == UP


def test_an_operand_that_binds_looser_is_put_in_brackets() -> None:
    found = first_of([UP, first_of([UP, TOTAL], "instance")], "instance")
    assert found.text == f"{UP.text} or on (instance) ({UP.text} or on (instance) {TOTAL.text})"
    assert largest(found, "instance").beside(6) == largest(found, "instance").text


def test_what_lacks_a_label_cannot_be_chosen_by_it() -> None:
    with pytest.raises(QueryError, match=r"has no label gpu, vendor$"):
        first_of([UP, TEMPERATURE], "vendor", "gpu")


def test_the_largest_of_each_label_value_is_kept() -> None:
    found = largest(UP, "daemon", "instance")
    assert found.text == f"topk by (daemon, instance) (1, {UP.text})"
    assert parts(found) == parts(UP)


def test_a_hosts_value_is_spread_over_its_daemons_with_the_labels_it_brings() -> None:
    found = spread(TEMPERATURE, UP, "instance")
    brought = ", ".join(sorted((TEMPERATURE.labels or frozenset()) - (UP.labels or frozenset())))
    assert found.text == (
        f"0 * {UP.text} + on (instance) group_left ({brought}) topk by (instance) (1, {TEMPERATURE.text})"
    )
    assert parts(found) == (
        (TEMPERATURE.labels or frozenset()) | (UP.labels or frozenset()),
        ("gpu_temperature_celsius", "llmster_up"),
        2,
    )
    assert found.beside(6) == f"({found.text})"
    assert found.beside(5) == found.text
