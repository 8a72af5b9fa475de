"""Economics: what does a million tokens cost here, and would an API be cheaper? Prices are the reader's to set."""

from __future__ import annotations

from typing import Final

from dashboards.boards.fleet import GPU, HOST
from dashboards.kit import panels, theme
from dashboards.kit.board import DAEMON, MODEL, Board, Variable, row, section, source
from dashboards.kit.promql import (
    RANGE,
    RATE_INTERVAL,
    Expr,
    Scope,
    avg_by,
    count_by,
    max_by,
    share,
    sum_by,
    variable,
)
from dashboards.kit.targets import Query
from dashboards.rules.recording import CARD
from exporter.catalogue import energy as e
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s

_B: Final = Scope({"daemon": "$daemon", "model": "$model", "gpu": "$gpu", "instance": "$host"})

_GPU_HOUR: Final = Variable(
    "gpu_hour",
    "USD per GPU and hour",
    "textbox",
    default="0.40",
    about="Rent, or price over lifetime. 0.40 is a 3,500 USD card written off in a year of use.",
)
_KWH: Final = Variable("kwh", "USD per kWh", "textbox", default="0.30", about="Price of electricity.")
_API: Final = Variable(
    "api",
    "API, USD per million tokens",
    "custom",
    "15,20,30,45,60",
    default="15",
    about="Price of written tokens at an API to compare with.",
)

_SECONDS_PER_HOUR: Final = 3600
_JOULES_PER_KWH: Final = 3.6e6
_MILLION: Final = 1_000_000
_DAY_S: Final = 86_400
_USD: Final = "currencyUSD"


def _usd_per_second(window: str) -> Expr:
    cards = count_by(_B.now(h.DEVICE_INFO)) * variable("gpu_hour") / _SECONDS_PER_HOUR
    energy = sum_by(_B.rate(e.GPU, window)) / _JOULES_PER_KWH * variable("kwh")
    return cards + energy


def _tokens_per_second(window: str) -> Expr:
    return sum_by(_B.rate(s.GENERATION_TOKENS, window))


def _usd_per_million(window: str) -> Expr:
    return _usd_per_second(window) / _tokens_per_second(window) * _MILLION


_COST = panels.stat(
    "Cost per million tokens",
    "What did a million written tokens cost in this time, cards and electricity together?",
    Query(_usd_per_million(RANGE)),
    unit=_USD,
    decimals=2,
    no_value="Nothing written",
)
_VERSUS = panels.stat(
    "Cost against the API",
    "How does that compare with the API? Below 100 % we are cheaper.",
    Query(_usd_per_million(RANGE) / variable("api")),
    unit="percentunit",
    thresholds=theme.steps(theme.WELL, (1, theme.ATTENTION)),
    no_value="Nothing written",
)
_SAVED = panels.stat(
    "Saved per day",
    "What would the API have cost more, per day at this pace? Negative: it would have been cheaper.",
    Query((_tokens_per_second(RANGE) / _MILLION * variable("api") - _usd_per_second(RANGE)) * _DAY_S),
    unit=_USD,
    decimals=2,
    thresholds=theme.steps(theme.ATTENTION, (0, theme.WELL)),
    no_value="Nothing written",
)
_EVEN = panels.stat(
    "Break-even",
    "How many tokens must be written per day to be as cheap as the API?",
    Query(_usd_per_second(RANGE) * _DAY_S / variable("api") * _MILLION),
    unit="short",
    decimals=1,
)
_JOULES = panels.stat(
    "Energy per token",
    "How much energy does one written token take?",
    Query((sum_by(_B.rate(e.GPU, RANGE)) / _tokens_per_second(RANGE)).in_unit("joules")),
    decimals=1,
    no_value="Nothing written",
)
_USED = panels.stat(
    "Cards busy",
    "Which share of the time do the cards work? Idle cards cost the same.",
    Query(avg_by(_B.over("avg_over_time", h.UTILIZATION, RANGE))),
    thresholds=theme.PLAIN,
)

_COST_OVER_TIME = panels.series(
    "Cost per million tokens",
    "When is it cheap, and when not? The other line is the API.",
    Query(_usd_per_million(RATE_INTERVAL), "here"),
    Query(count_by(_B.now(h.DEVICE_INFO)) * 0 + variable("api"), "the API"),
    unit=_USD,
)
_SPENT = panels.series(
    "Spent per hour",
    "What do cards and electricity cost?",
    Query(count_by(_B.now(h.DEVICE_INFO)) * variable("gpu_hour"), "cards"),
    Query(sum_by(_B.now(h.POWER)) / 1000 * variable("kwh"), "electricity"),
    unit=_USD,
    stack=True,
)
_JOULES_OVER_TIME = panels.series(
    "Energy per token",
    "Does batching pay? More requests at once mean less energy per token.",
    Query(
        (sum_by(_B.rate(e.GPU)) / _tokens_per_second(RATE_INTERVAL)).in_unit("joules"), "per written token"
    ),
)
_POWER = panels.series(
    "Power",
    "Where does the electricity go?",
    Query(max_by(_B.now(h.POWER), *CARD), "GPU {{gpu}} · {{instance}}"),
    stack=True,
)
_BY_MODEL = panels.bars(
    "Tokens written, by model",
    "Which models are worth their memory?",
    Query(sum_by(_B.increase(s.GENERATION_TOKENS, RANGE), "model"), "{{model}}"),
)
_WORTH = panels.bars(
    "Worth at API prices, by model",
    "What would the API have charged for each model's tokens?",
    Query(sum_by(_B.increase(s.GENERATION_TOKENS, RANGE), "model") / _MILLION * variable("api"), "{{model}}"),
    unit=_USD,
)
_THOUGHT = panels.bars(
    "Share spent on reasoning, by model",
    "How much of what we pay for is thinking? Estimated.",
    Query(
        share(
            sum_by(_B.increase(s.REASONING_TOKENS, RANGE), "model"),
            sum_by(_B.increase(s.GENERATION_TOKENS, RANGE), "model"),
        ),
        "{{model}}",
    ),
    high=1,
)

BOARD: Final = Board(
    name="Economics",
    question="What does a million tokens cost here, and would an API be cheaper?",
    variables=(source("prometheus", "Prometheus"), HOST, GPU, DAEMON, MODEL, _GPU_HOUR, _KWH, _API),
    answer=("Cost per million tokens", "Cost against the API", "Saved per day", "Break-even"),
    sections=(
        section(
            "",
            row(5, (4, _COST), (4, _VERSUS), (4, _SAVED), (4, _EVEN), (4, _JOULES), (4, _USED)),
            row(8, (12, _COST_OVER_TIME), (12, _SPENT)),
        ),
        section("Energy", row(8, (12, _JOULES_OVER_TIME), (12, _POWER))),
        section("Models", row(8, (8, _BY_MODEL), (8, _WORTH), (8, _THOUGHT))),
    ),
)
