"""p50, p95 and p99 of a histogram, drawn the same on every board."""

from __future__ import annotations

from dashboards.kit import plots, style, theme
from dashboards.kit.panels import Viz
from dashboards.kit.promql import Selector
from dashboards.kit.targets import Query
from exporter.catalogue import Metric


def percentiles(
    title: str,
    ask: str,
    selector: Selector,
    metric: Metric,
    *,
    objective: float | None = None,
    log: bool = False,
    low: float = 0,
    decimals: int | None = None,
    exemplars: bool = True,
) -> Viz:
    """Show the three percentiles; a red dashed line where there is an objective. `exemplars` lead to traces."""
    limits = None if objective is None else theme.steps(theme.CLEAR, (objective, theme.RED))
    return plots.series(
        title,
        ask,
        Query(selector.quantile(0.5, metric), "p50", exemplars=exemplars),
        Query(selector.quantile(0.95, metric), "p95"),
        Query(selector.quantile(0.99, metric), "p99"),
        overrides=style.PERCENTILES,
        limits=limits,
        soft_high=None if objective is None else objective * 1.2,
        log=log,
        low=low,
        decimals=decimals,
        bridged=True,
    )
