"""Sites: the groups of a fleet side by side, and the state of each daemon. A section of board Overview."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dashboards.boards import common
from dashboards.kit import panels, tables, theme
from dashboards.kit.board import row, section
from dashboards.kit.promql import Expr, Selector, coded, count_by, max_by, share, sum_by
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from dashboards.rules.sites import hosts_memory, sited, spare, versions
from exporter.catalogue import Metric
from exporter.catalogue import actions as a
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h

_B: Final = Selector({"daemon": "$daemon"})
_SHORT: Final = theme.steps(theme.CLEAR, (-1e18, theme.AMBER_BACK), (0, theme.CLEAR))
"""An empty cell has the first colour."""
_SEVERAL: Final = theme.steps(theme.CLEAR, (2, theme.AMBER_BACK))


def _memory(metric: Metric) -> Expr:
    return sum_by(hosts_memory(_B, metric), "site")


_SITES = tables.table(
    "Sites",
    "How is each site? n-1: VRAM left once its largest host fails and the others hold its models; below 0 they do not.",
    Query(sum_by(sited(_B.now(d.UP)), "site")),
    Query(count_by(sited(_B.now(d.UP)), "site")),
    Query(count_by(sited(_B.now(d.INSTANCE_INFO)), "site")),
    Query(sum_by(sited(_B.now(d.REQUESTS_RUNNING)), "site")),
    Query(sum_by(sited(_B.now(d.REQUESTS_WAITING)), "site")),
    Query(share(_memory(h.MEMORY_USED), _memory(h.MEMORY_TOTAL))),
    Query(_memory(h.MEMORY_FREE)),
    Query(spare(_B)),
    Query(max_by(versions(_B), "site")),
    columns=[
        Column("site", "Site", link="daemonpulse-overview?var-site=${__value.raw}"),
        Column("A", "Up", decimals=0, width=60),
        Column("B", "Daemons", decimals=0, width=90),
        Column("C", "Loaded", decimals=0, width=70),
        Column("D", "Running", decimals=0, width=75),
        Column("E", "Waiting", decimals=0, width=75),
        Column("F", "VRAM used", unit="percentunit", decimals=0, gauge_to=1, thresholds=theme.VRAM),
        Column("G", "VRAM free", unit="bytes", decimals=0, width=90),
        Column("H", "n-1", unit="bytes", decimals=0, width=90, thresholds=_SHORT),
        Column("I", "Versions", decimals=0, width=78, thresholds=_SEVERAL),
    ],
)


def _grid() -> Expr:
    """Take the state of every daemon, with its site where it has one."""
    state = coded(_B, d.STATE, theme.DAEMON_STATES, "daemon")
    sites = max_by(_B.now(d.SITE_INFO), "daemon", "site")
    return replace(
        state,
        text=f"sort({sites.text} * on (daemon) group_left () {state.text} or on (daemon) {state.text})",
        labels=frozenset({"daemon", "site"}),
        selectors=state.selectors + sites.selectors,
        metrics=state.metrics + sites.metrics,
    )


_GRID = panels.tiles(
    "Daemon grid",
    "Which daemons are down, stalled or refused? One tile per daemon, with its site.",
    Query(_grid(), "{{site}} {{daemon}}"),
    mappings=theme.DAEMON_BANDS,
)

_MISSING = tables.table(
    "Missing instances",
    "Which instances of the desired state are not loaded?",
    Query(max_by(_B.now(a.DESIRED_LOADED), "daemon", "instance_id").equals(0)),
    columns=[Column("daemon", "Daemon"), Column("instance_id", "Instance")],
)

_GROUPS = tables.table(
    "Groups",
    "How many daemons does each group of the desired state still lack?",
    Query(max_by(Selector().now(a.GROUP_MISSING), "group")),
    columns=[
        Column("group", "Group"),
        Column("A", "Missing", decimals=0, width=84, thresholds=common.ANY_CELL),
    ],
    largest="Missing",
)

SITES: Final = section(
    "Sites", row(7, (24, _SITES)), row(7, (24, _GRID)), row(5, (12, _MISSING), (12, _GROUPS))
)
