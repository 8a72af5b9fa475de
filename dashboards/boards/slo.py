"""SLO: attainment of the objectives, error budget left, burn rates, and what spends the budget."""

from __future__ import annotations

from typing import Final

from dashboards.boards import common
from dashboards.kit import panels, plots, style, tables, theme
from dashboards.kit.board import NOTES, Board, row, section
from dashboards.kit.promql import RANGE, Expr, Selector, max_by, sum_by, variable
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from dashboards.kit.variables import DAEMON, SITE, Variable, source
from dashboards.rules import recording
from dashboards.rules.recording import FAILED, Recording, error_rate
from exporter.catalogue import Metric
from exporter.catalogue import log_stream as s

_B: Final = Selector({"daemon": "$daemon"})

_AVAILABILITY: Final = Variable(
    "availability",
    "Availability objective",
    "custom",
    "90 % : 0.9,95 % : 0.95,99 % : 0.99,99.5 % : 0.995,99.9 % : 0.999",
    default=f"{recording.SUCCEEDED:g}",
    about="Share of requests that must end without an error.",
)
_ON_TIME: Final = Variable(
    "on_time",
    "Latency objective",
    "custom",
    "90 % : 0.9,95 % : 0.95,99 % : 0.99",
    default=f"{recording.ON_TIME:g}",
    about="Share of requests that must keep to the bounds of TTFT and TPOT.",
)
_TTFT: Final = Variable(
    "ttft",
    "TTFT bound",
    "custom",
    "250 ms : 0.25,500 ms : 0.5,750 ms : 0.75,2.5 s : 2.5,7.5 s : 7.5",
    default=f"{recording.TTFT_S:g}",
    about="Longest TTFT that keeps to the objective. The alerts use 2.5 s.",
)
_TPOT: Final = Variable(
    "tpot",
    "TPOT bound",
    "custom",
    "25 ms : 0.025,50 ms : 0.05,100 ms : 0.1,200 ms : 0.2,500 ms : 0.5",
    default=f"{recording.TPOT_S:g}",
    about="Longest TPOT that keeps to the objective. The alerts use 100 ms.",
)


def _failed(*by: str) -> Expr:
    return error_rate(_B, *by, window=RANGE)


def _late(metric: Metric, bound: str, *by: str) -> Expr:
    """Take the share of requests above the bound that the reader chose, which is one of the buckets."""
    return _B.above_bound(metric, f"${bound}", *by, window=RANGE)


def _left(bad: Expr, objective: str) -> Expr:
    allowed = 1 - variable(objective)
    return (1 - bad / allowed).in_unit("ratio")


_BURN: Final = theme.steps(theme.CLEAR, (6, theme.AMBER), (14.4, theme.RED))


def _attained(title: str, ask: str, bad: Expr, objective: str) -> panels.Viz:
    return panels.stat(
        title,
        ask,
        Query((1 - bad).in_unit("ratio"), f"objective ${{{objective}:text}}"),
        decimals=2,
        spark=False,
    )


_OK = _attained(
    "Availability",
    "Which share of requests ended without an error in this time? An abort is the client's.",
    _failed(),
    "availability",
)
_TTFT_OK = _attained(
    "TTFT on time", "Which share of requests got its first token in time?", _late(s.TTFT, "ttft"), "on_time"
)
_TPOT_OK = _attained(
    "TPOT on time",
    "Which share of requests got its tokens fast enough?",
    _late(s.PER_TOKEN, "tpot"),
    "on_time",
)
_REQUESTS = panels.stat(
    "Requests",
    "How many requests do these shares rest on?",
    Query(sum_by(_B.increase(s.REQUESTS, RANGE)), "in this time"),
    unit="short",
    spark=False,
)
_BUDGETS = panels.bars(
    "Error budget left",
    "How much of the error budget of this time is left? Below 0 the objective is missed.",
    Query(_left(_failed(), "availability"), "Availability"),
    Query(_left(_late(s.TTFT, "ttft"), "on_time"), "TTFT"),
    Query(_left(_late(s.PER_TOKEN, "tpot"), "on_time"), "TPOT"),
    thresholds=common.BUDGET_LEFT,
    high=1,
    decimals=0,
)


