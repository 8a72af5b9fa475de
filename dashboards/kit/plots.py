"""Panels of time: series, state timelines, heatmaps, logs. Each is one preset.

Does not depend on metrics or boards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dashboards.kit import style, theme
from dashboards.kit.panels import RATE_STEP, Viz, legend_of, panel, unit_of
from dashboards.kit.targets import ApiQuery, LogQuery, Query
from dashboards.kit.theme import Json

GAP_MS: Final = 300_000
"""A percentile has no value while nothing ends; a line goes on over gaps up to this."""
LEVEL_STEP: Final = "30s"
"""Between the points of a gauge."""

_FEW: Final = 4
"""Top of an axis of counts while all are 0, where Grafana would write 100."""

SHORT_NAMES: Final = ({"id": "renameByRegex", "options": {"regex": "^[^/]+/(.*)$", "renamePattern": "$1"}},)
"""Drops the publisher before a model's name."""


def series(
    title: str,
    ask: str,
    *queries: Query | LogQuery,
    unit: str = "",
    overrides: Sequence[Json] = (),
    stack: bool = False,
    fill: int = 8,
    limits: Json | None = None,
    log: bool = False,
    low: float | None = 0,
    high: float | None = None,
    soft_high: float | None = None,
    decimals: int | None = None,
    short_names: bool = False,
    shades: bool = False,
    interval: str = RATE_STEP,
    legend: str = "bottom",
    bridged: bool = False,
    bars: bool = False,
) -> Viz:
    """Show values over time, with a list as legend. Series without an override are indigo.

    `limits` are thresholds drawn as dashed lines. `shades` colours series that no override names by shades of slate.
    """
    top = _FEW if bars and soft_high is None else soft_high
    color = {"mode": "shades", "fixedColor": theme.SLATE} if shades else theme.fixed(theme.INDIGO)
    return panel(
        "timeseries",
        title,
        ask,
        queries,
        options={"legend": legend_of(legend), "tooltip": {"mode": "multi", "sort": "desc"}},
        defaults={
            "unit": unit_of(queries, unit),
            "color": color,
            "custom": {
                "drawStyle": "bars" if bars else "line",
                "lineInterpolation": "linear",
                "lineWidth": 0 if bars else 1,
                "fillOpacity": 80 if bars else 55 if stack else fill,
                "gradientMode": "none",
                "showPoints": "never",
                "pointSize": 4,
                "spanNulls": GAP_MS if bridged else False,
                "stacking": {"mode": "normal" if stack else "none", "group": "A"},
                "axisPlacement": "auto",
                "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
                "thresholdsStyle": {"mode": "dashed" if limits else "off"},
                **({"axisSoftMax": top} if top is not None else {}),
                **({"axisSoftMin": low} if log else {}),
            },
            "thresholds": limits or theme.QUIET,
            "min": None if log else low,
            "max": high,
            "decimals": decimals,
        },
        overrides=[*(style.MODELS if short_names else ()), *overrides],
        transformations=SHORT_NAMES if short_names else (),
        interval=interval,
    )


def events(
    title: str, ask: str, *queries: Query, overrides: Sequence[Json] = (), shades: bool = False
) -> Viz:
    """Show how many of something happened in each step, as stacked bars."""
    return series(
        title,
        ask,
        *queries,
        unit="none",
        decimals=0,
        stack=True,
        bars=True,
        overrides=overrides,
        shades=shades,
    )


def timeline(
    title: str,
    ask: str,
    *queries: Query,
    mappings: Sequence[Json],
    interval: str = "15s",
    short_names: bool = False,
) -> Viz:
    """Show states over time, as bands. One base colour, so that Grafana keeps the words of the mappings."""
    return panel(
        "state-timeline",
        title,
        ask,
        queries,
        options={
            "alignValue": "left",
            "mergeValues": True,
            "perPage": 20,
            "rowHeight": 0.8,
            "showValue": "never",
            "legend": legend_of("bottom"),
            "tooltip": {"mode": "single", "sort": "none"},
        },
        defaults={
            "unit": "none",
            "color": theme.fixed(theme.SLATE),
            "thresholds": theme.steps(theme.SLATE),
            "mappings": list(mappings),
            "custom": {"fillOpacity": 90, "lineWidth": 0},
        },
        transformations=SHORT_NAMES if short_names else (),
        interval=interval,
    )


def heatmap(title: str, ask: str, query: Query) -> Viz:
    """Show how a distribution of requests moves; stronger is more. Exemplars lead to traces."""
    unit = theme.unit(query.expr.unit)
    return panel(
        "heatmap",
        title,
        ask,
        [replace(query, mode="heatmap", legend="{{le}}")],
        options={
            "calculate": False,
            "cellGap": 1,
            "cellValues": {"unit": "requests", "decimals": 0},
            "color": {
                "exponent": 0.5,
                "fill": theme.INDIGO,
                "min": 0,
                "mode": "opacity",
                "reverse": False,
                "scale": "exponential",
                "scheme": "Blues",
                "steps": 32,
            },
            "exemplars": {"color": theme.AMBER},
            "filterValues": {"le": 0.5},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto", "value": "Requests"},
            "showValue": "never",
            "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "unit": unit, "reverse": False},
        },
        defaults={"unit": unit, "custom": {"scaleDistribution": {"type": "linear"}}},
        interval=RATE_STEP,
    )


def stretches(title: str, ask: str, query: ApiQuery) -> Viz:
    """Show text in stretches, the first on top, each in the colour of its kind; it grows while it is written."""
    return _log_lines(title, ask, query, order="Ascending", has_details=False)


def logs(title: str, ask: str, query: LogQuery) -> Viz:
    """Show log lines, newest first; a click on one shows its fields, and from trace_id leads to the trace."""
    return _log_lines(title, ask, query, order="Descending", has_details=True)


def _log_lines(title: str, ask: str, query: ApiQuery | LogQuery, *, order: str, has_details: bool) -> Viz:
    return panel(
        "logs",
        title,
        ask,
        [query],
        options={
            "dedupStrategy": "none",
            "enableLogDetails": has_details,
            "prettifyLogMessage": False,
            "showCommonLabels": False,
            "showLabels": False,
            "showLogContextToggle": False,
            "showTime": has_details,
            "sortOrder": order,
            "wrapLogMessage": True,
        },
        defaults={"unit": "none"},
    )
