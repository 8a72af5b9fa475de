"""The section of Overview about DaemonPulse itself: collectors, log stream, errors, OTLP export, what it takes."""

from __future__ import annotations

from typing import Final

from dashboards.boards import common
from dashboards.kit import plots, style, tables, theme
from dashboards.kit.board import row, section
from dashboards.kit.promql import RANGE, Selector, avg_by, either, max_by, min_by, now, share, sum_by
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from exporter.catalogue import daemon as d
from exporter.catalogue import log_stream as s
from exporter.catalogue import self_metrics as o

_B: Final = Selector({"daemon": "$daemon"})

_COLLECTORS = tables.table(
    "Collector status",
    "Does every collector of DaemonPulse work?",
    Query(min_by(_B.now(o.COLLECTOR_SUCCESS), "collector")),
    Query(max_by(_B.now(o.COLLECTOR_DURATION), "collector")),
    columns=[
        Column("collector", "Collector"),
        Column(
            "A",
            "State",
            width=80,
            mappings=theme.words(_0=("Failing", theme.RED_BACK), _1=("OK", theme.CLEAR)),
        ),
        Column("B", "Duration", unit="s", width=90),
    ],
)
_SNAPSHOT = plots.series(
    "Snapshot duration",
    "How long does reading a daemon's state take, and how old is what was scraped?",
    Query(avg_by(_B.now(d.SNAPSHOT_DURATION), "daemon"), "{{daemon}}"),
    Query(avg_by(_B.now(d.SNAPSHOT_AGE), "daemon"), "{{daemon}} age"),
    shades=True,
    interval=plots.LEVEL_STEP,
)
_STREAM = tables.table(
    "Log stream",
    "Is every prediction seen? What is logged while the stream is closed is lost.",
    Query(max_by(_B.now(s.STREAM_UP), "daemon")),
    Query(sum_by(_B.increase(s.DISCONNECTS, RANGE), "daemon")),
    Query(sum_by(_B.increase(s.GAP_SECONDS, RANGE), "daemon")),
    Query(sum_by(_B.rate(s.EVENTS, "5m"), "daemon")),
    Query(sum_by(_B.increase(s.EVENTS_DROPPED, RANGE), "daemon")),
    Query(sum_by(_B.increase(s.PAIRING_MISSES, RANGE), "daemon")),
    Query(sum_by(_B.increase(o.UNRECOGNISED_MARKUP, RANGE), "daemon")),
    columns=[
        common.DAEMON_COLUMN,
        Column("A", "Stream", width=75, mappings=theme.UP_DOWN),
        Column("B", "Disconnects", decimals=0, width=105),
        Column("C", "Gap", unit="s", decimals=0, width=75),
        Column("D", "Events/s", decimals=1, width=85),
        Column("E", "Dropped", decimals=0, width=85, thresholds=common.ANY_CELL),
        Column("F", "Unpaired", decimals=0, width=85),
        Column("G", "Unknown markup", decimals=0, width=125),
    ],
)
_ERRORS = plots.events(
    "Daemon errors",
    "Do connections fail, or do daemons send what cannot be read?",
    Query(sum_by(_B.increase(o.CONNECTION_FAILURES), "reason"), "connection: {{reason}}"),
    Query(sum_by(_B.increase(o.UNREADABLE_MESSAGES), "kind"), "unreadable: {{kind}}"),
    Query(sum_by(_B.increase(o.PROTOCOL_WARNINGS), "kind"), "warning: {{kind}}"),
    Query(sum_by(_B.increase(o.INTERNAL_ERRORS)), "internal"),
    overrides=[
        style.matching("^connection.*", color={"mode": "shades", "fixedColor": theme.AMBER}),
        style.matching("^unreadable.*", color={"mode": "shades", "fixedColor": theme.INDIGO}),
        style.matching("^warning.*", color={"mode": "shades", "fixedColor": theme.SLATE}),
        style.matching("^internal.*", color={"mode": "shades", "fixedColor": theme.RED}),
    ],
)
_OTLP = plots.series(
    "OTLP throughput",
    "Do traces, logs and pushed metrics reach their receiver?",
    Query(sum_by(_B.rate(o.OTLP_SPANS_EXPORTED)), "spans"),
    Query(sum_by(_B.rate(o.OTLP_LOGS_EXPORTED)), "log records"),
    Query(sum_by(_B.rate(o.OTLP_POINTS_EXPORTED)), "metric points"),
    Query(
        sum_by(_B.rate(o.OTLP_SPANS_DROPPED))
        + sum_by(_B.rate(o.OTLP_SPANS_FAILED))
        + sum_by(_B.rate(o.OTLP_LOGS_DROPPED))
        + sum_by(_B.rate(o.OTLP_LOGS_FAILED))
        + either(sum_by(_B.rate(o.OTLP_POINTS_FAILED)), sum_by(_B.rate(o.OTLP_SPANS_FAILED)) * 0),
        "lost",
    ),
    unit="cps",
    overrides=[
        style.line("spans"),
        style.line("log records", theme.SLATE),
        style.line("metric points", theme.SKY),
        style.line("lost", theme.RED),
    ],
)
_PROCESSES = tables.table(
    "Processes",
    "Which version runs where, since when, and what does each process of DaemonPulse take?",
    Query(max_by(Selector().now(o.BUILD_INFO), "instance", "version", "python")),
    Query(now() - max_by(Selector().now(o.PROCESS_START), "instance")),
    Query(max_by(Selector().rate(o.PROCESS_CPU, "5m"), "instance")),
    Query(max_by(Selector().now(o.PROCESS_MEMORY), "instance")),
    Query(
        share(
            max_by(Selector().now(o.PROCESS_OPEN_FDS), "instance"),
            max_by(Selector().now(o.PROCESS_MAX_FDS), "instance"),
        )
    ),
    columns=[
        Column("instance", "Address"),
        Column("version", "Version", width=90),
        Column("python", "Python", width=90),
        Column("B", "Up for", unit="s", decimals=0, width=100),
        Column("C", "CPU", unit="percentunit", decimals=1, width=80),
        Column("D", "Memory", unit="bytes", decimals=0, width=90),
        Column("E", "Open files", unit="percentunit", decimals=1, width=95),
    ],
)

SELF: Final = section(
    "DaemonPulse",
    row(7, (8, _COLLECTORS), (16, _STREAM)),
    row(7, (8, _SNAPSHOT), (8, _ERRORS), (8, _OTLP)),
    row(6, (24, _PROCESSES)),
)
