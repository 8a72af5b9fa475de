"""Tables: one row per object, one column per value, and buttons.

Does not depend on metrics or boards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dashboards.kit import theme
from dashboards.kit.buttons import Button
from dashboards.kit.panels import NO_VALUE, Viz, panel
from dashboards.kit.promql import QueryError
from dashboards.kit.targets import LIVE, RESOURCES, AnyQuery, ApiQuery, Query, TraceQuery
from dashboards.kit.theme import Json

NARROWEST: Final = 80
"""Least pixels of a column without a width of its own. Grafana's 150 make tables wider than a screen of 1280."""
BACKGROUND: Final = {"type": "color-background", "mode": "basic"}
MOST_COLUMNS: Final = 10


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, in the order of the list."""

    source: str
    """A label, or the letter of a query."""
    title: str
    unit: str = ""
    """Grafana's unit of a number. A column of text has none: ids must stay as they are."""
    width: int = 0
    decimals: int | None = None
    mappings: list[Json] = field(default_factory=list)
    thresholds: Json | None = None
    """Colours of a number by value; of a gauge's bar, else of the cell's background."""
    gauge_to: float | None = None
    """Draw a bar from 0 to this."""
    buttons: tuple[Button, ...] = ()
    link: str = ""
    """Board to open for this row, and the variables to hand over: uid?var-x=${__data.fields.x}."""

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers, which stand right."""
        return bool(self.unit) or self.decimals is not None


def table(
    title: str,
    ask: str,
    *queries: AnyQuery,
    columns: Sequence[Column],
    largest: str = "",
    smallest: str = "",
    none: str = NO_VALUE,
) -> Viz:
    """Show one row per thing. Several PromQL queries are merged on the labels they share.

    `largest` or `smallest` is the title of the column by which rows are sorted. `none` stands in for the whole table
    when it has no row, and so may only be words where no cell can be empty.
    """
    if none != NO_VALUE and any(isinstance(query, ApiQuery) for query in queries):
        raise QueryError(f"{title}: a cell of the API's lists can be empty, and would say {none!r}")
    titles = {column.title for column in columns}
    if {largest, smallest} - titles - {""}:
        raise QueryError(f"{title}: no column is called {largest or smallest}")
    if len(columns) > MOST_COLUMNS:
        raise QueryError(f"{title}: {len(columns)} columns do not fit a screen; {MOST_COLUMNS} at most")
    asked = [replace(query, mode="table") if isinstance(query, Query) else query for query in queries]
    _require_columns(title, asked, columns)
    names = {chr(ord("A") + number): f"Value #{chr(ord('A') + number)}" for number in range(len(asked))}
    if len(asked) == 1:
        names = {"A": "Value"}
    return _listed(
        title,
        ask,
        asked,
        columns,
        [names.get(column.source, column.source) for column in columns],
        first=[{"id": "merge", "options": {}}] if len(asked) > 1 else [],
        sort=[{"displayName": largest or smallest, "desc": bool(largest)}] if largest or smallest else [],
        none=none,
    )


def _require_columns(title: str, queries: Sequence[AnyQuery], columns: Sequence[Column]) -> None:
    """Refuse a column that would stay empty. Raises QueryError."""
    letters = {chr(ord("A") + number) for number, query in enumerate(queries) if isinstance(query, Query)}
    known = set(letters)
    for query in queries:
        if isinstance(query, Query):
            known |= query.expr.labels or frozenset()
        elif isinstance(query, ApiQuery):
            known |= set((RESOURCES | LIVE)[query.resource])
    unknown = {column.source for column in columns} - known
    if unknown:
        raise QueryError(f"{title}: no query gives {', '.join(sorted(unknown))}")
    for column in columns:
        plain = column.mappings or column.buttons or column.numeric or column.gauge_to is not None
        if column.source in letters and not plain:
            raise QueryError(f"{title}: column {column.title} is a number without a unit")


def header_px(title: str) -> int:
    """Give the width that the title of a column needs, in pixels: its letters and the padding."""
    return 8 * len(title) + 12


def _of_column(name: str, column: Column) -> Json:
    properties: list[Json] = [{"id": "displayName", "value": column.title}]

    def add(key: str, value: Any) -> None:
        properties.append({"id": key, "value": value})

    needed = header_px(column.title)
    plain = {
        "unit": (column.unit or "none") if column.numeric else None,
        "custom.align": "right" if column.numeric and column.gauge_to is None else None,
        "decimals": column.decimals,
        "custom.width": max(column.width, needed) if column.width else None,
        "custom.minWidth": needed if not column.width and needed > NARROWEST else None,
        "mappings": column.mappings or (theme.NAN_DASH if column.numeric else None),
        "thresholds": column.thresholds,
    }
    for key, value in plain.items():
        if value is not None:
            add(key, value)
    if column.gauge_to is not None:
        add("min", 0)
        add("max", column.gauge_to)
        add("custom.cellOptions", {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"})
    elif column.buttons:
        add("custom.cellOptions", {"type": "actions"})
        add("actions", [button.to_json_data() for button in column.buttons])
    elif column.thresholds is not None or "'color'" in str(column.mappings):
        add("custom.cellOptions", BACKGROUND)
        if column.thresholds is None:  # an empty cell would take the colour of the text as its background
            add("thresholds", theme.steps(theme.CLEAR))
    if column.link:
        url = f"/d/{column.link}&${{__url_time_range}}" if "?" in column.link else f"/d/{column.link}"
        add("links", [{"title": "Open", "url": url, "targetBlank": False}])
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def traces(title: str, ask: str, query: TraceQuery, *, columns: Sequence[Column], largest: str) -> Viz:
    """List the latest spans, sorted by a column; a click on an id opens the trace. Sources are names of Tempo's fields.

    What a column shows of a span, Tempo is asked for. Tempo also gives what a query compares: it is not shown. Grafana
    takes every attribute for text: numbers are made numbers, so that 10 s is more than 9 s. Its own units stay where
    a column has none.
    """
    attributes = [column for column in columns if "." in column.source]
    asked = ", ".join(f"span.{column.source}" for column in attributes)
    numbers = [
        {"targetField": column.source, "destinationType": "number"} for column in attributes if column.numeric
    ]
    return _listed(
        title,
        ask,
        [replace(query, query=f"{query.query} | select({asked}) with (most_recent=true)")],
        columns,
        [column.source for column in columns],
        order=[*(_TEMPOS.get(column.source, column.source) for column in columns), TRACE_ID],
        first=[{"id": "convertFieldType", "options": {"fields": {}, "conversions": numbers}}],
        sort=[{"displayName": largest, "desc": True}],
    )


_TEMPOS: Final = {"spanID": "Span ID", "time": "Start time", "duration": "Duration"}
"""What Grafana calls fields of its own: columns are put in order by these names."""

TRACE_ID: Final = "traceIdHidden"
"""A field that Grafana gives each span and does not show; the link of a span's id reads it."""


