"""Toolchain: what do models do with tools, and who permits it? Approvals and policy, with the buttons for both."""

from __future__ import annotations

from typing import Final

from dashboards.boards import common
from dashboards.kit import buttons, panels, plots, style, tables, theme
from dashboards.kit.board import NOTES, Board, row, section
from dashboards.kit.promql import RANGE, Selector, either, max_by, min_by, share_of_some, sum_by
from dashboards.kit.tables import Column
from dashboards.kit.targets import ApiQuery, Query
from dashboards.kit.variables import DAEMON, MODEL, SITE, source
from exporter.catalogue import actions as a
from exporter.catalogue import log_stream as s
from exporter.catalogue import mcp as m

_B: Final = Selector({"daemon": "$daemon", "model": "$model"})

_PENDING = panels.counts(
    "Pending approvals",
    "How many tool calls wait for a person, and how did others end in this time?",
    Query(sum_by(_B.now(m.APPROVALS_PENDING)), "pending"),
    Query(sum_by(_B.increase(m.APPROVALS, RANGE, outcome="approved")), "approved"),
    Query(sum_by(_B.increase(m.APPROVALS, RANGE, outcome="denied")), "denied"),
    Query(sum_by(_B.increase(m.APPROVALS, RANGE, outcome="expired")), "expired"),
    marks={"pending": theme.ANY_AMBER},
)
_APPROVALS = tables.table(
    "Pending calls",
    "Which tool calls wait for a person? Without an answer they are denied when their time is over.",
    ApiQuery("approvals"),
    columns=[
        Column("tool", "Tool", width=120),
        Column("id", "Actions", width=210, buttons=(buttons.APPROVE, buttons.DENY)),
        Column("server", "Server", width=90),
        Column("arguments", "Arguments"),
        Column("reason", "Reason", width=110),
        Column("expires_in_seconds", "Time left", unit="s", decimals=0, width=100),
    ],
    smallest="Time left",
)
_CALLS = plots.events(
    "Calls by decision",
    "What does the policy decide?",
    Query(sum_by(_B.increase(m.TOOL_CALLS), "decision"), "{{decision}}"),
    overrides=style.colored({"allow": theme.INDIGO, "ask": theme.VIOLET, "deny": theme.SLATE}),
)
_GUARD = panels.counts(
    "Policy",
    "Is the policy file in force (1)? Are there servers without policy, changed tools, denied calls?",
    Query(min_by(_B.now(m.POLICY_LOADED)), "policy in force"),
    Query(sum_by(_B.now(m.CONFIG_DRIFT)), "ungated servers"),
    Query(sum_by(_B.now(m.TOOL_CHANGED)), "changed tools"),
    Query(
        either(
            sum_by(_B.increase(m.TOOL_CALLS, RANGE, outcome="refused")),
            sum_by(_B.increase(m.TOOL_CALLS, RANGE)) * 0,
        ),
        "denied calls",
    ),
    marks={
        "policy in force": theme.steps(theme.AMBER, (1, theme.TEXT)),
        "ungated servers": theme.ANY_RED,
        "changed tools": theme.ANY_AMBER,
    },
)
_RECORD = panels.counts(
    "Actions",
    "Were actions denied or requests rejected, and can the audit log be written (1)?",
    Query(min_by(_B.now(a.AUDIT_WRITABLE)), "audit log writable"),
    Query(sum_by(_B.increase(a.ACTIONS, RANGE, outcome="denied")), "denied actions"),
    Query(sum_by(_B.increase(a.AUTH_FAILURES, RANGE)), "rejected requests"),
    marks={
        "audit log writable": theme.steps(theme.RED, (1, theme.TEXT)),
        "rejected requests": theme.ANY_AMBER,
    },
)
_POLICY = tables.table(
    "Tool policy",
    "Which tools run without being asked about? A tool whose description changed asks again.",
    ApiQuery("gates"),
    columns=[
        Column("tool", "Tool", width=160),
        Column("id", "Actions", width=370, buttons=buttons.GATES),
        Column("server", "Server", width=103),
        Column("decision", "Decision", width=90),
        Column("changed", "Changed", width=85, mappings=theme.TRUE_FALSE),
        Column("set_by", "Set by", width=100),
        Column("rule", "Rule", width=121),
        Column("definition_sha256", "Definition", width=95),
        Column("description", "Description"),
    ],
)
_SERVERS = tables.table(
    "Tool servers",
    "Is each tool server connected, and did starting it fail?",
    Query(max_by(_B.now(m.SERVER_UP), "server")),
    Query(sum_by(_B.increase(m.SERVER_STARTS, RANGE, outcome="failed"), "server")),
    Query(sum_by(_B.increase(m.RESULTS_CAPPED, RANGE), "server")),
    Query(sum_by(_B.increase(m.ITEMS_DROPPED, RANGE), "server")),
    Query(sum_by(_B.increase(s.PLUGIN_MESSAGES, RANGE, kind="error"), "server")),
    columns=[
        Column("server", "Server"),
        Column("A", "State", width=70, mappings=theme.UP_DOWN),
        Column("B", "Failed starts", decimals=0, width=105, thresholds=common.ANY_CELL),
        Column("C", "Truncated", decimals=0, width=90),
        Column("D", "Dropped", decimals=0, width=85, thresholds=common.ANY_CELL),
        Column("E", "Log errors", decimals=0, width=90, thresholds=common.ANY_CELL),
    ],
)
_BY_TOOL = plots.events(
    "Calls by tool",
    "Which tools are called?",
    Query(sum_by(_B.increase(m.TOOL_CALLS), "server", "tool") > 0, "{{tool}} ({{server}})"),
    overrides=style.NAMES,
)
_LATENCY = plots.series(
    "Tool latency p95",
    "Which tool is slow?",
    Query(_B.quantile(0.95, m.TOOL_CALL_DURATION, "server", "tool"), "{{tool}} ({{server}})", exemplars=True),
    overrides=style.NAMES,
    bridged=True,
)
_GATE = plots.series(
    "Gate latency p95",
    "How long does each MCP request take at the gate, waits for an approval included?",
    Query(_B.quantile(0.95, m.SERVER_OPERATION_DURATION, "mcp_method_name"), "{{mcp_method_name}}"),
    shades=True,
    bridged=True,
)
_OUTCOMES = plots.events(
    "Calls by outcome",
    "What came of the calls?",
    Query(sum_by(_B.increase(m.TOOL_CALLS), "outcome"), "{{outcome}}"),
    overrides=style.colored(theme.CALLS),
    shades=True,
)
_ASKED = plots.events(
    "Generated tool calls",
    "Which tools do models ask for?",
    Query(sum_by(_B.increase(s.TOOL_CALLS), "tool") > 0, "{{tool}}"),
    overrides=style.NAMES,
)
_BY_MODEL = panels.bars(
    "Tool calls by model",
    "Which models ask for tools?",
    Query(sum_by(_B.increase(s.TOOL_CALLS, RANGE), "model"), "{{model}}"),
    decimals=0,
    transformations=plots.SHORT_NAMES,
)
_SHARE = plots.series(
    "Requests with tool calls",
    "Which share of requests ends with a tool call?",
    Query(
        share_of_some(
            sum_by(_B.rate(s.REQUESTS, finished_reason="tool_calls"), "model"),
            sum_by(_B.rate(s.REQUESTS), "model"),
        ),
        "{{model}}",
    ),
    high=1,
    short_names=True,
    shades=True,
    bridged=True,
)
_REJECTED = plots.events(
    "Rejected requests",
    "Do requests arrive with a missing, wrong or too weak token?",
    Query(sum_by(_B.increase(a.AUTH_FAILURES), "reason"), "{{reason}}"),
    shades=True,
)
_ENTRIES = plots.events(
    "Audit entries",
    "How much is recorded?",
    Query(sum_by(_B.increase(a.AUDIT_ENTRIES), "kind"), "{{kind}}"),
    shades=True,
)
_HEAD = tables.table(
    "Audit head",
    "Which row is the last? `audit verify --head` takes sequence and fingerprint. Sampled: denials only counted.",
    Query(max_by(_B.now(a.AUDIT_HEAD_SEQUENCE), "instance")),
    Query(max_by(_B.now(a.AUDIT_HEAD_FINGERPRINT), "instance")),
    Query(max_by(_B.increase(a.AUDIT_DENIALS_SAMPLED, RANGE), "instance")),
    columns=[
        Column("instance", "Address"),
        Column("A", "Sequence", unit="none", decimals=0, width=90),
        Column("B", "Fingerprint", unit="none", decimals=0, width=160),
        Column("C", "Sampled", decimals=0, width=85, thresholds=common.ANY_CELL),
    ],
)
_AUDIT = tables.table(
    "Audit log",
    "Who did what, when, and what came of it?",
    ApiQuery("audit"),
    columns=[
        Column("at_ms", "Time", unit="dateTimeAsIso", width=165),
        Column("person", "User", width=100),
        Column("actor", "Token", width=110),
        Column("action", "Action", width=120),
        Column("subject", "Target", width=220),
        Column("kind", "Entry", width=90),
        Column("detail", "Detail"),
    ],
    largest="Time",
)

BOARD: Final = Board(
    name="Toolchain",
    question="What do models do with tools, and who permits it?",
    variables=(source("prometheus", "Prometheus"), source("actions", "Actions"), SITE, DAEMON, MODEL),
    notes=NOTES,
    answer=("Pending approvals", "Pending calls", "Policy", "Tool policy", "Calls by decision"),
    sections=(
        section(
            "",
            row(6, (5, _PENDING), (19, _APPROVALS)),
            row(5, (5, _GUARD), (5, _RECORD), (14, _CALLS)),
            row(8, (24, _POLICY)),
        ),
        section(
            "Calls", row(8, (8, _BY_TOOL), (8, _OUTCOMES), (8, _LATENCY)), row(7, (15, _SERVERS), (9, _GATE))
        ),
        section("Models", row(8, (8, _ASKED), (8, _BY_MODEL), (8, _SHARE))),
        section("Audit log", row(10, (24, _AUDIT)), row(7, (8, _ENTRIES), (7, _REJECTED), (9, _HEAD))),
    ),
)
