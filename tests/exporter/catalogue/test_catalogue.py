"""The catalogue: every row can be exposed, queried and explained; a bad row cannot be written."""

import re
from typing import Any

import pytest

from exporter.catalogue import CATALOGUE, Kind, Metric
from exporter.catalogue.metric import counter, gauge, histogram, rows_of

UNITS = {"", "seconds", "bytes", "tokens", "ratio", "celsius", "watts", "joules", "hertz", "volts"}
GOOD: dict[str, Any] = {
    "name": "llmster_thing_seconds",
    "kind": Kind.GAUGE,
    "help": "A thing.",
    "labels": ("daemon",),
    "source": "system.version",
    "unit": "seconds",
}


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.name)
def test_every_row_is_one_that_prometheus_takes(row: Metric) -> None:
    assert re.fullmatch(r"[a-z_][a-z0-9_]*", row.name)
    assert row.help.strip() == row.help
    assert row.source
    for label in row.labels:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", label)
        assert not label.startswith("__")
        assert label not in {"job", "instance", "le", "quantile"}, "Prometheus owns this label"


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.name)
def test_every_row_s_unit_is_a_base_unit_or_a_rate_of_one(row: Metric) -> None:
    assert {row.unit.split("_per_")[0], *row.unit.split("_per_")[1:]} <= UNITS | {"second", "token"}


@pytest.mark.parametrize("row", [row for row in CATALOGUE if row.buckets], ids=lambda row: row.name)
def test_buckets_grow_and_leave_infinity_to_prometheus(row: Metric) -> None:
    assert list(row.buckets) == sorted(set(row.buckets))
    assert row.buckets[-1] < float("inf")


@pytest.mark.parametrize(
    "row", [row for row in CATALOGUE if row.name.startswith("llmster_")], ids=lambda r: r.name
)
def test_everything_about_a_daemon_says_which(row: Metric) -> None:
    assert row.labels[:1] == ("daemon",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "Llmster_thing_seconds"}, "lower case"),
        ({"name": "thing", "unit": ""}, "lower case"),
        ({"name": "llmster__thing_seconds"}, "lower case"),
        ({"name": "llmster_thing_seconds_"}, "lower case"),
        ({"name": "llmster_thing_seconds_total"}, "_total belongs on counters"),
        ({"kind": Kind.COUNTER}, "_total belongs on counters"),
        ({"kind": Kind.HISTOGRAM}, "buckets"),
        ({"buckets": (1.0,)}, "buckets"),
        ({"unit": "bytes"}, "does not carry its unit"),
        ({"help": "A thing"}, "sentence"),
        ({"labels": ("daemon", "daemon")}, "named twice"),
    ],
)
def test_a_bad_row_is_refused_with_its_name(change: dict[str, Any], told: str) -> None:
    Metric(**GOOD)

    with pytest.raises(ValueError, match=told) as caught:
        Metric(**GOOD | change)

    assert str(caught.value).startswith(f"{(GOOD | change)['name']}: ")


def test_two_rows_are_the_same_only_if_they_are_one() -> None:
    assert Metric(**GOOD) != Metric(**GOOD)
    assert len({Metric(**GOOD), Metric(**GOOD)}) == 2


def test_rows_are_written_by_kind_and_listed_in_order() -> None:
    first = gauge("a_ratio", "A.", "x", source="s", unit="ratio")
    second = counter("b_total", "B.", source="s")
    third = histogram("c_seconds", "C.", "y", "z", source="s", buckets=(1.0, 2.0), unit="seconds")

    assert rows_of({"B": second, "text": "no row", "A": first, "C": third}) == (second, first, third)
    assert [row.kind for row in (first, second, third)] == [Kind.GAUGE, Kind.COUNTER, Kind.HISTOGRAM]
    assert (third.labels, third.buckets) == (("y", "z"), (1.0, 2.0))
