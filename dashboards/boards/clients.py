"""Sections with the tap's data: clients, their latencies, cost by client, and the tap's health.

Sections of Pulse, Economics and Overview; each is closed, and its title names the tap.
"""

from __future__ import annotations

from typing import Final

from dashboards.boards import common
from dashboards.kit import latency, panels, plots, style, tables, theme
from dashboards.kit.board import row, section
from dashboards.kit.promql import RANGE, Expr, Selector, either, max_by, sum_by, variable
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from exporter.catalogue import energy as e
from exporter.catalogue import tap as t

_D: Final = Selector({"daemon": "$daemon"})
_B: Final = Selector({"daemon": "$daemon", "model": "$model"})

# Pulse ---------------------------------------------------------------------------------------------------------------
_ASKED: Final = sum_by(_B.increase(t.REQUESTS, RANGE), "client")


def _some(part: Expr) -> Expr:
    """Count by client: 0 where a client had requests and none of these."""
    return either(sum_by(part, "client"), _ASKED * 0)


_CLIENTS = tables.table(
    "Clients",
    "Who asks, how much, and what do they see? Cancelled: the client went away. Cut: the daemon's side ended it.",
    Query(_ASKED > 0),
    Query(either(sum_by(_D.now(t.RUNNING), "client"), _ASKED * 0)),
    Query(_some(_B.increase(t.REQUESTS, RANGE, code="=~4..|5..|none"))),
    Query(_some(_D.increase(t.CANCELLED, RANGE))),
    Query(_some(_D.increase(t.CUT, RANGE))),
    Query(sum_by(_B.increase(t.TOKENS, RANGE, type="input"), "client")),
    Query(sum_by(_B.increase(t.TOKENS, RANGE, type="output"), "client")),
    Query(_B.quantile(0.95, t.TTFT, "client", window=RANGE)),
    Query(_B.quantile(0.95, t.E2E, "client", window=RANGE)),
    columns=[
        Column("client", "Client"),
        Column("A", "Requests", decimals=0, width=95),
        Column("B", "Running", decimals=0, width=85),
        Column("C", "Refused", decimals=0, width=85, thresholds=common.ANY_CELL),
        Column("D", "Cancelled", decimals=0, width=95),
        Column("E", "Cut", decimals=0, width=75, thresholds=common.ANY_CELL),
        Column("F", "Input tokens", unit="short", width=110),
        Column("G", "Output tokens", unit="short", width=120),
        Column("H", "TTFT p95", unit="s", width=100, thresholds=common.TTFT_CELL),
        Column("I", "E2E p95", unit="s", width=100),
    ],
    largest="Requests",
)
_TOKENS = plots.series(
    "Output tok/s by client",
    "Which client uses the models?",
    Query(sum_by(_B.rate(t.TOKENS, type="output"), "client") > 0, "{{client}}"),
    unit="tok/s",
    stack=True,
    overrides=style.NAMES,
    decimals=0,
)
_TTFT = plots.series(
    "TTFT p95 by client",
    "Which client waits? Seen from the client's side, queue included.",
    Query(_B.quantile(0.95, t.TTFT, "client"), "{{client}}"),
    overrides=style.NAMES,
    bridged=True,
)
_CODES = plots.series(
    "Requests/s by status",
    "Which answers do clients get? None: no answer came.",
    Query(sum_by(_B.rate(t.REQUESTS), "code"), "{{code}}"),
    unit="reqps",
    stack=True,
    shades=True,
    overrides=[
        style.matching("^2..$", color=theme.fixed(theme.INDIGO)),
        style.matching("^4..$", color={"mode": "shades", "fixedColor": theme.AMBER}),
        style.matching("^(5..|none)$", color={"mode": "shades", "fixedColor": theme.RED}),
    ],
)
_GAPS = latency.percentiles(
    "Inter-token latency", "How even is the stream that clients see?", _B, t.GAPS, exemplars=False
)
_QUEUE = latency.percentiles(
    "Time to first byte", "How long until the daemon begins to answer?", _B, t.QUEUE, exemplars=False
)
_ESTIMATE = latency.percentiles(
    "Reasoning estimate error",
    "How far is the estimated reasoning share from the exact one that the tap sees?",
    _B,
    t.ESTIMATE_ERROR,
    exemplars=False,
)

