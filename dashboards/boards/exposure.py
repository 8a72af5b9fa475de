"""The section of Overview about settings: who can reach a daemon, what it stores, JIT loading, versions, LM Link."""

from __future__ import annotations

from typing import Final

from dashboards.boards import common
from dashboards.kit import tables, theme
from dashboards.kit.board import row, section
from dashboards.kit.promql import RANGE, Selector, coded, max_by, sum_by
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from exporter.catalogue import daemon as d

_B: Final = Selector({"daemon": "$daemon"})

_POSTURE = tables.table(
    "Exposure",
    "Who can reach the daemon, and what does it store? Known for daemons on the exporter's host.",
    Query(max_by(_B.now(d.AUTH_REQUIRED), "daemon")),
    Query(max_by(_B.now(d.LISTENS_BEYOND_LOOPBACK), "daemon")),
    Query(max_by(_B.now(d.CORS), "daemon")),
    Query(max_by(_B.now(d.SENSITIVE_LOGGING), "daemon")),
    Query(max_by(_B.now(d.TOKEN_LOGGING), "daemon")),
    Query(max_by(_B.now(d.PROMPT_HISTORY), "daemon")),
    columns=[
        common.DAEMON_COLUMN,
        Column("A", "Auth required", width=110, mappings=theme.GUARD),
        Column("B", "Beyond loopback", width=125, mappings=theme.RISK),
        Column("C", "CORS", width=70, mappings=theme.RISK),
        Column("D", "Prompt logging", width=115, mappings=theme.RISK),
        Column("E", "Token logging", width=110, mappings=theme.RISK),
        Column("F", "Prompt history", unit="bytes", width=110),
    ],
)
_VERSIONS = tables.table(
    "Versions",
    "Which version runs where?",
    Query(max_by(_B.now(d.BUILD_INFO), "daemon", "version", "build", "kind")),
    Query(sum_by(_B.increase(d.RESTARTS, RANGE), "daemon")),
    columns=[
        common.DAEMON_COLUMN,
        Column("version", "Version", width=90),
        Column("build", "Build", width=70),
        Column("kind", "Kind", width=70),
        Column("B", "Restarts", decimals=0, width=76, thresholds=common.ANY_CELL),
    ],
)
_JIT = tables.table(
    "JIT loading",
    "May a request load a model, what goes for it, and may it exceed the guardrail?",
    Query(max_by(_B.now(d.JIT_LOADING), "daemon")),
    Query(max_by(_B.now(d.JIT_TTL), "daemon")),
    Query(max_by(_B.now(d.JIT_EVICTS), "daemon")),
    Query(max_by(_B.now(d.GUARDRAILS), "daemon", "mode")),
    Query(max_by(_B.now(d.LOAD_ANYWAY), "daemon")),
    columns=[
        common.DAEMON_COLUMN,
        Column("A", "JIT loading", width=95, mappings=theme.YES_NO),
        Column("B", "TTL", unit="s", width=80),
        Column("C", "Evicts", width=70, mappings=theme.YES_NO),
        Column("mode", "Guardrail", width=90),
        Column("E", "Load anyway", width=105, mappings=theme.RISK),
    ],
)
_ENGINES = tables.table(
    "Engines",
    "Which inference engines are installed, and in which versions?",
    Query(max_by(_B.now(d.ENGINE_INFO), "daemon", "engine", "version")),
    columns=[
        common.DAEMON_COLUMN,
        Column("engine", "Engine"),
        Column("version", "Version", width=90),
    ],
)
_LINK = tables.table(
    "LM Link",
    "Is the daemon's LM Link online, and which issues does it report?",
    Query(coded(_B, d.LINK_STATE, theme.LINK_STATES, "daemon")),
    Query(sum_by(_B.now(d.LINK_ISSUE), "daemon")),
    columns=[
        common.DAEMON_COLUMN,
        Column("A", "State", width=90, mappings=theme.LINK_CELLS),
        Column("B", "Issues", decimals=0, width=75, thresholds=common.ANY_CELL),
    ],
)
_PEERS = tables.table(
    "LM Link peers",
    "Which peers does the daemon use?",
    Query(max_by(_B.now(d.LINK_PEER_UP), "daemon", "peer")),
    columns=[
        common.DAEMON_COLUMN,
        Column("peer", "Peer"),
        Column("A", "Connected", mappings=theme.UP_DOWN),
    ],
    none="No peers",
)

EXPOSURE: Final = section(
    "Exposure, versions and LM Link",
    row(6, (16, _POSTURE), (8, _VERSIONS)),
    row(6, (11, _JIT), (13, _ENGINES)),
    row(5, (10, _LINK), (14, _PEERS)),
)
