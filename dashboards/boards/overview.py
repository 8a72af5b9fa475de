"""Overview: is everything up, fast enough, and within its objectives? One row per daemon and per GPU."""

from __future__ import annotations

from typing import Final

from dashboards.boards import common
from dashboards.boards.clients import TAP
from dashboards.boards.daemonpulse import SELF
from dashboards.boards.exposure import EXPOSURE
from dashboards.boards.sites import SITES
from dashboards.kit import panels, plots, tables, theme
from dashboards.kit.board import NOTES, Board, row, section
from dashboards.kit.labels import firing, firing_count, named_causes
from dashboards.kit.promql import (
    RANGE,
    Expr,
    Selector,
    both,
    coded,
    count_by,
    either,
    least,
    max_by,
    min_by,
    sum_by,
)
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from dashboards.kit.variables import DAEMON, HOST, SITE, source
from dashboards.rules import recording
from dashboards.rules.recording import GPU, error_rate
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s

_B: Final = Selector({"daemon": "$daemon"})
_G: Final = Selector({"instance": "$host"})

_SEEN: Final = max_by(_B.over("last_over_time", d.UP, RANGE), "daemon")
"""Every daemon of this time: one whose exporter cannot be scraped has no series now, and is not fine."""
_HEALTH = panels.counts(
    "Health",
    "How many daemons are up, and how many seen in this time are not? A dash at alerts: no rules are evaluated.",
    Query(sum_by(_B.now(d.UP)), "daemons up"),
    Query(count_by(_SEEN) - either(sum_by(_B.now(d.UP)), count_by(_SEEN) * 0), "unhealthy"),
    Query(firing_count("critical"), "critical alerts"),
    Query(firing_count("warning"), "warnings"),
    marks={"unhealthy": theme.ANY_RED, "critical alerts": theme.ANY_RED, "warnings": theme.ANY_AMBER},
)
_VRAM = panels.stat(
    "VRAM used",
    "How full is the fullest GPU?",
    Query(common.vram_used(_G), "fullest GPU"),
    thresholds=theme.VRAM,
    decimals=0,
    scale=(0, 1.3),
)
_ALERTS = tables.table(
    "Firing alerts",
    "What fires now, where, and for how long? The name opens the runbook.",
    Query(firing()),
    columns=[
        Column("severity", "Severity", width=82, mappings=theme.SEVERITIES),
        Column("alertname", "Alert", width=200, link="${__value.raw}"),
        Column("object", "Object"),
        Column("A", "Duration", unit="s", decimals=0, width=90),
    ],
    none="No firing alerts",
)

_CAUSES = tables.table(
    "Named causes",
    "What most likely causes the alerts that page, and which series shows it? Empty where no evidence is seen.",
    Query(named_causes(*GPU)),
    columns=[
        Column("alertname", "Alert", width=172),
        Column("cause", "Cause"),
        Column("object", "Object", width=88),
        Column("evidence", "Evidence", width=92),
    ],
    none="No cause named",
)


def _left(burnt: recording.Recording, objective: float) -> Expr:
    allowed = 1 - objective
    return (1 - min_by(_max(burnt) / allowed)).in_unit("ratio")


def _max(burnt: recording.Recording) -> Expr:
    return max_by(burnt.only(daemon="$daemon"))


