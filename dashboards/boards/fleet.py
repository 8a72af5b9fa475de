"""Fleet: do the GPUs have room, and are they healthy? One row per GPU, and who holds its VRAM."""

from __future__ import annotations

from typing import Final

from dashboards.boards import common
from dashboards.boards.hardware import SECTIONS
from dashboards.kit import panels, plots, style, tables, theme
from dashboards.kit.board import NOTES, Board, row, section
from dashboards.kit.labels import hosted, joined
from dashboards.kit.promql import Expr, Selector, avg_by, both, count_by, either, max_by, most, sum_by
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from dashboards.kit.variables import DAEMON, HOST, SITE, Variable, source
from dashboards.rules.recording import FOREIGN, GPU, THROTTLED
from exporter.catalogue import hardware as h

_B: Final = Selector({"instance": "$host"})

_FULL: Final = either(common.vram_used(_B, *GPU), max_by(_B.now(h.DEVICE_INFO) * 0, *GPU).in_unit("ratio"))
_SHOWN: Final = both(_B.now(h.DEVICE_INFO), most(12, _FULL), *GPU)
DEVICE: Final = Variable(
    "device",
    "GPU",
    "query",
    f"query_result({joined(hosted(_SHOWN), 'title', ' · GPU ', 'host', 'gpu')})",
    regex='/title="(?<text>[^"]+)".*uuid="(?<value>[^"]+)"/',
    about="GPUs to show one by one: the 12 fullest of the hosts that are shown.",
)

_COUNTS = panels.counts(
    "GPUs",
    "How many GPUs are there, and is any lost or throttled by heat or power?",
    Query(count_by(_B.now(h.DEVICE_INFO)), "present"),
    Query(sum_by(_B.now(h.LOST)), "lost"),
    Query(
        either(sum_by(max_by(_B.now(h.THROTTLE, reason=THROTTLED), *GPU)), sum_by(_B.now(h.THROTTLE)) * 0),
        "throttled",
    ),
    marks={"lost": theme.ANY_RED, "throttled": theme.ANY_AMBER},
)
_BUSY = panels.stat(
    "Utilization",
    "How busy are the GPUs on average?",
    Query(avg_by(_B.over("avg_over_time", h.UTILIZATION, "5m")), "all GPUs · last 5 min"),
    decimals=0,
    scale=(0, 1.3),
)
_HOTTEST = panels.stat(
    "Temperature",
    "How hot is the hottest GPU? Each GPU's own limit is drawn below.",
    Query(max_by(_B.now(h.TEMPERATURE, sensor="gpu")), "hottest GPU"),
    thresholds=theme.steps(theme.INDIGO, (85, theme.AMBER), (95, theme.RED)),
    decimals=0,
    scale=(0, 120),
)
_POWER = panels.stat(
    "Power",
    "How much power do all GPUs draw?",
    Query(sum_by(_B.over("avg_over_time", h.POWER, "1m")), "all GPUs · last minute"),
    decimals=0,
)
_OTHERS = panels.stat(
    "Foreign VRAM",
    "How much VRAM do processes hold that are not the daemon's?",
    Query(sum_by(FOREIGN.only(instance="$host")), "other processes"),
    decimals=1,
)
_TABLE = tables.table(
    "GPUs",
    "How full, busy and hot is each GPU, and how much does it draw?",
    Query(max_by(_B.now(h.DEVICE_INFO), *GPU, "name")),
    Query(common.vram_used(_B, *GPU)),
    Query(max_by(_B.now(h.MEMORY_FREE), *GPU)),
    Query(max_by(_B.over("avg_over_time", h.UTILIZATION, "1m"), *GPU)),
    Query(max_by(_B.now(h.TEMPERATURE, sensor="gpu"), *GPU)),
    Query(max_by(_B.over("avg_over_time", h.POWER, "1m"), *GPU)),
    Query(max_by(_B.now(h.POWER_LIMIT), *GPU)),
    Query(common.gpu_state(_B)),
    columns=[
        Column("instance", "Host", width=130, mappings=theme.HOSTS),
        common.GPU_COLUMN,
        Column("name", "Name"),
        Column("B", "VRAM used", unit="percentunit", decimals=0, gauge_to=1, thresholds=theme.VRAM),
        Column("C", "VRAM free", unit="bytes", decimals=1, width=100),
        Column("D", "Utilization", unit="percentunit", decimals=0, gauge_to=1, thresholds=theme.PLAIN),
        Column("E", "Temp", unit="celsius", decimals=0, width=70),
        Column("F", "Power", unit="watt", decimals=0, width=75),
        Column("G", "Limit", unit="watt", decimals=0, width=75),
        Column("H", "State", width=90, mappings=theme.GPU_CELLS),
    ],
    largest="VRAM used",
)


