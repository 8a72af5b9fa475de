"""Tables: one row per thing, a column per question about it, buttons where something can be done about it.

Knows how Grafana merges, orders and names columns; no metric and no board.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dashboards.kit import theme
from dashboards.kit.buttons import Button
from dashboards.kit.panels import NO_VALUE, Viz, panel
from dashboards.kit.promql import QueryError
from dashboards.kit.targets import RESOURCES, AnyQuery, ApiQuery, Query, TraceQuery
from dashboards.kit.theme import Json


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, in the order of the list."""

    source: str
    """A label, or the letter of a query."""
    title: str
    unit: str = ""
    width: int = 0
    mappings: list[Json] = field(default_factory=list)
    thresholds: Json | None = None
    gauge_to: float | None = None
    """Draw a bar from 0 to this."""
    buttons: tuple[Button, ...] = ()
    link: str = ""
    """Board to open for this row, and the variables to hand over: uid?var-x=${__data.fields.x}."""


def table(
    title: str,
    ask: str,
    *queries: AnyQuery,
    columns: Sequence[Column],
    largest: str = "",
    no_value: str = NO_VALUE,
) -> Viz:
    """Show one row per thing. Several PromQL queries are merged on the labels they share.

    `largest` is the title of the column whose largest (or latest) values come first.
    """
    if largest and largest not in {column.title for column in columns}:
        raise QueryError(f"{title}: no column is called {largest}")
    asked = [replace(query, mode="table") if isinstance(query, Query) else query for query in queries]
    _require_columns(title, asked, columns)
    names = {chr(ord("A") + number): f"Value #{chr(ord('A') + number)}" for number in range(len(asked))}
    if len(asked) == 1:
        names = {"A": "Value"}
    order = [names.get(column.source, column.source) for column in columns]
    organize: Json = {
        "indexByName": {name: position for position, name in enumerate(order)},
        "includeByName": dict.fromkeys(order, True),
        "excludeByName": {},
        "renameByName": {},
    }
    merge = [{"id": "merge", "options": {}}] if len(asked) > 1 else []
    return panel(
        "table",
        title,
        ask,
        asked,
        options={
            "showHeader": True,
            "cellHeight": "sm",
            "frameIndex": 0,
            "sortBy": [{"displayName": largest, "desc": True}] if largest else [],
        },
        defaults={
            "unit": "short",
            "color": {"mode": "thresholds"},
            "thresholds": theme.steps(theme.QUIET),
            "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False},
            "noValue": no_value,
        },
        overrides=[_of_column(name, column) for name, column in zip(order, columns, strict=True)],
        transformations=[*merge, {"id": "organize", "options": organize}],
    )


def _require_columns(title: str, queries: Sequence[AnyQuery], columns: Sequence[Column]) -> None:
    """Refuse a column that would stay empty. Raises QueryError."""
    known = {chr(ord("A") + number) for number, query in enumerate(queries) if isinstance(query, Query)}
    for query in queries:
        if isinstance(query, Query):
            known |= query.expr.labels or frozenset()
        elif isinstance(query, ApiQuery):
            known |= set(RESOURCES[query.resource])
    unknown = {column.source for column in columns} - known
    if unknown:
        raise QueryError(f"{title}: no query gives {', '.join(sorted(unknown))}")


def _of_column(name: str, column: Column) -> Json:
    properties: list[Json] = [{"id": "displayName", "value": column.title}]

    def add(key: str, value: Any) -> None:
        properties.append({"id": key, "value": value})

    if column.unit:
        add("unit", column.unit)
    if column.width:
        add("custom.width", column.width)
    if column.mappings:
        add("mappings", column.mappings)
        add("custom.cellOptions", {"type": "color-text"})
    if column.thresholds is not None:
        add("thresholds", column.thresholds)
        add("custom.cellOptions", {"type": "color-text"})
    if column.gauge_to is not None:
        add("min", 0)
        add("max", column.gauge_to)
        add("custom.cellOptions", {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"})
    if column.buttons:
        add("custom.cellOptions", {"type": "actions"})
        add("actions", [button.to_json_data() for button in column.buttons])
    if column.link:
        url = f"/d/{column.link}&${{__url_time_range}}"
        add("links", [{"title": f"Open {column.link.partition('?')[0]}", "url": url, "targetBlank": False}])
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def traces(title: str, ask: str, query: TraceQuery) -> Viz:
    """List traces or spans; a click opens the whole trace."""
    return panel(
        "table",
        title,
        ask,
        [query],
        options={"showHeader": True, "cellHeight": "sm", "frameIndex": 0},
        defaults={
            "unit": "short",
            "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False},
        },
    )