def _listed(
    title: str,
    ask: str,
    queries: Sequence[AnyQuery],
    columns: Sequence[Column],
    names: Sequence[str],
    *,
    sort: list[Json],
    first: list[Json],
    order: Sequence[str] = (),
    none: str = NO_VALUE,
) -> Viz:
    """Show the fields with these names as the columns, in their order, and nothing else.

    `order` are the names that Grafana puts them in order by, where they have others, and those of hidden fields.
    """
    kept = list(order or names)
    organize: Json = {
        "indexByName": {name: position for position, name in enumerate(kept)},
        "includeByName": {},
        "excludeByName": {},
        "renameByName": {},
    }
    return panel(
        "table",
        title,
        ask,
        queries,
        options={"showHeader": True, "cellHeight": "sm", "frameIndex": 0, "sortBy": sort},
        defaults={
            "unit": "string",
            "color": {"mode": "thresholds"},
            "thresholds": theme.QUIET,
            "custom": {
                "align": "left",
                "cellOptions": {"type": "auto"},
                "filterable": False,
                "inspect": False,
                "minWidth": NARROWEST,
            },
            "noValue": none,
        },
        overrides=[_of_column(name, column) for name, column in zip(names, columns, strict=True)],
        transformations=[
            *first,
            {"id": "filterFieldsByName", "options": {"include": {"names": kept}}},
            {"id": "organize", "options": organize},
        ],
    )