_BUDGET = panels.bars(
    "Error budget left",
    "How much of the error budget of the last 6 hours is left, on the worst daemon? Board SLO has the rest.",
    Query(_left(recording.ERRORS["6h"], recording.SUCCEEDED), "Availability"),
    Query(_left(recording.TTFT_SLOW["6h"], recording.ON_TIME), "TTFT"),
    Query(_left(recording.TPOT_SLOW["6h"], recording.ON_TIME), "TPOT"),
    thresholds=common.BUDGET_LEFT,
    high=1,
    decimals=0,
)
_DAEMONS = tables.table(
    "Daemons",
    "How is each daemon? Its name opens what is loaded there.",
    Query(either(coded(_B, d.STATE, theme.DAEMON_STATES, "daemon"), _SEEN * 0)),
    Query(count_by(_B.now(d.INSTANCE_INFO), "daemon")),
    Query(sum_by(_B.now(d.REQUESTS_RUNNING), "daemon")),
    Query(sum_by(_B.now(d.REQUESTS_WAITING), "daemon")),
    Query(sum_by(_B.rate(s.GENERATION_TOKENS, "5m"), "daemon")),
    Query(_B.quantile(0.95, s.TTFT, "daemon", window="5m")),
    Query(error_rate(_B, "daemon", window="5m")),
    columns=[
        Column("daemon", "Daemon", link="daemonpulse-forge?var-daemon=${__value.raw}"),
        Column("A", "State", width=80, mappings=theme.DAEMON_CELLS),
        Column("B", "Loaded", decimals=0, width=70),
        Column("C", "Running", decimals=0, width=75),
        Column("D", "Waiting", decimals=0, width=75),
        Column("E", "Tok/s", decimals=0, width=62),
        Column("F", "TTFT p95", unit="s", width=86, thresholds=common.TTFT_CELL),
        Column("G", "Errors", unit="percentunit", decimals=1, width=74, thresholds=common.ERROR_CELL),
    ],
    smallest="State",
)
_GPUS = tables.table(
    "GPUs",
    "How full, busy and hot is each GPU, and is it throttled? The host opens its board.",
    Query(common.vram_used(_G, *GPU)),
    Query(max_by(_G.over("avg_over_time", h.UTILIZATION, "1m"), *GPU)),
    Query(max_by(_G.now(h.TEMPERATURE, sensor="gpu"), *GPU)),
    Query(max_by(_G.over("avg_over_time", h.POWER, "1m"), *GPU)),
    Query(common.gpu_state(_G)),
    columns=[
        Column("instance", "Host", mappings=theme.HOSTS, link="daemonpulse-fleet?var-host=${__value.raw}"),
        common.GPU_COLUMN,
        Column("A", "VRAM", unit="percentunit", decimals=0, gauge_to=1, thresholds=theme.VRAM),
        Column("B", "Busy", unit="percentunit", decimals=0, width=62),
        Column("C", "Temp", unit="celsius", decimals=0, width=66),
        Column("D", "Power", unit="watt", decimals=0, width=72),
        Column("E", "State", width=84, mappings=theme.GPU_CELLS),
    ],
    largest="VRAM",
)
_STATES = plots.timeline(
    "Daemon state",
    "When was each daemon down or stalled? Of many, the 5 that were up the least.",
    Query(
        both(coded(_B, d.STATE, theme.DAEMON_STATES, "daemon"), least(5, max_by(_B.whole(d.UP), "daemon"))),
        "{{daemon}}",
    ),
    mappings=theme.DAEMON_BANDS,
)

_BY_MODEL = plots.series(
    "Requests/s by model",
    "Which models are asked?",
    Query(sum_by(_B.rate(s.REQUESTS), "model") > 0, "{{model}}"),
    unit="reqps",
    stack=True,
    short_names=True,
    shades=True,
)
BOARD: Final = Board(
    name="Overview",
    question="Is everything up, fast enough, and within its objectives?",
    variables=(source("prometheus", "Prometheus"), SITE, DAEMON, HOST),
    notes=NOTES,
    answer=(
        "Health",
        "Error rate",
        "TTFT p95",
        "Output tok/s",
        "Waiting requests",
        "VRAM used",
        "Firing alerts",
        "Named causes",
        "Error budget left",
        "Daemons",
        "GPUs",
    ),
    sections=(
        section(
            "",
            row(
                5,
                (4, _HEALTH),
                (4, common.error_rate_stat(_B)),
                (4, common.ttft_stat(_B)),
                (4, common.output_stat(_B)),
                (4, common.waiting_stat(_B)),
                (4, _VRAM),
            ),
            row(6, (10, _ALERTS), (9, _CAUSES), (5, _BUDGET)),
            row(6, (13, _DAEMONS), (11, _GPUS)),
            row(5, (24, _STATES)),
        ),
        section(
            "Load",
            row(
                8, (6, common.finish_reasons(_B)), (6, common.ttft(_B)), (6, common.queue(_B)), (6, _BY_MODEL)
            ),
        ),
        SITES,
        EXPOSURE,
        SELF,
        TAP,
    ),
)