def _of(expr: Expr) -> Expr:
    """Keep the GPU of the row."""
    return both(expr, _B.now(h.DEVICE_INFO, uuid="=~$device"), *GPU)


_GAUGE = panels.gauge(
    "VRAM",
    "How full is this GPU?",
    Query(max_by(_of(common.vram_used(Selector(), *GPU))).in_unit("ratio"), "used"),
)
_HELD = plots.series(
    "VRAM by model",
    "Who holds the VRAM? Dashed: all of it.",
    Query(sum_by(_of(Selector().now(h.INSTANCE_VRAM)), "instance_id"), "{{instance_id}}"),
    Query(max_by(_of(FOREIGN.series)) > 0, "other processes"),
    Query(max_by(_of(max_by(Selector().now(h.MEMORY_RESERVED), *GPU))) > 0, "reserved"),
    Query(max_by(_of(max_by(Selector().now(h.MEMORY_TOTAL), *GPU))), "total"),
    stack=True,
    decimals=0,
    short_names=True,
    shades=True,
    overrides=[
        style.line("other processes", theme.DIM),
        style.line("reserved", theme.SLATE),
        style.limit("total"),
    ],
    interval=plots.LEVEL_STEP,
    legend="right",
)
_LOAD = plots.series(
    "Utilization",
    "How busy is it?",
    Query(max_by(_of(Selector().over("avg_over_time", h.UTILIZATION, "$__rate_interval"))), "utilization"),
    high=1,
    fill=20,
    legend="",
    interval=plots.LEVEL_STEP,
)
_HEAT = plots.series(
    "Temperature",
    "How hot is it? Dashed: where the GPU slows down, as it reports.",
    Query(max_by(_of(Selector().now(h.TEMPERATURE, sensor="gpu"))), "temperature"),
    Query(max_by(_of(Selector().now(h.TEMPERATURE_LIMIT, limit="slowdown"))), "slowdown"),
    low=20,
    fill=20,
    decimals=0,
    legend="",
    overrides=[style.limit("slowdown", theme.RED)],
    interval=plots.LEVEL_STEP,
)
_WATTS = plots.series(
    "Power",
    "How much does it draw? Dashed: its power limit.",
    Query(max_by(_of(Selector().over("avg_over_time", h.POWER, "$__rate_interval"))), "power"),
    Query(max_by(_of(Selector().now(h.POWER_LIMIT))), "limit"),
    fill=20,
    decimals=0,
    legend="",
    overrides=[style.limit("limit", theme.AMBER)],
    interval=plots.LEVEL_STEP,
)

BOARD: Final = Board(
    name="Fleet",
    question="Do the GPUs have room, and are they healthy?",
    variables=(source("prometheus", "Prometheus"), SITE, HOST, DEVICE, DAEMON),
    notes=NOTES,
    answer=("GPUs", "VRAM free", "Utilization", "Temperature", "Power", "Foreign VRAM", "VRAM by model"),
    sections=(
        section(
            "",
            row(
                5,
                (4, _COUNTS),
                (4, common.vram_free_stat(_B)),
                (4, _BUSY),
                (4, _HOTTEST),
                (4, _POWER),
                (4, _OTHERS),
            ),
            row(6, (24, _TABLE)),
        ),
        section(
            "$device", row(6, (3, _GAUGE), (9, _HELD), (4, _LOAD), (4, _HEAT), (4, _WATTS)), repeat="device"
        ),
        *SECTIONS,
    ),
)
