"""Pulse: how fast do models answer, and where does the time go? Every prediction, from the daemon's log stream."""

from __future__ import annotations

from typing import Final

from dashboards.boards import common
from dashboards.boards.clients import CLIENTS
from dashboards.boards.live import LIVE, REQUEST
from dashboards.boards.slots import SLOTS
from dashboards.boards.traces import CONVERSATION, SLOW, TRACES
from dashboards.kit import latency, panels, plots, style, tables, theme
from dashboards.kit.board import NOTES, Board, row, section
from dashboards.kit.promql import RANGE, Expr, Selector, both, either, max_by, most, share, sum_by, unless
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from dashboards.kit.variables import DAEMON, MODEL, SITE, source
from dashboards.rules.recording import TPOT_S, error_rate
from exporter.catalogue import daemon as d
from exporter.catalogue import log_stream as s

_B: Final = Selector({"daemon": "$daemon", "model": "$model"})

_E2E_NOW = panels.stat(
    "E2E latency p95",
    "How long does a whole request take? 95 % took at most this.",
    Query(_B.quantile(0.95, s.E2E, window="5m"), "last 5 min"),
)
_TPOT = latency.percentiles(
    "TPOT", "How long does each later token take? Dashed: objective.", _B, s.PER_TOKEN, objective=TPOT_S
)
_E2E = latency.percentiles("E2E latency", "How long from start to last token?", _B, s.E2E)
_SLOT: Final = ("instance_id", "slot")
_BUSY: Final = max_by(_B.now(s.SLOT_BUSY), *_SLOT)
_PREFILL: Final = max_by(_B.now(s.SLOT_PROMPT_PROGRESS), *_SLOT).below(1)
_SLOTS = plots.timeline(
    "Slots",
    "How full is the batch? The 8 busiest slots, and engines without slots. A scrape misses short prefills.",
    Query(
        both(_BUSY + either(_PREFILL, _BUSY * 0), most(8, max_by(_B.whole(s.SLOT_BUSY), *_SLOT))),
        "{{instance_id}} #{{slot}}",
    ),
    Query(
        unless(
            sum_by(_B.now(d.REQUESTS_RUNNING), "instance_id").above(0),
            _B.now(s.SLOT_BUSY),
            "instance_id",
        ),
        "{{instance_id}}",
    ),
    mappings=theme.SLOT_BANDS,
    interval="5s",
    short_names=True,
)


def _mean(seconds: Expr) -> Expr:
    return (seconds / sum_by(_B.rate_of_count(s.E2E))).in_unit("seconds")


_TTFT_SUM: Final = sum_by(_B.rate_of_sum(s.TTFT))
_E2E_SUM: Final = sum_by(_B.rate_of_sum(s.E2E))
_REASONED: Final = either(sum_by(_B.rate_of_sum(s.REASONING_SECONDS)), _E2E_SUM * 0)
_PHASES = plots.series(
    "Mean request time by phase",
    "Where does the time of a request go? Reasoning is estimated.",
    Query(_mean(_TTFT_SUM), "Prefill"),
    Query(_mean(_REASONED), "Reasoning"),
    Query(_mean(_E2E_SUM - _TTFT_SUM - _REASONED), "Answer"),
    stack=True,
    bridged=True,
    overrides=style.colored({name: theme.PHASES[name] for name in ("Prefill", "Reasoning", "Answer")}),
)

_TTFT_MAP = plots.heatmap("TTFT distribution", "Are there two kinds of requests?", Query(_B.heat(s.TTFT)))
_E2E_MAP = plots.heatmap("E2E latency distribution", "How are durations spread?", Query(_B.heat(s.E2E)))
_PROMPT_MAP = plots.heatmap(
    "Prompt length distribution", "How long are prompts?", Query(_B.heat(s.REQUEST_PROMPT_TOKENS))
)
_OWN_RATE = latency.percentiles(
    "Decode rate per request",
    "How fast is one answer generated, as its reader sees it?",
    _B,
    s.TOKENS_PER_SECOND,
)

_CONTEXT_MAP = plots.heatmap(
    "Context fill",
    "Do requests come close to the end of their context?",
    Query(_B.heat(s.CONTEXT_UTILIZATION)),
)
_ANSWER_SIZE = latency.percentiles(
    "Output length", "How long are outputs, reasoning included?", _B, s.REQUEST_GENERATION_TOKENS, decimals=0
)
_PROMPT_SIZE = latency.percentiles(
    "Prompt length", "How long are prompts?", _B, s.REQUEST_PROMPT_TOKENS, decimals=0
)

