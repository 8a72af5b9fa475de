"""Pulse: how fast does it answer, and where does the time go? Every prediction, from the daemon's log stream."""

from __future__ import annotations

from typing import Final

from dashboards.kit import panels, tables, theme
from dashboards.kit.board import DAEMON, MODEL, NOTES, Board, row, section, source
from dashboards.kit.promql import Scope, max_by, share, share_of_some, sum_by
from dashboards.kit.targets import Query, TraceQuery
from dashboards.rules.recording import FAILED
from exporter.catalogue import Metric
from exporter.catalogue import daemon as d
from exporter.catalogue import log_stream as s

_B: Final = Scope({"daemon": "$daemon", "model": "$model"})


def _percentiles(title: str, ask: str, metric: Metric) -> panels.Viz:
    return panels.series(
        title,
        ask,
        Query(_B.quantile(0.5, metric), "half of requests", exemplars=True),
        Query(_B.quantile(0.95, metric), "95 of 100"),
        Query(_B.quantile(0.99, metric), "99 of 100"),
    )


_TOKENS = panels.stat(
    "Tokens per second",
    "How fast do the models write, all together?",
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
_PER_TOKEN = panels.stat(
    "Per token, p95",
    "How long does each later token take? 0.1 s is as fast as most people read.",
    Query(_B.quantile(0.95, s.PER_TOKEN)),
    thresholds=theme.steps(theme.WELL, (0.1, theme.ATTENTION), (0.5, theme.FAULT)),
    no_value="No answers yet",
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
_FAILED = panels.stat(
    "Failed",
    "Which share of requests fails or is given up?",
    Query(share_of_some(sum_by(_B.rate(s.REQUESTS, finished_reason=FAILED)), sum_by(_B.rate(s.REQUESTS)))),
    thresholds=theme.steps(theme.WELL, (0.05, theme.ATTENTION), (0.2, theme.FAULT)),
    no_value="No answers yet",
)

_SPEED = panels.series(
    "Tokens per second by model",
    "Which model writes how much?",
    Query(sum_by(_B.rate(s.GENERATION_TOKENS), "model"), "{{model}}"),
    stack=True,
)
_TTFT_OVER_TIME = _percentiles("First token", "How long until the first token? Dots lead to traces.", s.TTFT)
_PER_TOKEN_OVER_TIME = _percentiles("Per token", "How long does each later token take?", s.PER_TOKEN)
_E2E = _percentiles("Whole request", "How long from start to last token?", s.E2E)
_OWN_RATE = _percentiles(
    "Rate of one request", "How fast is one answer written, as its reader sees it?", s.TOKENS_PER_SECOND
)
_TTFT_MAP = panels.heatmap(
    "First token, all requests", "Are there two kinds of requests?", Query(_B.heat(s.TTFT))
)
_E2E_MAP = panels.heatmap("Whole request, all requests", "How are durations spread?", Query(_B.heat(s.E2E)))

_QUEUE = panels.series(
    "Running and waiting",
    "Is a queue building, and at which model?",
    Query(sum_by(_B.now(d.REQUESTS_RUNNING), "model"), "{{model}} running"),
    Query(sum_by(_B.now(d.REQUESTS_WAITING), "model"), "{{model}} waiting"),
)
_SLOTS = panels.timeline(
    "Slots",
    "Which slots of the batch work, and which are free?",
    Query(max_by(_B.now(s.SLOT_BUSY), "daemon", "instance_id", "slot"), "{{instance_id}} slot {{slot}}"),
    mappings=theme.SLOT_WORDS,
)
_SLOT_COUNT = panels.stat(
    "Slots seen",
    "How many slots has each instance's engine?",
    Query(max_by(_B.now(s.SLOTS), "daemon", "instance_id"), "{{instance_id}}"),
    no_value="No batching seen",
)
_PREFILL = panels.series(
    "Prompt read",
    "How far is each busy slot through its prompt?",
    Query(
        max_by(_B.now(s.SLOT_PROMPT_PROGRESS), "daemon", "instance_id", "slot"),
        "{{instance_id}} slot {{slot}}",
    ),
    high=1,
)
_SLOT_RATE = panels.series(
    "Rate by slot",
    "How fast does each busy slot write?",
    Query(max_by(_B.now(s.SLOT_RATE), "daemon", "instance_id", "slot"), "{{instance_id}} slot {{slot}}"),
    stack=True,
)

_FINISH = panels.series(
    "How requests end",
    "Do answers end by themselves, or are they cut off?",
    Query(sum_by(_B.rate(s.REQUESTS), "finished_reason"), "{{finished_reason}}"),
    stack=True,
)
_FLOW = panels.series(
    "Tokens in and out",
    "How much is read, and how much is written?",
    Query(sum_by(_B.rate(s.PROMPT_TOKENS)), "read (prompt)"),
    Query(sum_by(_B.rate(s.GENERATION_TOKENS)), "written"),
    Query(sum_by(_B.rate(s.REASONING_TOKENS)), "of it reasoning, estimated"),
)
_REASONING = panels.series(
    "Reasoning, share of tokens",
    "How much of what a model writes is thinking? Estimated from characters.",
    Query(
        share(sum_by(_B.rate(s.REASONING_TOKENS), "model"), sum_by(_B.rate(s.GENERATION_TOKENS), "model")),
        "{{model}}",
    ),
    high=1,
)
_REASONING_TIME = _percentiles(
    "Reasoning, time", "How long does a model think before it answers? Estimated.", s.REASONING_SECONDS
)
_REASONING_SHARE = panels.stat(
    "Reasoning, share of time",
    "How much of the time that requests take is thinking? Estimated.",
    Query(
        share(
            sum_by(_B.rate_of_sum(s.REASONING_SECONDS)),
            sum_by(_B.rate_of_sum(s.E2E)),
        )
    ),
    unit="percentunit",
    no_value="No reasoning seen",
)
_ACCEPTED = panels.series(
    "Draft tokens accepted",
    "Does the draft model pay? Below about a third it costs more than it saves.",
    Query(
        share(sum_by(_B.rate(s.ACCEPTED_TOKENS), "model"), sum_by(_B.rate(s.DRAFT_TOKENS), "model")),
        "{{model}}",
    ),
    high=1,
)
_PRESSURE = panels.heatmap(
    "Context filled",
    "Do requests come close to the end of their context?",
    Query(_B.heat(s.CONTEXT_UTILIZATION)),
)
_PROMPT_SIZE = _percentiles("Prompt size", "How long are prompts?", s.REQUEST_PROMPT_TOKENS)
_ANSWER_SIZE = _percentiles(
    "Answer size", "How long are answers, reasoning included?", s.REQUEST_GENERATION_TOKENS
)

_ROOTS: Final = (
    '{resource.service.name="llmster" && resource.llmster.daemon=~"$daemon"'
    ' && span.gen_ai.request.model=~"$model"}'
)
_TRACES = tables.traces(
    "Slow requests",
    "What happened in single requests? A click shows reading, reasoning, answer and tool calls.",
    TraceQuery(_ROOTS + " | select(span.gen_ai.usage.output_tokens, span.gen_ai.response.finish_reasons)"),
)
_THINKING = tables.traces(
    "Longest reasoning",
    "Which requests thought longest? Times inside an answer are estimated.",
    TraceQuery(
        '{resource.service.name="llmster" && resource.llmster.daemon=~"$daemon" && name="reasoning"}'
        " | select(span.daemonpulse.reasoning.tokens_estimated, span.daemonpulse.timing)",
        table="spans",
    ),
)

BOARD: Final = Board(
    name="Pulse",
    question="How fast does it answer, and where does the time go?",
    variables=(source("prometheus", "Prometheus"), source("tempo", "Tempo"), DAEMON, MODEL),
    notes=NOTES,
    answer=(
        "Tokens per second",
        "First token, p95",
        "Per token, p95",
        "Waiting",
        "Tokens per second by model",
    ),
    sections=(
        section(
            "",
            row(4, (4, _TOKENS), (4, _TTFT), (4, _PER_TOKEN), (4, _RUNNING), (4, _WAITING), (4, _FAILED)),
            row(8, (12, _SPEED), (12, _TTFT_OVER_TIME)),
            row(8, (12, _PER_TOKEN_OVER_TIME), (12, _E2E)),
        ),
        section("Spread", row(8, (12, _TTFT_MAP), (12, _E2E_MAP)), row(8, (12, _OWN_RATE), (12, _QUEUE))),
        section("Batching", row(8, (18, _SLOTS), (6, _SLOT_COUNT)), row(7, (12, _PREFILL), (12, _SLOT_RATE))),
        section(
            "Tokens",
            row(8, (12, _FLOW), (12, _FINISH)),
            row(8, (10, _REASONING), (10, _REASONING_TIME), (4, _REASONING_SHARE)),
            row(8, (12, _ACCEPTED), (12, _PRESSURE)),
            row(8, (12, _PROMPT_SIZE), (12, _ANSWER_SIZE)),
        ),
        section("Traces", row(9, (14, _TRACES), (10, _THINKING))),
    ),
)
