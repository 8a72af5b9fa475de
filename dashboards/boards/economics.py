"""Economics: what do tokens cost here in money, energy and carbon, and would an API be cheaper? The reader sets prices.

Energy comes from the energy ledger (docs/ENERGY.md), else from the power of the GPUs; where neither is known, only the
price of the GPUs counts. So that there is a cost wherever tokens are.
"""

from __future__ import annotations

from typing import Final

from dashboards.boards import common
from dashboards.boards.clients import ENERGY
from dashboards.kit import latency, panels, plots, style, tables, theme
from dashboards.kit.board import NOTES, Board, row, section
from dashboards.kit.labels import hosted
from dashboards.kit.promql import (
    RANGE,
    Expr,
    Selector,
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
from dashboards.kit.variables import DAEMON, HOST, SITE, Variable, source
from dashboards.rules.recording import GPU
from exporter.catalogue import daemon as d
from exporter.catalogue import energy as e
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s

_B: Final = Selector({"daemon": "$daemon", "instance": "$host"})

_GPU_HOUR: Final = Variable(
    "gpu_hour",
    "USD/GPU hour",
    "textbox",
    default="0.40",
    about="Rent, or price over lifetime. 0.40 is a 3,500 USD GPU written off in a year of use.",
)
_KWH: Final = Variable("kwh", "USD/kWh", "textbox", default="0.30", about="Price of electricity.")
_CARBON: Final = Variable(
    "carbon", "gCO2/kWh", "textbox", default="350", about="Carbon intensity of your grid."
)
_API: Final = Variable(
    "api",
    "API USD/1M",
    "custom",
    "2,5,10,15,20,30,45,60",
    default="15",
    about="Price of output tokens at an API to compare with.",
)

_SECONDS_PER_HOUR: Final = 3600
_MILLION: Final = 1_000_000
_DAY_S: Final = 86_400
_USD: Final = "currencyUSD"
_STEADY: Final = "15m"
"""Window of costs over time: a rate per token over less is noise."""


def _gpus() -> Expr:
    """Count the GPUs; where none is known, each daemon counts as one."""
    return either(count_by(_B.now(h.DEVICE_INFO)), count_by(_B.now(d.UP)))


def _watts(window: str) -> Expr:
    """Take the mean power: of each GPU by its energy, else by its power; where neither is known 0: only time costs."""
    measured = sum_by(_B.rate(e.GPU, window), *GPU)
    sampled = max_by(_B.over("avg_over_time", h.POWER, window), *GPU)
    return either(sum_by(either(measured, sampled)), _gpus() * 0).in_unit("watts")


def _usd_per_second(window: str) -> Expr:
    return _gpus() * variable("gpu_hour") / _SECONDS_PER_HOUR + _watts(
        window
    ) / common.JOULES_PER_KWH * variable("kwh")


def _tokens_per_second(window: str) -> Expr:
    return sum_by(_B.rate(s.GENERATION_TOKENS, window))


def _usd_per_million(window: str) -> Expr:
    return _usd_per_second(window) / (_tokens_per_second(window) > 0) * _MILLION


def _joules_per_token(window: str) -> Expr:
    return (_watts(window) / (_tokens_per_second(window) > 0)).in_unit("joules")


def _number(
    title: str, ask: str, expr: Expr, subtitle: str, *, unit: str = "", decimals: int = 2
) -> panels.Viz:
    """Show one number of the whole range."""
    return panels.stat(title, ask, Query(expr, subtitle), unit=unit, decimals=decimals, spark=False)


_COST = _number(
    "Cost/1M tokens",
    "What did a million output tokens cost in this time, GPUs and electricity together?",
    _usd_per_million(RANGE),
    "output tokens",
    unit=_USD,
)
_PER_REQUEST = _number(
    "Cost per request",
    "What did a request cost on average in this time, GPUs and electricity together?",
    _usd_per_second(RANGE) / (sum_by(_B.rate(s.REQUESTS, RANGE)) > 0),
    "GPUs and electricity",
    unit=_USD,
    decimals=4,
)
_PER_DAY = _number(
    "Cost per day",
    "What does a day at this pace cost? Idle GPUs cost as well. Without GPU data each daemon counts as one GPU.",
    _usd_per_second(RANGE) * _DAY_S,
    "GPUs and electricity",
    unit=_USD,
)
_JOULES = _number(
    "Energy per token",
    "How much energy does one output token take, idle time included?",
    _joules_per_token(RANGE),
    "output tokens",
    decimals=1,
)
_API_LIST = panels.counts(
    "Against the API",
    "Is this cheaper than the API, how much does it save per day, and how many tokens break even?",
    Query(_usd_per_million(RANGE) / variable("api"), "of API price"),
    Query(
        (_tokens_per_second(RANGE) / _MILLION * variable("api") - _usd_per_second(RANGE)) * _DAY_S,
        "saved/day",
    ),
    Query(_usd_per_second(RANGE) * _DAY_S / variable("api") * _MILLION, "break-even/day"),
    marks={"of API price": theme.steps(theme.TEXT, (1, theme.AMBER))},
    units={"of API price": ("percentunit", 0), "saved/day": (_USD, 2), "break-even/day": ("short", 1)},
)
_ENERGY_LIST = panels.counts(
    "Energy",
    "How much energy and carbon does a day at this pace take, and which share of it is used while nothing runs?",
    Query(_watts(RANGE) * _DAY_S / common.JOULES_PER_KWH, "energy/day"),
    Query(_watts(RANGE) * _DAY_S / common.JOULES_PER_KWH * variable("carbon"), "CO2/day"),
    Query(share(sum_by(_B.rate(e.IDLE, RANGE)), sum_by(_B.rate(e.GPU, RANGE))), "idle share"),
    Query(avg_by(_B.over("avg_over_time", h.UTILIZATION, RANGE)), "GPU utilization"),
    units={
        "energy/day": ("kwatth", 2),
        "CO2/day": ("massg", 2),
        "idle share": ("percentunit", 0),
        "GPU utilization": ("percentunit", 0),
    },
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
    decimals=2,
    stack=True,
    overrides=[style.line("GPUs", theme.SLATE), style.line("electricity")],
)
_BY_MODEL = plots.series(
    "Power by model",
    "Which model uses the energy, and how much is used while nothing runs?",
    Query(sum_by(_B.rate(e.IDLE, "5m")).in_unit("watts"), "idle"),
    Query(sum_by(_B.rate(e.MODEL, "5m"), "model").in_unit("watts"), "{{model}}"),
    stack=True,
    decimals=0,
    short_names=True,
    shades=True,
    overrides=[style.line("idle", theme.DIM)],
)
_TOKENS: Final = sum_by(_B.increase(s.GENERATION_TOKENS, RANGE), "model")
_ENERGY: Final = sum_by(_B.increase(e.MODEL, RANGE), "model")
_MODELS = tables.table(
    "Models",
    "What does each model use, and what would the API have charged? Cost: electricity without idle time.",
    Query(_TOKENS > 0),
    Query(sum_by(_B.increase(s.REQUESTS, RANGE), "model") > 0),
    Query(_ENERGY / common.JOULES_PER_WH),
    Query((_ENERGY / (_TOKENS > 0)).in_unit("joules")),
    Query(_ENERGY / common.JOULES_PER_KWH * variable("kwh")),
    Query(_ENERGY / common.JOULES_PER_KWH * variable("carbon")),
    Query(_TOKENS / _MILLION * variable("api")),
    Query(share(sum_by(_B.increase(s.REASONING_TOKENS, RANGE), "model"), _TOKENS)),
    columns=[
        Column("model", "Model"),
        Column("A", "Output tokens", unit="short", width=115),
        Column("B", "Requests", decimals=0, width=85),
        Column("C", "Energy", unit="watth", decimals=1, width=95),
        Column("D", "Energy per token", unit="joule", decimals=2, width=145),
        Column("E", "Electricity", unit=_USD, decimals=3, width=95),
        Column("F", "CO2", unit="massg", decimals=1, width=90),
        Column("G", "API value", unit=_USD, decimals=2, width=90),
        Column("H", "Reasoning share", unit="percentunit", decimals=0, gauge_to=1, thresholds=theme.PLAIN),
    ],
    largest="Energy",
)
_JOULES_OVER_TIME = plots.series(
    "Energy per output token",
    "Does batching pay? More requests at once mean less energy per token.",
    Query(_joules_per_token(_STEADY), "per output token"),
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
_IDLE = plots.series(
    "Idle share by GPU",
    "Which share of a GPU's energy is used while no request runs on it?",
    Query(
        hosted(share(sum_by(_B.rate(e.IDLE, _STEADY), *GPU), sum_by(_B.rate(e.GPU, _STEADY), *GPU))),
        "{{host}} GPU {{gpu}}",
    ),
    high=1,
    overrides=style.GPUS,
)
_PER_PREDICTION = latency.percentiles(
    "Energy per request", "How much energy does one request take?", _B, e.REQUEST, decimals=0, exemplars=False
)

BOARD: Final = Board(
    name="Economics",
    question="What do tokens cost here in money, energy and carbon, and would an API be cheaper?",
    variables=(source("prometheus", "Prometheus"), SITE, HOST, DAEMON, _GPU_HOUR, _KWH, _CARBON, _API),
    notes=NOTES,
    answer=(
        "Cost/1M tokens",
        "Cost per request",
        "Cost per day",
        "Energy per token",
        "Against the API",
        "Energy",
        "Power by model",
    ),
    sections=(
        section(
            "",
            row(
                5,
                (4, _COST),
                (4, _PER_REQUEST),
                (4, _PER_DAY),
                (4, _JOULES),
                (4, _API_LIST),
                (4, _ENERGY_LIST),
            ),
            row(7, (8, _COST_OVER_TIME), (8, _SPENT), (8, _BY_MODEL)),
            row(7, (24, _MODELS)),
        ),
        section(
            "Energy by GPU and request",
            row(7, (6, _POWER), (6, _IDLE), (6, _JOULES_OVER_TIME), (6, _PER_PREDICTION)),
        ),
        ENERGY,
    ),
)