def _burn(title: str, ask: str, recordings: dict[str, Recording], objective: float) -> panels.Viz:
    """Draw how many times faster than allowed the budget is spent, by window, as the alerts see it."""
    allowed = 1 - objective
    colors = {"5m": theme.SLATE, "30m": theme.SKY, "1h": theme.INDIGO, "6h": theme.VIOLET}
    return plots.series(
        title,
        ask,
        *(
            Query((max_by(recordings[window].only(daemon="$daemon")) / allowed).in_unit(""), window)
            for window in recording.WINDOWS
        ),
        unit="suffix:\u00d7",
        decimals=1,
        limits=_BURN,
        soft_high=16,
        overrides=[style.line(window, color) for window, color in colors.items()],
    )


_BURN_ASK: Final = "How fast is the budget spent? 1 is just allowed; dashed: where alerts fire (6, 14.4)."
_ERROR_BURN = _burn("Burn rate: availability", _BURN_ASK, recording.ERRORS, recording.SUCCEEDED)
_TTFT_BURN = _burn("Burn rate: TTFT", _BURN_ASK, recording.TTFT_SLOW, recording.ON_TIME)
_TPOT_BURN = _burn("Burn rate: TPOT", _BURN_ASK, recording.TPOT_SLOW, recording.ON_TIME)

_BY_DAEMON = tables.table(
    "Attainment by daemon",
    "Which daemon misses its objectives?",
    Query(sum_by(_B.increase(s.REQUESTS, RANGE), "daemon")),
    Query(1 - _failed("daemon")),
    Query(1 - _late(s.TTFT, "ttft", "daemon")),
    Query(1 - _late(s.PER_TOKEN, "tpot", "daemon")),
    columns=[
        common.DAEMON_COLUMN,
        Column("A", "Requests", decimals=0, width=95),
        Column("B", "Availability", unit="percentunit", decimals=2, width=120),
        Column("C", "TTFT on time", unit="percentunit", decimals=1, width=110),
        Column("D", "TPOT on time", unit="percentunit", decimals=1, width=110),
    ],
    smallest="Availability",
)
_SPENDERS = tables.table(
    "Budget spent by model",
    "Which model spends the budget? Shares of its own requests.",
    Query(sum_by(_B.increase(s.REQUESTS, RANGE), "daemon", "model") > 0),
    Query(_failed("daemon", "model")),
    Query(_late(s.TTFT, "ttft", "daemon", "model")),
    Query(_late(s.PER_TOKEN, "tpot", "daemon", "model")),
    columns=[
        Column("model", "Model"),
        Column("daemon", "Daemon", width=95),
        Column("A", "Requests", decimals=0, width=90),
        Column("B", "Errors", unit="percentunit", decimals=1, width=78, thresholds=common.ERROR_CELL),
        Column("C", "TTFT late", unit="percentunit", decimals=1, width=85, thresholds=common.ERROR_CELL),
        Column("D", "TPOT late", unit="percentunit", decimals=1, width=85, thresholds=common.ERROR_CELL),
    ],
    largest="Errors",
)
_REASONS = plots.series(
    "Errors/s by model",
    "When did requests fail, and at which model?",
    Query(sum_by(_B.rate(s.REQUESTS, finished_reason=FAILED), "model") > 0, "{{model}}"),
    unit="reqps",
    stack=True,
    bars=True,
    short_names=True,
    shades=True,
)
_TTFT_MAP = plots.heatmap("TTFT distribution", "How late is late?", Query(_B.heat(s.TTFT)))

BOARD: Final = Board(
    name="SLO",
    question="Are the objectives met, how much error budget is left, and what spends it?",
    variables=(source("prometheus", "Prometheus"), SITE, DAEMON, _AVAILABILITY, _ON_TIME, _TTFT, _TPOT),
    notes=NOTES,
    since="now-6h",
    answer=("Availability", "TTFT on time", "TPOT on time", "Error budget left", "Burn rate: availability"),
    sections=(
        section(
            "",
            row(5, (4, _OK), (4, _TTFT_OK), (4, _TPOT_OK), (4, _REQUESTS), (8, _BUDGETS)),
            row(7, (8, _ERROR_BURN), (8, _TTFT_BURN), (8, _TPOT_BURN)),
            row(7, (11, _BY_DAEMON), (13, _SPENDERS)),
        ),
        section("What spent it", row(8, (12, _REASONS), (12, _TTFT_MAP))),
    ),
)
