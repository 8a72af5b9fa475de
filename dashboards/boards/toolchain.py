"""Toolchain: what do models do with tools, and who lets them? Approvals and gates, with the buttons for both."""

from __future__ import annotations

from typing import Final

from dashboards.kit import buttons, panels, tables, theme
from dashboards.kit.board import DAEMON, MODEL, NOTES, Board, row, section, source
from dashboards.kit.promql import RANGE, Scope, max_by, min_by, share_of_some, sum_by
from dashboards.kit.tables import Column
from dashboards.kit.targets import ApiQuery, Query
from exporter.catalogue import actions as a
from exporter.catalogue import log_stream as s
from exporter.catalogue import mcp as m

_B: Final = Scope({"daemon": "$daemon", "model": "$model"})

_PENDING = panels.stat(
    "Calls that wait",
    "How many tool calls wait for a person?",
    Query(sum_by(_B.now(m.APPROVALS_PENDING))),
    thresholds=theme.FEW_IS_WELL,
    no_value="No gate",
)
_CALLS = panels.stat(
    "Calls through the gate",
    "How many tool calls came through the gate in this time?",
    Query(sum_by(_B.increase(m.TOOL_CALLS, RANGE))),
    decimals=0,
    no_value="None",
)
_DENIED_CALLS = panels.stat(
    "Calls denied",
    "How many tool calls did a rule or a person deny?",
    Query(sum_by(_B.increase(m.TOOL_CALLS, RANGE, outcome="refused"))),
    decimals=0,
    thresholds=theme.FEW_IS_WELL,
    no_value="None",
)
_DRIFT = panels.stat(
    "Servers past the gate",
    "How many tool servers does the daemon reach without the gate?",
    Query(sum_by(_B.now(m.CONFIG_DRIFT))),
    thresholds=theme.NONE_IS_WELL,
    no_value="Not known",
)
_CHANGED = panels.stat(
    "Changed tools",
    "How many tools are not what was approved? They ask again.",
    Query(sum_by(_B.now(m.TOOL_CHANGED))),
    thresholds=theme.FEW_IS_WELL,
    no_value="None",
)
_SERVERS = tables.table(
    "Tool servers",
    "Is each tool server connected, and did starting it fail?",
    Query(max_by(_B.now(m.SERVER_UP), "server")),
    Query(sum_by(_B.increase(m.SERVER_STARTS, RANGE, outcome="failed"), "server")),
    Query(sum_by(_B.increase(m.RESULTS_CAPPED, RANGE), "server")),
    Query(sum_by(_B.increase(s.PLUGIN_MESSAGES, RANGE, kind="error"), "server")),
    columns=[
        Column("server", "Server"),
        Column("A", "Connected", mappings=theme.UP_DOWN),
        Column("B", "Failed starts", thresholds=theme.FEW_IS_WELL),
        Column("C", "Results cut"),
        Column("D", "Errors in the daemon's log", thresholds=theme.FEW_IS_WELL),
    ],
    no_value="No tool server in use",
)
_DECISIONS = panels.series(
    "Calls by decision",
    "What does the gate say, and what comes of it?",
    Query(sum_by(_B.increase(m.TOOL_CALLS), "decision", "outcome"), "{{decision}}: {{outcome}}"),
    stack=True,
)
_GATED = panels.series(
    "Calls by tool",
    "Which tools are called through the gate?",
    Query(sum_by(_B.increase(m.TOOL_CALLS), "server", "tool"), "{{server}}/{{tool}}"),
    stack=True,
)
_LATENCY = panels.series(
    "Time of tools, 95 of 100",
    "Which tool is slow?",
    Query(_B.quantile(0.95, m.TOOL_CALL_DURATION, "server", "tool"), "{{server}}/{{tool}}", exemplars=True),
)
_SETTLED = panels.bars(
    "Calls that waited",
    "How did waiting end? Many that expire means that nobody looks.",
    Query(sum_by(_B.increase(m.APPROVALS, RANGE), "outcome"), "{{outcome}}"),
)

