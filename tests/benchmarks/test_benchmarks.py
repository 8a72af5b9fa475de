"""The benchmarks run, on their smallest sizes, and their table tells a cost from a rate. No time is judged."""

import re

import pytest

from tests.benchmarks.__main__ import BENCHMARKS, main
from tests.benchmarks.table import CURVE_GOAL, Row, curve

IN_THIS_PROCESS = ("ingest", "spans", "memory", "scrape")
"""The others start processes for what they measure, which CI has no time for."""


@pytest.mark.parametrize("name", IN_THIS_PROCESS)
def test_a_benchmark_fills_rows_with_what_it_measured(name: str) -> None:
    rows = list(BENCHMARKS[name](quick=True))

    assert rows
    assert all(row.what and row.unit for row in rows)
    assert all(row.ours > 0 for row in rows if row.goal != 0)
    assert all(row.floor is not None and row.floor > 0 for row in rows if row.against)


def test_the_runner_prints_a_table_of_what_was_named(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "ingest"])

    host, head, first, second, took = capsys.readouterr().out.splitlines()
    assert "cores" in host
    assert head.split()[:2] == ["what", "ours"]
    assert first.startswith("events parsed")
    assert second.startswith("events parsed, paired")
    assert re.fullmatch(r"took \d+ s; load [\d.]+ at the end", took)


def test_an_unknown_name_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["scrap"])

    assert "no benchmark scrap; there are ingest, spans" in capsys.readouterr().err


def test_a_ratio_is_one_of_costs_also_for_rates() -> None:
    assert Row(what="a", ours=3, unit="ms", floor=2).ratio == 1.5
    assert Row(what="a", ours=2, unit="/CPU-s", floor=3).ratio == 1.5
    assert Row(what="a", ours=2, unit="ms").ratio is None


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row(what="a", ours=3, unit="ms", goal=3), "<= 3 ms met"),
        (Row(what="a", ours=4, unit="ms", goal=3), "<= 3 ms MISSED"),
        (Row(what="a", ours=20_000, unit="/CPU-s", goal=20_000), ">= 20,000 /CPU-s met"),
        (Row(what="a", ours=19_999, unit="/CPU-s", goal=20_000), ">= 20,000 /CPU-s MISSED"),
        (Row(what="a", ours=13, unit="ms", floor=10, ratio_goal=1.2), "ratio <= 1.2 MISSED"),
        (Row(what="a", ours=12, unit="ms", floor=10, ratio_goal=1.2), "ratio <= 1.2 met"),
        (Row(what="a", ours=12, unit="ms"), ""),
    ],
)
def test_a_goal_is_said_with_whether_it_was_met(row: Row, verdict: str) -> None:
    assert row.verdict == verdict
    assert row.line().endswith(verdict)


def test_a_curve_that_bends_upwards_shows_as_a_ratio_above_one() -> None:
    rows = list(curve("scrape", "ms", "daemon", [(1, 10.0), (10, 40.0), (100, 800.0)]))

    assert [row.ours for row in rows] == [10, 4, 8]
    assert [row.ratio for row in rows] == [None, 0.4, 2]
    assert [row.verdict for row in rows] == [
        "",
        f"ratio <= {CURVE_GOAL} met",
        f"ratio <= {CURVE_GOAL} MISSED",
    ]
