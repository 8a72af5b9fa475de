"""Overview: is it up, busy, fast, healthy? One row per daemon."""

from __future__ import annotations

from typing import Final

from dashboards.kit import panels, tables, theme
from dashboards.kit.board import DAEMON, NOTES, Board, row, section, source
from dashboards.kit.promql import (
    RANGE,
    Scope,
    avg_by,
    coded,
    count_by,
    max_by,
    min_by,
    share,
    share_of_some,
    sum_by,
)
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from dashboards.rules.recording import CARD, FAILED
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s
from exporter.catalogue import self_metrics as o

_B: Final = Scope({"daemon": "$daemon"})

_UP = panels.stat(
    "Daemons up",
    "How many daemons answer us right now?",
    Query(sum_by(_B.now(d.UP))),
    unit="short",
)
_DOWN = panels.stat(
    "Daemons not well",
    "How many daemons are down, stalled, or refuse to be read?",
    Query(count_by(_B.now(d.UP)) - sum_by(_B.now(d.UP))),
    unit="short",
    thresholds=theme.NONE_IS_WELL,
)
_RUNNING = panels.stat(
    "Running",
    "How many requests are being worked on?",
    Query(sum_by(_B.now(d.REQUESTS_RUNNING))),
    no_value="Nothing loaded",
)
_WAITING = panels.stat(
    "Waiting",
    "How many requests wait for a free session?",
    Query(sum_by(_B.now(d.REQUESTS_WAITING))),
    thresholds=theme.FEW_IS_WELL,
    no_value="Nothing loaded",
)
_TOKENS = panels.stat(
    "Tokens per second",
    "How fast do all models together write?",
    Query(sum_by(_B.rate(s.GENERATION_TOKENS))),
    spark=True,
    decimals=1,
    no_value="No answers yet",
)
_TTFT = panels.stat(
    "First token, p95",
    "How long do 95 of 100 requests wait for their first token, at most?",
    Query(_B.quantile(0.95, s.TTFT)),
    thresholds=theme.steps(theme.WELL, (2.5, theme.ATTENTION), (10, theme.FAULT)),
    no_value="No answers yet",
)

_DAEMONS = tables.table(
    "Daemons",
    "How is each daemon? A click on its name opens what is loaded there.",
    Query(coded(_B, d.STATE, theme.DAEMON_STATES, "daemon")),
    Query(count_by(_B.now(d.INSTANCE_INFO), "daemon")),
    Query(sum_by(_B.now(d.REQUESTS_RUNNING), "daemon")),
    Query(sum_by(_B.now(d.REQUESTS_WAITING), "daemon")),
    Query(sum_by(_B.rate(s.GENERATION_TOKENS), "daemon")),
    Query(_B.quantile(0.95, s.TTFT, "daemon")),
    Query(sum_by(_B.now(h.INSTANCE_VRAM), "daemon")),
    Query(sum_by(_B.increase(d.RESTARTS, RANGE), "daemon")),
    columns=[
        Column("daemon", "Daemon", link="daemonpulse-forge?var-daemon=${__data.fields.daemon}"),
        Column("A", "State", mappings=theme.DAEMON_WORDS),
        Column("B", "Loaded"),
        Column("C", "Running"),
        Column("D", "Waiting", thresholds=theme.FEW_IS_WELL),
        Column("E", "Writing", unit="suffix: tok/s"),
        Column("F", "First token, p95", unit="s"),
        Column("G", "GPU memory", unit="bytes"),
        Column("H", "Restarts", thresholds=theme.FEW_IS_WELL),
    ],
)