_MODELS = tables.table(
    "Models",
    "How did each model perform in this time?",
    Query(sum_by(_B.increase(s.REQUESTS, RANGE), "model") > 0),
    Query(sum_by(_B.rate(s.GENERATION_TOKENS, RANGE), "model")),
    Query(_B.quantile(0.5, s.TTFT, "model", window=RANGE)),
    Query(_B.quantile(0.95, s.TTFT, "model", window=RANGE)),
    Query(_B.quantile(0.95, s.PER_TOKEN, "model", window=RANGE)),
    Query(_B.quantile(0.95, s.E2E, "model", window=RANGE)),
    Query(error_rate(_B, "model", window=RANGE)),
    columns=[
        Column("model", "Model"),
        Column("A", "Requests", decimals=0, width=95),
        Column("B", "Output tok/s", decimals=1, width=110),
        Column("C", "TTFT p50", unit="s", width=100),
        Column("D", "TTFT p95", unit="s", width=100, thresholds=common.TTFT_CELL),
        Column("E", "TPOT p95", unit="s", width=100),
        Column("F", "E2E p95", unit="s", width=100),
        Column("G", "Error rate", unit="percentunit", decimals=1, width=100, thresholds=common.ERROR_CELL),
    ],
    largest="Requests",
)
_TOKENS = plots.series(
    "Tokens/s",
    "How much is read, and how much is generated? Reasoning is estimated.",
    Query(sum_by(_B.rate(s.PROMPT_TOKENS)), "prompt"),
    Query(
        sum_by(_B.rate(s.GENERATION_TOKENS)) - sum_by(_B.rate(s.REASONING_TOKENS)),
        "answer",
    ),
    Query(sum_by(_B.rate(s.REASONING_TOKENS)), "reasoning"),
    overrides=style.colored({name: theme.TOKENS[name] for name in ("prompt", "answer", "reasoning")}),
    decimals=0,
)
_REASONING = plots.series(
    "Reasoning share",
    "How much of what a model generates is reasoning? Estimated from characters.",
    Query(
        share(
            sum_by(_B.rate(s.REASONING_TOKENS), "model"), sum_by(_B.rate(s.GENERATION_TOKENS), "model") > 0
        ),
        "{{model}}",
    ),
    high=1,
    short_names=True,
    shades=True,
    bridged=True,
)
_REASONING_TIME = latency.percentiles(
    "Reasoning time", "How long does a model reason before it answers? Estimated.", _B, s.REASONING_SECONDS
)
_ACCEPTED = plots.series(
    "Draft acceptance rate",
    "Which share of draft tokens is accepted? Below about a third the draft model costs more than it saves.",
    Query(
        share(sum_by(_B.rate(s.ACCEPTED_TOKENS), "model"), sum_by(_B.rate(s.DRAFT_TOKENS), "model") > 0),
        "{{model}}",
    ),
    high=1,
    short_names=True,
    shades=True,
    bridged=True,
)

BOARD: Final = Board(
    name="Pulse",
    question="How fast do models answer, and where does the time go?",
    variables=(
        source("prometheus", "Prometheus"),
        source("tempo", "Tempo"),
        source("actions", "Actions"),
        SITE,
        DAEMON,
        MODEL,
        SLOW,
        CONVERSATION,
        REQUEST,
    ),
    notes=NOTES,
    since="now-30m",
    answer=("Output tok/s", "TTFT p95", "TPOT p95", "Error rate", "TTFT", "TPOT", "E2E latency", "Slots"),
    sections=(
        section(
            "",
            row(
                5,
                (4, common.output_stat(_B)),
                (4, common.ttft_stat(_B)),
                (4, common.tpot_stat(_B)),
                (4, _E2E_NOW),
                (4, common.waiting_stat(_B)),
                (4, common.error_rate_stat(_B)),
            ),
            row(7, (6, common.ttft(_B)), (6, _TPOT), (6, _E2E), (6, common.output_by_model(_B))),
            row(7, (15, _SLOTS), (9, _PHASES)),
        ),
        LIVE,
        section("Models", row(7, (24, _MODELS))),
        section(
            "Distributions",
            row(8, (8, _TTFT_MAP), (8, _E2E_MAP), (8, _PROMPT_MAP)),
            row(8, (12, _OWN_RATE), (12, _CONTEXT_MAP)),
        ),
        SLOTS,
        section(
            "Tokens and finish reasons",
            row(8, (12, _TOKENS), (12, common.finish_reasons(_B))),
            row(8, (12, _PROMPT_SIZE), (12, _ANSWER_SIZE)),
        ),
        section(
            "Reasoning and speculative decoding",
            row(8, (8, _REASONING), (8, _REASONING_TIME), (8, _ACCEPTED)),
        ),
        TRACES,
        CLIENTS,
    ),
)
