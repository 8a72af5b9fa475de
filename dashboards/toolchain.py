"""Toolchain: what do models do with tools, and who lets them? Approvals and gates, with the buttons for both."""

from __future__ import annotations

from typing import Final

from dashboards import buttons, look, panels, tables
from dashboards.board import DAEMON, MODEL, NOTES, Board, row, section, source
from dashboards.promql import RANGE, Scope, min_by, share_of_some, sum_by
from dashboards.tables import Column
from dashboards.targets import ApiQuery, Query
from exporter.catalogue import actions as a
from exporter.catalogue import stream as s

_B: Final = Scope({"daemon": "$daemon", "model": "$model"})

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
    thresholds=look.FEW_IS_WELL,
    no_value="None",
)
_TURNED_AWAY = panels.stat(
    "Turned away",
    "How many requests came without the right token?",
    Query(sum_by(_B.increase(a.AUTH_FAILURES, RANGE))),
    decimals=0,
    thresholds=look.FEW_IS_WELL,
    no_value="None",
)
_AUDIT_OK = panels.stat(
    "Audit",
    "Can the audit be written? While it cannot, nothing is done.",
    Query(min_by(_B.now(a.AUDIT_WRITABLE))),
    mappings=look.words(_0=("Not writable", look.FAULT), _1=("Writable", look.WELL)),
    no_value="No actions API",
)

_APPROVALS = tables.table(
    "Waiting for you",
    "Which tool calls wait for a person? Unanswered ones are denied when their time is over.",
    ApiQuery("approvals"),
    columns=[
        Column("asked", "Asked"),
        Column("server", "Server"),
        Column("tool", "Tool"),
        Column("rule", "Rule"),
        Column("arguments_digest", "Arguments"),
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
        Column("id", "Actions", width=300, buttons=buttons.GATES),
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
        Column("at", "When"),
        Column("actor", "Who"),
        Column("action", "What"),
        Column("subject", "Of"),
        Column("daemon", "Daemon"),
        Column("rule", "Rule"),
        Column("outcome", "Outcome"),
        Column("reason", "Why"),
    ],
    no_value="Nothing done yet",
)

BOARD: Final = Board(
    name="Toolchain",
    question="What do models do with tools, and who lets them?",
    variables=(source("prometheus", "Prometheus"), source("actions", "Actions"), DAEMON, MODEL),
    notes=NOTES,
    answer=("Tool calls asked for", "Actions refused", "Audit", "Waiting for you", "Gates"),
    sections=(
        section(
            "",
            row(4, (4, _ASKED), (4, _TOOLS), (4, _DONE), (4, _DENIED), (4, _TURNED_AWAY), (4, _AUDIT_OK)),
            row(8, (24, _APPROVALS)),
            row(8, (12, _GATES), (12, _BY_TOOL)),
        ),
        section("Use", row(7, (8, _BY_MODEL), (8, _WRITTEN), (8, _FAILURES))),
        section("Record", row(10, (24, _AUDIT))),
    ),
)
