"""Panels of numbers: stat, counts, gauge, bars; and the base of all panels.

grafanalib numbers and serializes; its defaults are those of old Grafanas. Does not depend on metrics or boards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import attr
from grafanalib import core

from dashboards.kit import style, theme
from dashboards.kit.targets import AnyQuery, Query
from dashboards.kit.theme import Json

PLUGIN_VERSION: Final = "13.2.2"
"""Whose options these are; without it Grafana would migrate them as if they were ancient."""

NO_VALUE: Final = "\u2013"
SCALE: Final = "scale"
RATE_STEP: Final = "1m"
"""Between the points of a rate; steps of one scrape are noise."""


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
    interval: str | None = attr.ib(default=None)
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
            "interval": self.interval,
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
    interval: str | None = None,
) -> Viz:
    """Make a panel of any kind. Raises ValueError when its description is empty."""
    if not ask.endswith((".", "?")):
        raise ValueError(f"{title}: the description is a question or a sentence")
    targets = [query.named(chr(ord("A") + number)) for number, query in enumerate(queries)]
    return Viz(
        kind=kind,
        title=title,
        description=ask,
        targets=targets,
        options=options,
        defaults={key: value for key, value in defaults.items() if value is not None},
        overrides=list(overrides),
        transformations=list(transformations),
        interval=interval,
    )


def unit_of(queries: Sequence[AnyQuery], given: str) -> str:
    """Give the unit that was given, else that of the first query."""
    first = queries[0]
    return given or (theme.unit(first.expr.unit) if isinstance(first, Query) else "none")


def legend_of(placement: str) -> Json:
    """Write a list of names, bottom or right; "" is none."""
    shown = {
        "calcs": [],
        "displayMode": "list",
        "placement": placement or "bottom",
        "showLegend": bool(placement),
    }
    return {**shown, "width": 215} if placement == "right" else shown


def stat(
    title: str,
    ask: str,
    query: Query,
    *,
    unit: str = "",
    thresholds: Json = theme.PLAIN,
    decimals: int | None = None,
    scale: tuple[float, float] | None = None,
    spark: bool = True,
) -> Viz:
    """Show one number over its sparkline. The legend is the subtitle, and must not be empty.

    `scale` gives the sparkline's ends; else a second series, made of the first and not shown, sets them so that it
    stays below the number.
    """
    if not query.legend:
        raise ValueError(f"{title}: without a subtitle Grafana draws the sparkline through the number")
    queries = [replace(query, mode="range" if spark else "instant")]
    fields = ""
    raised: list[Json] = []
    if spark and scale is None:
        raised = [_raised(query.legend)]
        fields = f"/^{re.escape(query.legend)}$/"
    low, high = scale or (0, None)
    return panel(
        "stat",
        title,
        ask,
        queries,
        options={
            "colorMode": "none",
            "graphMode": "area" if spark else "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": fields, "values": False},
            "showPercentChange": False,
            "text": {"titleSize": 13, "valueSize": 36},
            "textMode": "value_and_name",
            "wideLayout": False,
        },
        defaults={
            "unit": unit_of(queries, unit),
            "color": {"mode": "thresholds"},
            "thresholds": thresholds,
            "mappings": [],
            "decimals": decimals,
            "min": low,
            "max": high,
            "noValue": NO_VALUE,
        },
        transformations=raised,
        interval=RATE_STEP if spark else None,
    )


def _raised(name: str) -> Json:
    """Add a series 1.5 times as high, for the range that all of a panel's sparklines share."""
    return {
        "id": "calculateField",
        "options": {
            "mode": "binary",
            "alias": SCALE,
            "binary": {"left": name, "operator": "*", "right": "1.5"},
            "replaceFields": False,
        },
    }


def counts(
    title: str,
    ask: str,
    *queries: Query,
    marks: Mapping[str, Json] | None = None,
    units: Mapping[str, tuple[str, int]] | None = None,
) -> Viz:
    """Show two to four numbers as a list: name left, number right.

    By name, `marks` are thresholds, and `units` are Grafana's unit and decimals of what is no count.
    """
    told: dict[str, Json] = {query.legend: {} for query in queries}
    for name, steps in (marks or {}).items():
        told[name]["thresholds"] = steps
    for name, (unit, decimals) in (units or {}).items():
        told[name] |= {"unit": unit, "decimals": decimals}
    return panel(
        "stat",
        title,
        ask,
        [replace(query, mode="instant") for query in queries],
        options={
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "horizontal",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showPercentChange": False,
            "text": {"titleSize": 14, "valueSize": 22},
            "textMode": "value_and_name",
            "wideLayout": True,
        },
        defaults={
            "unit": "none",
            "color": {"mode": "thresholds"},
            "thresholds": theme.QUIET,
            "mappings": [],
            "decimals": 0,
            "noValue": NO_VALUE,
        },
        overrides=[style.named(name, **properties) for name, properties in told.items() if properties],
    )


def tiles(title: str, ask: str, query: Query, *, mappings: Sequence[Json]) -> Viz:
    """Show one coloured tile per series, by its legend: the states of many objects together."""
    return panel(
        "stat",
        title,
        ask,
        [replace(query, mode="instant")],
        options={
            "colorMode": "background_solid",
            "graphMode": "none",
            "justifyMode": "center",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showPercentChange": False,
            "text": {"titleSize": 13, "valueSize": 13},
            "textMode": "name",
            "wideLayout": False,
        },
        defaults={
            "unit": "none",
            "color": {"mode": "thresholds"},
            "thresholds": theme.steps(theme.SLATE),
            "mappings": list(mappings),
            "decimals": 0,
            "noValue": NO_VALUE,
        },
    )


def gauge(title: str, ask: str, query: Query) -> Viz:
    """Show a ratio of memory between 0 and 1."""
    return panel(
        "gauge",
        title,
        ask,
        [replace(query, mode="instant")],
        options={
            "barShape": "flat",
            "barWidthFactor": 0.5,
            "effects": {},
            "minVizHeight": 75,
            "minVizWidth": 75,
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "segmentCount": 1,
            "segmentSpacing": 0.3,
            "shape": "gauge",
            "showThresholdLabels": False,
            "showThresholdMarkers": True,
            "sizing": "auto",
            "text": {"valueSize": 26},
        },
        defaults={
            "unit": unit_of([query], ""),
            "color": {"mode": "thresholds"},
            "thresholds": theme.VRAM,
            "decimals": 0,
            "min": 0,
            "max": 1,
            "noValue": NO_VALUE,
        },
    )


def bars(
    title: str,
    ask: str,
    *queries: Query,
    thresholds: Json = theme.PLAIN,
    high: float | None = None,
    decimals: int | None = None,
    transformations: Sequence[Json] = (),
) -> Viz:
    """Show one bar per series, with its number. Letters have a set size."""
    return panel(
        "bargauge",
        title,
        ask,
        [replace(query, mode="instant") for query in queries],
        options={
            "displayMode": "basic",
            "legend": legend_of(""),
            "maxVizHeight": 28,
            "minVizHeight": 16,
            "minVizWidth": 8,
            "namePlacement": "left",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": True,
            "sizing": "auto",
            "text": {"titleSize": 13, "valueSize": 15},
            "valueMode": "text",
        },
        defaults={
            "unit": unit_of(queries, ""),
            "color": {"mode": "thresholds"},
            "thresholds": thresholds,
            "decimals": decimals,
            "min": 0,
            "max": high,
            "noValue": NO_VALUE,
        },
        transformations=transformations,
    )
