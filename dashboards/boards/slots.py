"""The section of Pulse about engines: queue, prompt cache, slots, and requests that engines failed or cut short."""

from __future__ import annotations

from typing import Any, Final

from dashboards.boards import common
from dashboards.kit import latency, plots, style, theme
from dashboards.kit.board import row, section
from dashboards.kit.panels import Viz
from dashboards.kit.promql import Expr, Selector, both, max_by, now, share, sum_by
from dashboards.kit.targets import Query
from exporter.catalogue import daemon as d
from exporter.catalogue import engine as e
from exporter.catalogue import log_stream as s

_B: Final = Selector({"daemon": "$daemon", "model": "$model"})
_D: Final = Selector({"daemon": "$daemon"})
SLOT: Final = ("instance_id", "slot")


def _by_slot(title: str, ask: str, value: Expr, **options: Any) -> Viz:
    """Draw a line per slot."""
    query = Query(max_by(value, *SLOT), "{{instance_id}} #{{slot}}")
    return plots.series(title, ask, query, short_names=True, shades=True, **options)


_WAITING_BY_MODEL = plots.series(
    "Waiting by model",
    "At which model does a queue build up?",
    Query(sum_by(_B.over("avg_over_time", d.REQUESTS_WAITING, "$__rate_interval"), "model") > 0, "{{model}}"),
    stack=True,
    short_names=True,
    shades=True,
    interval=plots.LEVEL_STEP,
)
_QUEUE_TIME = latency.percentiles(
    "Queue time",
    "How long does a request wait for a slot? Only engines that log at debug verbosity tell.",
    _B,
    e.QUEUE_TIME,
)
_CACHED: Final = sum_by(_B.rate(e.CACHED_TOKENS), "model")
_CACHE = plots.series(
    "Prompt cache hit ratio",
    "Which share of prompt tokens came from the prompt cache?",
    Query(share(_CACHED, (_CACHED + sum_by(_B.rate(e.PROCESSED_TOKENS), "model")) > 0), "{{model}}"),
    high=1,
    short_names=True,
    shades=True,
    bridged=True,
)
_CONTEXT_BY_SLOT = _by_slot(
    "Context by slot",
    "How full is the context of each slot, in tokens?",
    _B.over("max_over_time", e.SLOT_CONTEXT, "$__rate_interval"),
    bridged=True,
)
_PREFILL_PROGRESS = _by_slot(
    "Prefill progress",
    "How far through its prompt is each busy slot?",
    _B.now(s.SLOT_PROMPT_PROGRESS),
    high=1,
    interval="5s",
)
_SLOT_RATE = _by_slot(
    "Decode rate by slot",
    "How fast does each busy slot generate?",
    _B.over("avg_over_time", s.SLOT_RATE, "$__rate_interval"),
    decimals=0,
    bridged=True,
)

_PREFILL_RATE = _by_slot(
    "Prefill rate by slot",
    "How fast does each busy slot read its prompt?",
    _B.over("avg_over_time", e.SLOT_PREFILL_RATE, "$__rate_interval"),
    decimals=0,
    bridged=True,
)
_QUIET = plots.series(
    "Time since progress",
    "Does an instance with running requests make progress? Minutes mean that it is stuck.",
    Query(
        both(
            max_by((now() - _B.now(s.LAST_PROGRESS)).in_unit("seconds"), "instance_id"),
            sum_by(_B.now(d.REQUESTS_RUNNING), "instance_id") > 0,
        ),
        "{{instance_id}}",
    ),
    short_names=True,
    shades=True,
    interval="15s",
)
_REQUEST_ERRORS = plots.events(
    "Engine failures",
    "Did engines crash, fail requests, or run out of context? Cancelled: the client went away.",
    Query(sum_by(_D.increase(s.ENGINE_CRASHES), "when"), "crash while {{when}}"),
    Query(sum_by(_B.increase(e.FAILURES), "reason"), "failed: {{reason}}"),
    Query(sum_by(_B.increase(e.TRUNCATED)), "context truncated"),
    Query(sum_by(_B.increase(e.SHIFTED)), "context shifted"),
    Query(sum_by(_B.increase(e.CANCELLED)), "cancelled"),
    overrides=[
        style.matching("^crash.*", color={"mode": "shades", "fixedColor": theme.RED}),
        style.matching("^failed.*", color={"mode": "shades", "fixedColor": theme.AMBER}),
        style.line("context truncated", theme.VIOLET),
        style.line("context shifted", theme.SKY),
        style.line("cancelled", theme.SLATE),
    ],
)

SLOTS: Final = section(
    "Queue, prompt cache, slots and failures",
    row(8, (8, common.queue(_B)), (8, _WAITING_BY_MODEL), (8, _QUEUE_TIME)),
    row(8, (8, _CACHE), (8, _CONTEXT_BY_SLOT), (8, _PREFILL_PROGRESS)),
    row(8, (8, _PREFILL_RATE), (8, _SLOT_RATE), (8, _QUIET)),
    row(7, (24, _REQUEST_ERRORS)),
)
