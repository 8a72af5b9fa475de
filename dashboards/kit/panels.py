"""The house panels: few kinds, one look, each with a question, a unit and a word for "no data".

grafanalib numbers and serializes; everything a panel says is written here from scratch, because its defaults are
those of old Grafanas. Knows no metric and no board.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import attr
from grafanalib import core

from dashboards.kit import theme
from dashboards.kit.targets import AnyQuery, LogQuery, Query
from dashboards.kit.theme import Json

PLUGIN_VERSION: Final = "13.2.2"
"""Whose options these are; without it Grafana would migrate them as if they were ancient."""

NO_VALUE: Final = "No data"


@attr.s
class Viz(core.Panel):  # type: ignore[misc]
    """A panel as today's Grafana stores it; drops what grafanalib's base class adds for older ones."""

    kind: str = attr.ib(default="")
    title: str = attr.ib(default="")
    description: str = attr.ib(default="")
    targets: list[AnyQuery] = attr.ib(factory=list)
    options: Json = attr.ib(factory=dict)
    defaults: Json = attr.ib(factory=dict)
    overrides: list[Json] = attr.ib(factory=list)
    transformations: list[Json] = attr.ib(factory=list)
    gridPos: core.GridPos = attr.ib(default=None)  # noqa: N815 - grafanalib's name

    def to_json_data(self) -> Json:
        """Write the panel."""
        return {
            "type": self.kind,
            "id": self.id,
            "title": self.title,
            "description": self.description,
            "gridPos": self.gridPos,
            "datasource": self.targets[0].to_json_data()["datasource"],
            "targets": self.targets,
            "options": self.options,
            "fieldConfig": {"defaults": self.defaults, "overrides": self.overrides},
            "transformations": self.transformations,
            "links": self.links,
            "pluginVersion": PLUGIN_VERSION,
            "transparent": False,
        }


def panel(
    kind: str,
    title: str,
    ask: str,
    queries: Sequence[AnyQuery],
    *,
    options: Json,
    defaults: Json,
    overrides: Sequence[Json] = (),
    transformations: Sequence[Json] = (),
) -> Viz:
    """Make a panel of any kind. Raises ValueError when its description says nothing."""
    if not ask.endswith((".", "?")):
        raise ValueError(f"{title}: the description is a question or a sentence")
    targets = [query.named(chr(ord("A") + number)) for number, query in enumerate(queries)]
    return Viz(
        kind=kind,
        title=title,
        description=ask,
        targets=targets,
        options=options,
        defaults={"noValue": NO_VALUE, **defaults},
        overrides=list(overrides),
        transformations=list(transformations),
    )


def _unit(queries: Sequence[AnyQuery], given: str) -> str:
    first = queries[0]
    return given or (theme.unit(first.expr.unit) if isinstance(first, Query) else "short")


def _reduce() -> Json:
    return {"calcs": ["lastNotNull"], "fields": "", "values": False}


def stat(
    title: str,
    ask: str,
    *queries: Query,
    unit: str = "",
    thresholds: Json = theme.PLAIN,
    mappings: Sequence[Json] = (),
    spark: bool = False,
    decimals: int | None = None,
    no_value: str = NO_VALUE,
) -> Viz:
    """Show one number, large."""
    mode = "range" if spark else "instant"
    return panel(
        "stat",
        title,
        ask,
        [replace(query, mode=mode) for query in queries],
        options={
            "colorMode": "value",
            "graphMode": "area" if spark else "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": _reduce(),
            "showPercentChange": False,
            "textMode": "value_and_name" if len(queries) > 1 or "{{" in queries[0].legend else "value",
            "wideLayout": True,
        },
        defaults={
            "unit": _unit(queries, unit),
            "color": {"mode": "thresholds"},
            "thresholds": thresholds,
            "mappings": list(mappings),
            "decimals": decimals,
            "noValue": no_value,
        },
    )


def bars(
    title: str,
    ask: str,
    *queries: Query,
    unit: str = "",
    thresholds: Json = theme.PLAIN,
    high: float | None = None,
) -> Viz:
    """Show one bar per series, with its number."""
    return panel(
        "bargauge",
        title,
        ask,
        [replace(query, mode="instant") for query in queries],
        options={
            "displayMode": "basic",
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
            "maxVizHeight": 300,
            "minVizHeight": 16,
            "minVizWidth": 8,
            "namePlacement": "left",
            "orientation": "horizontal",
            "reduceOptions": _reduce(),
            "showUnfilled": True,
            "sizing": "auto",
            "valueMode": "text",
        },
        defaults={
            "unit": _unit(queries, unit),
            "color": {"mode": "thresholds"},
            "thresholds": thresholds,
            "min": 0,
            "max": high,
        },
    )


_DASHES: Final = ({"fill": "solid"}, {"fill": "dash", "dash": [10, 6]}, {"fill": "dot", "dash": [2, 6]})
_LINES: Final = (theme.INDIGO, theme.WELL, theme.ATTENTION, theme.QUIET, theme.FAULT)


def series(
    title: str,
    ask: str,
    *queries: Query | LogQuery,
    unit: str = "",
    stack: bool = False,
    high: float | None = None,
) -> Viz:
    """Show values over time. Queries with one series each get a colour and a dash of their own."""
    many = [query for query in queries if "{{" in query.legend]
    one_color: Json = {"mode": "fixed", "fixedColor": theme.INDIGO}
    return panel(
        "timeseries",
        title,
        ask,
        queries,
        options={
            "legend": {
                "calcs": ["lastNotNull", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        defaults={
            "unit": _unit(queries, unit),
            "color": {"mode": "palette-classic"} if many else one_color,
            "custom": {
                "drawStyle": "line",
                "lineInterpolation": "linear",
                "lineWidth": 2,
                "fillOpacity": 45 if stack else 8,
                "gradientMode": "none",
                "showPoints": "never",
                "spanNulls": False,
                "stacking": {"mode": "normal" if stack else "none", "group": "A"},
                "axisPlacement": "auto",
            },
            "min": 0,
            "max": high,
        },
        overrides=[
            _of_query(number, query, colored=not many)
            for number, query in enumerate(queries)
            if len(queries) > 1
        ],
    )


def _of_query(number: int, query: Query | LogQuery, *, colored: bool) -> Json:
    """Tell the series of one query apart from the others by dash, and by colour where each query is one series."""
    properties: list[Json] = [{"id": "custom.lineStyle", "value": _DASHES[number % len(_DASHES)]}]
    if colored:
        color = {"mode": "fixed", "fixedColor": _LINES[number % len(_LINES)]}
        properties.append({"id": "color", "value": color})
    if isinstance(query, Query) and query.alone:
        properties += [
            {"id": "custom.stacking", "value": {"mode": "none", "group": "A"}},
            {"id": "custom.fillOpacity", "value": 0},
        ]
    return {
        "matcher": {"id": "byFrameRefID", "options": chr(ord("A") + number)},
        "properties": properties,
    }


def timeline(title: str, ask: str, *queries: Query, mappings: Sequence[Json]) -> Viz:
    """Show which state a thing was in, as labelled bands."""
    return panel(
        "state-timeline",
        title,
        ask,
        queries,
        options={
            "alignValue": "left",
            "mergeValues": True,
            "rowHeight": 0.85,
            "showValue": "auto",
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "single", "sort": "none"},
        },
        defaults={
            "unit": "short",
            "color": {"mode": "thresholds"},
            "thresholds": theme.PLAIN,
            "mappings": list(mappings),
            "custom": {"fillOpacity": 70, "lineWidth": 1},
        },
    )


def heatmap(title: str, ask: str, query: Query) -> Viz:
    """Show how a distribution moves; brighter is more. Exemplars lead to traces."""
    unit = theme.unit(query.expr.unit)
    return panel(
        "heatmap",
        title,
        ask,
        [replace(query, mode="heatmap", legend="{{le}}")],
        options={
            "calculate": False,
            "cellGap": 1,
            "cellValues": {"unit": "short"},
            "color": {
                "exponent": 0.5,
                "fill": theme.INDIGO,
                "mode": "scheme",
                "reverse": False,
                "scale": "exponential",
                "scheme": "Blues",
                "steps": 64,
            },
            "exemplars": {"color": theme.ATTENTION},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "tooltip": {"mode": "single", "showColorScale": True, "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "unit": unit, "reverse": False},
        },
        defaults={"unit": unit, "custom": {"scaleDistribution": {"type": "linear"}}},
    )


def logs(title: str, ask: str, query: LogQuery) -> Viz:
    """Show log lines, newest first."""
    return panel(
        "logs",
        title,
        ask,
        [query],
        options={
            "dedupStrategy": "none",
            "enableLogDetails": True,
            "prettifyLogMessage": False,
            "showCommonLabels": False,
            "showLabels": False,
            "showLogContextToggle": False,
            "showTime": True,
            "sortOrder": "Descending",
            "wrapLogMessage": True,
        },
        defaults={"unit": "short"},
    )
