"""Economics: what does a million tokens cost here, and would an API be cheaper? Prices are set at the top."""

from __future__ import annotations

from typing import Final

from dashboards.boards.fleet import HOST
from dashboards.kit import panels, plots, style, tables, theme
from dashboards.kit.board import DAEMON, MODEL, NOTES, Board, Variable, row, section, source
from dashboards.kit.labels import hosted
from dashboards.kit.promql import (
    RANGE,
    Expr,
    Scope,
    avg_by,
    count_by,
    either,
    max_by,
    share,
    sum_by,
    variable,
)
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from dashboards.rules.recording import GPU
from exporter.catalogue import energy as e
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s

_B: Final = Scope({"daemon": "$daemon", "model": "$model", "instance": "$host"})

_GPU_HOUR: Final = Variable(
    "gpu_hour",
    "USD per GPU hour",
    "textbox",
    default="0.40",
    about="Rent, or price over lifetime. 0.40 is a 3,500 USD GPU written off in a year of use.",
)
_KWH: Final = Variable("kwh", "USD per kWh", "textbox", default="0.30", about="Price of electricity.")
_API: Final = Variable(
    "api",
    "API USD per 1M tokens",
    "custom",
    "2,5,10,15,20,30,45,60",
    default="15",
    about="Price of output tokens at an API to compare with.",
)

_SECONDS_PER_HOUR: Final = 3600
_JOULES_PER_KWH: Final = 3.6e6
_MILLION: Final = 1_000_000
_DAY_S: Final = 86_400
_USD: Final = "currencyUSD"
_STEADY: Final = "15m"
"""Window of costs over time: a rate per token over less is noise."""


def _gpus() -> Expr:
    return count_by(_B.now(h.DEVICE_INFO))


def _watts(window: str) -> Expr:
    """Take the mean power: from the GPUs' energy counters, else from their power, else 0: then only time costs."""
    measured = sum_by(_B.rate(e.GPU, window)).in_unit("watts")
    sampled = sum_by(_B.over("avg_over_time", h.POWER, window))
    return either(either(measured, sampled), _gpus() * 0).in_unit("watts")


def _usd_per_second(window: str) -> Expr:
    return _gpus() * variable("gpu_hour") / _SECONDS_PER_HOUR + _watts(window) / _JOULES_PER_KWH * variable(
        "kwh"
    )


def _tokens_per_second(window: str) -> Expr:
    return sum_by(_B.rate(s.GENERATION_TOKENS, window))


def _usd_per_million(window: str) -> Expr:
    return _usd_per_second(window) / (_tokens_per_second(window) > 0) * _MILLION


_COST = panels.stat(
    "Cost per 1M tokens",
    "What did a million output tokens cost in this time, GPUs and electricity together?",
    Query(_usd_per_million(RANGE), "output tokens"),
    unit=_USD,
    decimals=2,
    spark=False,
)
_VERSUS = panels.stat(
    "Of API price",
    "How does that compare with the API? Below 100 % this is cheaper.",
    Query(_usd_per_million(RANGE) / variable("api"), "API price is 100 %"),
    unit="percentunit",
    thresholds=theme.steps(theme.INDIGO, (1, theme.AMBER)),
    decimals=0,
    spark=False,
)
_SAVED = panels.stat(
    "Saved per day",
    "What would the API have cost more, per day at this pace? Negative: it would have been cheaper.",
    Query(
        (_tokens_per_second(RANGE) / _MILLION * variable("api") - _usd_per_second(RANGE)) * _DAY_S,
        "at this pace",
    ),
    unit=_USD,
    decimals=2,
    spark=False,
)
_EVEN = panels.stat(
    "Break-even per day",
    "How many output tokens per day are needed to be as cheap as the API?",
    Query(_usd_per_second(RANGE) * _DAY_S / variable("api") * _MILLION, "output tokens"),
    unit="short",
    decimals=1,
    spark=False,
)
_JOULES = panels.stat(
    "Energy per output token",
    "How much energy does one output token take?",
    Query((_watts(RANGE) / (_tokens_per_second(RANGE) > 0)).in_unit("joules"), "output tokens"),
    decimals=1,
    spark=False,
)
_USED = panels.stat(
    "GPU utilization",
    "Which share of the time do the GPUs work? Idle GPUs cost the same.",
    Query(avg_by(_B.over("avg_over_time", h.UTILIZATION, RANGE)), "mean of all GPUs"),
    decimals=0,
    spark=False,
)
_COST_OVER_TIME = plots.series(
    "Cost per 1M tokens",
    "When is it cheap, and when not? Dashed: the API.",
    Query(_usd_per_million(_STEADY), "here"),
    Query(_gpus() * 0 + variable("api"), "API"),
    unit=_USD,
    overrides=[style.line("here", custom__lineWidth=2), style.limit("API")],
    bridged=True,
)
_SPENT = plots.series(
    "Cost per hour",
    "What do GPUs and electricity cost?",
    Query(_gpus() * variable("gpu_hour"), "GPUs"),
    Query(_watts(_STEADY) / 1000 * variable("kwh"), "electricity"),
    unit=_USD,
    stack=True,
    overrides=[style.line("GPUs", theme.SLATE), style.line("electricity")],
)
_JOULES_OVER_TIME = plots.series(
    "Energy per output token",
    "Does batching pay? More requests at once mean less energy per token.",
    Query((_watts(_STEADY) / (_tokens_per_second(_STEADY) > 0)).in_unit("joules"), "per output token"),
    bridged=True,
)
_POWER = plots.series(
    "Power by GPU",
    "Where does the electricity go?",
    Query(
        hosted(max_by(_B.over("avg_over_time", h.POWER, "$__rate_interval"), *GPU)), "{{host}} GPU {{gpu}}"
    ),
    stack=True,
    overrides=style.GPUS,
    interval=plots.LEVEL_STEP,
)
_TOKENS: Final = sum_by(_B.increase(s.GENERATION_TOKENS, RANGE), "model")
_MODELS = tables.table(
    "Models",
    "Which models are worth their VRAM? Value: what the API would have charged. Reasoning is estimated.",
    Query(_TOKENS > 0),
    Query(_TOKENS / _MILLION * variable("api")),
    Query(share(sum_by(_B.increase(s.REASONING_TOKENS, RANGE), "model"), _TOKENS)),
    Query(sum_by(_B.now(h.INSTANCE_VRAM), "model")),
    columns=[
        Column("model", "Model"),
        Column("A", "Output tokens", unit="short", width=110),
        Column("B", "API value", unit=_USD, decimals=2, width=90),
        Column("C", "Reasoning share", unit="percentunit", decimals=0, gauge_to=1, thresholds=theme.PLAIN),
        Column("D", "VRAM now", unit="bytes", decimals=1, width=100),
    ],
    largest="Output tokens",
)

BOARD: Final = Board(
    name="Economics",
    question="What does a million tokens cost here, and would an API be cheaper?",
    variables=(source("prometheus", "Prometheus"), HOST, DAEMON, MODEL, _GPU_HOUR, _KWH, _API),
    notes=NOTES,
    answer=(
        "Cost per 1M tokens",
        "Of API price",
        "Saved per day",
        "Break-even per day",
        "Energy per output token",
    ),
    sections=(
        section(
            "",
            row(4, (4, _COST), (4, _VERSUS), (4, _SAVED), (4, _EVEN), (4, _JOULES), (4, _USED)),
            row(8, (12, _COST_OVER_TIME), (12, _MODELS)),
            row(7, (8, _SPENT), (8, _JOULES_OVER_TIME), (8, _POWER)),
        ),
    ),
)