_ASKED = panels.stat(
    "Tool calls asked for",
    "How many tool calls did models write in this time?",
    Query(sum_by(_B.increase(s.TOOL_CALLS, RANGE))),
    decimals=0,
    no_value="None",
)
_TOOLS = panels.stat(
    "Ended with a tool call",
    "Which share of requests ended by asking for a tool?",
    Query(
        share_of_some(
            sum_by(_B.rate(s.REQUESTS, RANGE, finished_reason="tool_calls")),
            sum_by(_B.rate(s.REQUESTS, RANGE)),
        )
    ),
    no_value="None",
)
_DONE = panels.stat(
    "Actions done",
    "How many actions were done in this time?",
    Query(sum_by(_B.increase(a.ACTIONS, RANGE, outcome="done"))),
    decimals=0,
    no_value="None",
)
_DENIED = panels.stat(
    "Actions refused",
    "How many actions were refused by a rule?",
    Query(sum_by(_B.increase(a.ACTIONS, RANGE, outcome="denied"))),
    decimals=0,
    thresholds=theme.FEW_IS_WELL,
    no_value="None",
)
_TURNED_AWAY = panels.stat(
    "Turned away",
    "How many requests came without the right token?",
    Query(sum_by(_B.increase(a.AUTH_FAILURES, RANGE))),
    decimals=0,
    thresholds=theme.FEW_IS_WELL,
    no_value="None",
)
_AUDIT_OK = panels.stat(
    "Audit",
    "Can the audit be written? While it cannot, nothing is done.",
    Query(min_by(_B.now(a.AUDIT_WRITABLE))),
    mappings=theme.words(_0=("Not writable", theme.FAULT), _1=("Writable", theme.WELL)),
    no_value="No actions API",
)

_APPROVALS = tables.table(
    "Waiting for you",
    "Which tool calls wait for a person? Unanswered ones are denied when their time is over.",
    ApiQuery("approvals"),
    columns=[
        Column("created_ms", "Asked", unit="dateTimeFromNow"),
        Column("server", "Server"),
        Column("tool", "Tool"),
        Column("reason", "Why it waits"),
        Column("arguments", "Arguments"),
        Column("expires_in_seconds", "Time left", unit="s"),
        Column("id", "Actions", width=240, buttons=(buttons.APPROVE, buttons.DENY)),
    ],
    no_value="Nothing waits",
)
_GATES = tables.table(
    "Gates",
    "Which tools may run unasked? A tool whose description changed asks again.",
    ApiQuery("gates"),
    columns=[
        Column("server", "Server"),
        Column("tool", "Tool"),
        Column("decision", "Now"),
        Column("rule", "Rule"),
        Column("changed", "Changed"),
        Column("set_by", "Set by"),
        Column("id", "Actions", width=380, buttons=buttons.GATES),
    ],
    no_value="No tools",
)
_BY_TOOL = panels.series(
    "Tool calls by tool",
    "Which tools do models ask for?",
    Query(sum_by(_B.increase(s.TOOL_CALLS), "tool"), "{{tool}}"),
    stack=True,
)
_BY_MODEL = panels.bars(
    "Tool calls by model",
    "Which models ask for tools?",
    Query(sum_by(_B.increase(s.TOOL_CALLS, RANGE), "model"), "{{model}}"),
)
_FAILURES = panels.series(
    "Turned away, by reason",
    "Does somebody try without the right token?",
    Query(sum_by(_B.increase(a.AUTH_FAILURES), "reason"), "{{reason}}"),
    stack=True,
)
_WRITTEN = panels.series(
    "Audit entries",
    "How much is being done?",
    Query(sum_by(_B.increase(a.AUDIT_ENTRIES), "kind"), "{{kind}}"),
    stack=True,
)
_AUDIT = tables.table(
    "Audit",
    "Who did what, when, and what came of it?",
    ApiQuery("audit"),
    columns=[
        Column("at_ms", "When", unit="dateTimeAsIso"),
        Column("person", "Person"),
        Column("actor", "Token"),
        Column("action", "What"),
        Column("subject", "Of"),
        Column("kind", "Entry"),
        Column("detail", "Detail"),
    ],
    largest="When",
    no_value="Nothing done yet",
)

BOARD: Final = Board(
    name="Toolchain",
    question="What do models do with tools, and who lets them?",
    variables=(source("prometheus", "Prometheus"), source("actions", "Actions"), DAEMON, MODEL),
    notes=NOTES,
    answer=("Calls that wait", "Calls denied", "Servers past the gate", "Audit", "Waiting for you", "Gates"),
    sections=(
        section(
            "",
            row(
                4, (4, _PENDING), (4, _CALLS), (4, _DENIED_CALLS), (4, _DRIFT), (4, _CHANGED), (4, _AUDIT_OK)
            ),
            row(7, (24, _APPROVALS)),
            row(8, (14, _GATES), (10, _DECISIONS)),
        ),
        section("Calls", row(8, (8, _GATED), (8, _LATENCY), (8, _SERVERS))),
        section(
            "What models ask for",
            row(7, (4, _ASKED), (8, _BY_TOOL), (8, _BY_MODEL), (4, _TOOLS)),
        ),
        section(
            "Actions",
            row(4, (8, _DONE), (8, _DENIED), (8, _TURNED_AWAY)),
            row(7, (8, _WRITTEN), (8, _FAILURES), (8, _SETTLED)),
        ),
        section("Record", row(10, (24, _AUDIT))),
    ),
)