_OUTCOMES = panels.series(
    "Requests by outcome",
    "How many requests end, and how?",
    Query(sum_by(_B.rate(s.REQUESTS), "finished_reason"), "{{finished_reason}}"),
    stack=True,
)
_LATENCY = panels.series(
    "First token",
    "How long until the first token comes? Dots lead to traces.",
    Query(_B.quantile(0.5, s.TTFT), "half of requests", exemplars=True),
    Query(_B.quantile(0.95, s.TTFT), "95 of 100"),
    Query(_B.quantile(0.99, s.TTFT), "99 of 100"),
)
_ERRORS = panels.series(
    "Failed requests",
    "Which share of requests fails or is given up?",
    Query(
        share_of_some(
            sum_by(_B.rate(s.REQUESTS, finished_reason=FAILED), "daemon"),
            sum_by(_B.rate(s.REQUESTS), "daemon"),
        ),
        "{{daemon}}",
    ),
    high=1,
)
_BUSY = panels.series(
    "Running and waiting",
    "Is a queue building?",
    Query(sum_by(_B.now(d.REQUESTS_RUNNING)), "running"),
    Query(sum_by(_B.now(d.REQUESTS_WAITING)), "waiting"),
)
_MEMORY = panels.bars(
    "GPU memory in use",
    "How full is each card?",
    Query(
        share(
            max_by(_B.now(h.MEMORY_USED), *CARD),
            max_by(_B.now(h.MEMORY_TOTAL), *CARD),
        ),
        "GPU {{gpu}} · {{instance}}",
    ),
    thresholds=theme.FULL,
    high=1,
)
_STATES = panels.timeline(
    "Daemon state",
    "When was each daemon down or stalled?",
    Query(coded(_B, d.STATE, theme.DAEMON_STATES, "daemon"), "{{daemon}}"),
    mappings=theme.DAEMON_WORDS,
)
_POSTURE = tables.table(
    "Exposure",
    "Who can reach the daemon, and what does it write down? Known for daemons on the exporter's machine.",
    Query(max_by(_B.now(d.AUTH_REQUIRED), "daemon")),
    Query(max_by(_B.now(d.LISTENS_BEYOND_LOOPBACK), "daemon")),
    Query(max_by(_B.now(d.SENSITIVE_LOGGING), "daemon")),
    Query(max_by(_B.now(d.JIT_LOADING), "daemon")),
    Query(max_by(_B.now(d.PROMPT_HISTORY), "daemon")),
    Query(max_by(_B.now(d.GUARDRAILS), "daemon", "mode")),
    columns=[
        Column("daemon", "Daemon"),
        Column("A", "Needs a token", mappings=theme.GUARD),
        Column("B", "Open to the network", mappings=theme.RISK),
        Column("C", "Logs prompts", mappings=theme.RISK),
        Column("D", "Loads on demand", mappings=theme.YES_NO),
        Column("E", "Prompts on disk", unit="bytes"),
        Column("mode", "Guardrail"),
    ],
)
_VERSIONS = tables.table(
    "Versions",
    "Which version runs where?",
    Query(max_by(_B.now(d.BUILD_INFO), "daemon", "version", "build", "kind")),
    columns=[
        Column("daemon", "Daemon"),
        Column("version", "Version"),
        Column("build", "Build"),
        Column("kind", "Kind"),
    ],
)
_PEERS = tables.table(
    "LM Link peers",
    "Which peers lend the daemon their models?",
    Query(max_by(_B.now(d.LINK_PEER_UP), "daemon", "peer")),
    columns=[
        Column("daemon", "Daemon"),
        Column("peer", "Peer"),
        Column("A", "Connected", mappings=theme.UP_DOWN),
    ],
    no_value="No peers",
)
_COLLECTORS = panels.bars(
    "Our collectors",
    "Does every part of DaemonPulse work? 100 % is well.",
    Query(min_by(_B.now(o.COLLECTOR_SUCCESS), "collector"), "{{collector}}"),
    unit="percentunit",
    thresholds=theme.steps(theme.FAULT, (1, theme.WELL)),
    high=1,
)
_READING = panels.series(
    "Time to read a daemon",
    "Is reading a daemon getting slow?",
    Query(avg_by(_B.now(d.SNAPSHOT_DURATION), "daemon"), "{{daemon}}"),
)
_STREAM = tables.table(
    "Log stream",
    "Do we hear every prediction? What was missed while a stream was closed is never seen.",
    Query(max_by(_B.now(s.STREAM_UP), "daemon")),
    Query(sum_by(_B.increase(s.DISCONNECTS, RANGE), "daemon")),
    Query(sum_by(_B.increase(s.GAP_SECONDS, RANGE), "daemon")),
    Query(sum_by(_B.rate(s.EVENTS), "daemon")),
    Query(sum_by(_B.increase(s.EVENTS_DROPPED, RANGE), "daemon")),
    Query(sum_by(_B.increase(s.PAIRING_MISSES, RANGE), "daemon")),
    columns=[
        Column("daemon", "Daemon"),
        Column("A", "Stream", mappings=theme.UP_DOWN),
        Column("B", "Ended"),
        Column("C", "Deaf for", unit="s"),
        Column("D", "Events", unit="suffix: /s"),
        Column("E", "Dropped", thresholds=theme.FEW_IS_WELL),
        Column("F", "Unpaired"),
    ],
)
_TROUBLE = panels.series(
    "Trouble with daemons",
    "Do connections fail, or do daemons say things we cannot read?",
    Query(
        sum_by(_B.increase(o.CONNECTION_FAILURES), "daemon", "reason"), "{{daemon}} connection: {{reason}}"
    ),
    Query(sum_by(_B.increase(o.UNREADABLE_MESSAGES), "daemon", "kind"), "{{daemon}} unreadable: {{kind}}"),
    Query(sum_by(_B.increase(o.PROTOCOL_WARNINGS), "daemon", "kind"), "{{daemon}} warning: {{kind}}"),
)
_EXPORT = panels.series(
    "Traces and logs sent",
    "Do traces and logs reach their receiver?",
    Query(sum_by(_B.rate(o.OTLP_SPANS_EXPORTED)), "spans sent"),
    Query(sum_by(_B.rate(o.OTLP_LOGS_EXPORTED)), "logs sent"),
    Query(sum_by(_B.rate(o.OTLP_SPANS_DROPPED)) + sum_by(_B.rate(o.OTLP_SPANS_FAILED)), "spans lost"),
    Query(sum_by(_B.rate(o.OTLP_LOGS_DROPPED)) + sum_by(_B.rate(o.OTLP_LOGS_FAILED)), "logs lost"),
)

BOARD: Final = Board(
    name="Overview",
    question="Is it up, busy, fast, healthy?",
    variables=(source("prometheus", "Prometheus"), DAEMON),
    notes=NOTES,
    answer=("Daemons up", "Daemons not well", "Running", "Waiting", "First token, p95", "Daemons"),
    sections=(
        section(
            "",
            row(4, (4, _UP), (4, _DOWN), (4, _RUNNING), (4, _WAITING), (4, _TOKENS), (4, _TTFT)),
            row(7, (24, _DAEMONS)),
            row(8, (12, _OUTCOMES), (12, _LATENCY)),
        ),
        section("Load", row(8, (8, _BUSY), (8, _ERRORS), (8, _MEMORY))),
        section("Each daemon", row(6, (16, _STATES), (8, _VERSIONS)), row(6, (16, _POSTURE), (8, _PEERS))),
        section(
            "DaemonPulse itself",
            row(7, (8, _COLLECTORS), (16, _STREAM)),
            row(7, (8, _READING), (8, _TROUBLE), (8, _EXPORT)),
        ),
    ),
)