CLIENTS: Final = section(
    "Clients (optional: needs the tap)",
    row(7, (24, _CLIENTS)),
    row(8, (8, _TOKENS), (8, _TTFT), (8, _CODES)),
    row(8, (8, _GAPS), (8, _QUEUE), (8, _ESTIMATE)),
)

# Economics -----------------------------------------------------------------------------------------------------------
_JOULES = sum_by(_D.increase(e.CLIENT, RANGE), "client")
_WRITTEN = sum_by(_D.increase(t.TOKENS, RANGE, type="output"), "client")
_SPENDERS = tables.table(
    "Cost by client",
    "What does each client use? Cost: electricity without idle time.",
    Query(_WRITTEN > 0),
    Query(_JOULES / common.JOULES_PER_WH),
    Query((_JOULES / (_WRITTEN > 0)).in_unit("joules")),
    Query(_JOULES / common.JOULES_PER_KWH * variable("kwh")),
    Query(_JOULES / common.JOULES_PER_KWH * variable("carbon")),
    columns=[
        Column("client", "Client"),
        Column("A", "Output tokens", unit="short", width=115),
        Column("B", "Energy", unit="watth", decimals=1, width=95),
        Column("C", "Energy per token", unit="joule", decimals=2, width=145),
        Column("D", "Electricity", unit="currencyUSD", decimals=3, width=95),
        Column("E", "CO2", unit="massg", decimals=1, width=85),
    ],
    largest="Energy",
)
_POWER = plots.series(
    "Power by client",
    "Whose requests use the energy?",
    Query(sum_by(_D.rate(e.CLIENT, "5m"), "client").in_unit("watts"), "{{client}}"),
    stack=True,
    overrides=style.NAMES,
    decimals=0,
)

ENERGY: Final = section("Clients (optional: needs the tap)", row(7, (14, _SPENDERS), (10, _POWER)))

# Overview ------------------------------------------------------------------------------------------------------------
_TAPS = tables.table(
    "Taps",
    "Does each tap answer, reach its daemon, and read all that passes? What it cannot read passes all the same.",
    Query(max_by(_D.now(t.UP), "daemon")),
    Query(max_by(_D.now(t.UPSTREAM_UP), "daemon")),
    Query(sum_by(_D.now(t.CONNECTIONS), "daemon")),
    Query(sum_by(_D.increase(t.CONNECTION_FAILURES, RANGE), "daemon")),
    Query(sum_by(_D.increase(t.UNREAD, RANGE), "daemon")),
    Query(sum_by(_D.increase(t.MISSED, RANGE), "daemon")),
    columns=[
        common.DAEMON_COLUMN,
        Column("A", "Tap", width=70, mappings=theme.UP_DOWN),
        Column("B", "Upstream", width=85, mappings=theme.UP_DOWN),
        Column("C", "Connections", decimals=0, width=105),
        Column("D", "Failed", decimals=0, width=75, thresholds=common.ANY_CELL),
        Column("E", "Unread", decimals=0, width=75, thresholds=common.ANY_CELL),
        Column("F", "Missed", decimals=0, width=75, thresholds=common.ANY_CELL),
    ],
)
_CLAIMS = panels.bars(
    "Predictions by claim",
    "Do tap and log stream tell of the same predictions? Log_only went past the tap.",
    Query(sum_by(_D.increase(t.CLAIMS, RANGE), "outcome"), "{{outcome}}"),
    decimals=0,
)

TAP: Final = section("Tap (optional)", row(7, (15, _TAPS), (9, _CLAIMS)))
