"""Panels and columns that several boards show, so that one number is computed one way."""

from __future__ import annotations

from typing import Final

from dashboards.kit import latency, panels, plots, style, theme
from dashboards.kit.panels import Viz
from dashboards.kit.promql import Expr, Selector, either, max_by, sum_by
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from dashboards.rules.recording import GPU, THROTTLED, TPOT_S, TTFT_S, error_rate
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s

ERROR_RATE: Final = theme.steps(theme.INDIGO, (0.05, theme.AMBER), (0.2, theme.RED))
ERROR_CELL: Final = theme.steps(theme.CLEAR, (0.05, theme.AMBER_BACK), (0.2, theme.RED_BACK))
TTFT_CELL: Final = theme.steps(theme.CLEAR, (0.6 * TTFT_S, theme.AMBER_BACK), (TTFT_S, theme.RED_BACK))
BUDGET_LEFT: Final = theme.steps(theme.RED, (0, theme.AMBER), (0.25, theme.INDIGO))
ANY_CELL: Final = theme.steps(theme.CLEAR, (1, theme.AMBER_BACK))


def error_rate_stat(selector: Selector) -> Viz:
    """Show the error rate now."""
    return panels.stat(
        "Error rate",
        "Which share of requests ended in error? Unknown ends are left out; an abort is the client's, and no error.",
        Query(error_rate(selector, window="5m"), "last 5 min"),
        thresholds=ERROR_RATE,
        decimals=1,
    )


def ttft_stat(selector: Selector) -> Viz:
    """Show TTFT p95 now."""
    return panels.stat(
        "TTFT p95",
        "How long until the first token? 95 % of requests took at most this.",
        Query(selector.quantile(0.95, s.TTFT, window="5m"), f"last 5 min · SLO {TTFT_S} s"),
        thresholds=theme.steps(theme.INDIGO, (0.6 * TTFT_S, theme.AMBER), (TTFT_S, theme.RED)),
    )


def tpot_stat(selector: Selector) -> Viz:
    """Show TPOT p95 now."""
    return panels.stat(
        "TPOT p95",
        "How long does each output token after the first take? 95 % of requests took at most this.",
        Query(selector.quantile(0.95, s.PER_TOKEN, window="5m"), f"last 5 min · SLO {TPOT_S * 1000:.0f} ms"),
        thresholds=theme.steps(theme.INDIGO, (0.6 * TPOT_S, theme.AMBER), (TPOT_S, theme.RED)),
    )


def output_stat(selector: Selector) -> Viz:
    """Show the rate of output tokens now."""
    return panels.stat(
        "Output tok/s",
        "How many tokens per second do all models generate?",
        Query(sum_by(selector.rate(s.GENERATION_TOKENS, "5m")), "last 5 min"),
        decimals=0,
    )


def vram_free_stat(selector: Selector) -> Viz:
    """Show the room for one more model."""
    return panels.stat(
        "VRAM free",
        "How much VRAM is free on the emptiest GPU? A model that fits there can be loaded.",
        Query(max_by(selector.now(h.MEMORY_FREE)), "emptiest GPU"),
        decimals=1,
    )


def waiting_stat(selector: Selector) -> Viz:
    """Show the queue now."""
    return panels.stat(
        "Waiting requests",
        "How many requests wait for a slot?",
        Query(sum_by(selector.over("avg_over_time", d.REQUESTS_WAITING, "1m")), "last minute"),
        thresholds=theme.steps(theme.INDIGO, (4, theme.AMBER), (16, theme.RED)),
        decimals=1,
    )


def ttft(selector: Selector) -> Viz:
    """Draw TTFT."""
    return latency.percentiles(
        "TTFT",
        "How long until the first token? Dashed: objective. Diamonds lead to traces.",
        selector,
        s.TTFT,
        objective=TTFT_S,
        log=True,
        low=0.01,
    )


def finish_reasons(selector: Selector) -> Viz:
    """Draw how requests end."""
    return plots.series(
        "Requests/s by finish reason",
        "How many requests end, and do they end by themselves or are they cut off?",
        Query(sum_by(selector.rate(s.REQUESTS), "finished_reason"), "{{finished_reason}}"),
        unit="reqps",
        stack=True,
        overrides=style.colored(theme.OUTCOMES),
    )


def output_by_model(selector: Selector) -> Viz:
    """Draw the rate of output tokens."""
    return plots.series(
        "Output tok/s by model",
        "Which model generates how much?",
        Query(sum_by(selector.rate(s.GENERATION_TOKENS), "model") > 0, "{{model}}"),
        stack=True,
        short_names=True,
        shades=True,
        decimals=0,
    )


def queue(selector: Selector) -> Viz:
    """Draw running and waiting requests."""
    return plots.series(
        "Running and waiting",
        "Does a queue build up?",
        Query(sum_by(selector.over("avg_over_time", d.REQUESTS_RUNNING, "$__rate_interval")), "running"),
        Query(sum_by(selector.over("avg_over_time", d.REQUESTS_WAITING, "$__rate_interval")), "waiting"),
        overrides=[
            style.line("running", custom__lineWidth=2),
            style.line("waiting", theme.SLATE, custom__fillOpacity=20),
        ],
        interval=plots.LEVEL_STEP,
    )


def vram_used(selector: Selector, *by: str) -> Expr:
    """Take how full GPUs are."""
    return max_by(selector.now(h.MEMORY_USED) / selector.now(h.MEMORY_TOTAL), *by).in_unit("ratio")


def gpu_state(selector: Selector) -> Expr:
    """Take the state of each GPU: 0 fine, 1 throttled by heat or power brake, 2 lost."""
    lost = max_by(selector.now(h.LOST), *GPU)
    throttled = max_by(selector.now(h.THROTTLE, reason=THROTTLED), *GPU)
    return (lost * 2 + either(throttled, lost * 0)).in_unit("")


JOULES_PER_WH: Final = 3600
JOULES_PER_KWH: Final = 3.6e6

GPU_COLUMN: Final = Column("gpu", "GPU", width=50)
HOST_COLUMN: Final = Column("instance", "Host", mappings=theme.HOSTS)
DAEMON_COLUMN: Final = Column("daemon", "Daemon")
