"""Puts panels on a board: rows of 24 columns, variables, annotations, links between the boards.

The panels are in dashboards/boards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import attr
from grafanalib import core

from dashboards.kit import theme
from dashboards.kit.labels import began_firing, unless_any
from dashboards.kit.panels import Viz
from dashboards.kit.promql import RATE_INTERVAL, Expr, Selector, count_by
from dashboards.kit.targets import PROMETHEUS
from dashboards.kit.theme import Json
from dashboards.kit.variables import Variable
from exporter.catalogue import daemon as d

COLUMNS: Final = 24
NARROWEST: Final = 3
SCHEMA_VERSION: Final = 41
"""The newest that every Grafana 12 and 13 reads."""
TAG: Final = "daemonpulse"
TITLE: Final = "DaemonPulse"
REFRESH: Final = "30s"
"""Slower than a fold takes to load on a busy host; the picker offers 5 s for watching live."""


@dataclass(frozen=True, slots=True)
class Note:
    """An annotation: something that happened, drawn over every panel."""

    name: str
    expr: Expr
    title: str
    """May name labels as {{label}}."""
    color: str

    def to_json_data(self) -> Json:
        """Write the annotation."""
        return {
            "name": self.name,
            "datasource": PROMETHEUS,
            "enable": True,
            "hide": True,
            "iconColor": self.color,
            "expr": self.expr.text,
            "titleFormat": self.title,
            "step": "15s",
            "useValueForTime": False,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side, of one height; their widths add up to 24."""

    height: int
    panels: tuple[tuple[int, Viz], ...]

    def __post_init__(self) -> None:
        """Refuse a row with a gap. Raises ValueError."""
        widths = [width for width, _ in self.panels]
        if sum(widths) != COLUMNS or min(widths) < NARROWEST:
            raise ValueError(f"widths {widths} must add up to {COLUMNS}, each at least {NARROWEST}")


def row(height: int, *panels: tuple[int, Viz]) -> Row:
    """Write a row."""
    return Row(height, panels)


@dataclass(frozen=True, slots=True)
class Section:
    """Rows below a heading; "" is the top of the board, which has none. Others are closed unless they repeat."""

    title: str
    rows: tuple[Row, ...]
    repeat: str = ""
    """Variable for each of whose values the section is shown once, open."""

    @property
    def collapsed(self) -> bool:
        """Whether a reader has to open it."""
        return bool(self.title) and not self.repeat


def section(title: str, *rows: Row, repeat: str = "") -> Section:
    """Write a section."""
    return Section(title, rows, repeat)


@dataclass(frozen=True, slots=True)
class Board:
    """One board and the one question it answers."""

    name: str
    question: str
    variables: tuple[Variable, ...]
    sections: tuple[Section, ...]
    notes: tuple[Note, ...] = ()
    answer: tuple[str, ...] = ()
    """Titles of the panels that answer the question: they must lie above the fold."""
    since: str = "now-1h"
    """Start of the range when the board is opened."""

    @property
    def uid(self) -> str:
        """The same for ever: links and bookmarks hold it."""
        return f"{TAG}-{self.name.lower()}"

    def placed(self) -> Iterator[core.Panel]:
        """Give every panel its place, top to bottom; those of a closed row lie in it."""
        top = 0
        for part in self.sections:
            inside: list[Viz] | None = [] if part.collapsed else None
            if part.title:
                yield _Heading(
                    title=part.title,
                    gridPos=core.GridPos(1, COLUMNS, 0, top),
                    collapsed=part.collapsed,
                    panels=[] if inside is None else inside,
                    repeated=part.repeat,
                )
                top += 1
            start = top
            for line in part.rows:
                left = 0
                for width, viz in line.panels:
                    placed = attr.evolve(viz, gridPos=core.GridPos(line.height, width, left, top))
                    if inside is None:
                        yield placed
                    else:
                        inside.append(placed)
                    left += width
                top += line.height
            if inside is not None:
                top = start

    def to_json(self) -> Json:
        """Write the board: with the datasources of the shipped stack chosen, and others to choose."""
        placed = list(self.placed())
        page = _Page(
            title=f"DaemonPulse / {self.name}",
            description=self.question,
            uid=self.uid,
            panels=placed,
            links=[_LINKS],
            since=self.since,
        )
        data: Json = pruned(_plain({**page.to_json_data(), "variables": None}))
        for number, panel in enumerate(_all_panels(data["panels"]), start=1):
            panel["id"] = number
        data["templating"] = {"list": [_plain(variable.to_json_data()) for variable in self.variables]}
        data["annotations"] = {"list": [_plain(note.to_json_data()) for note in self.notes]}
        return data


def _all_panels(panels: list[Json]) -> Iterator[Json]:
    """List panels and headings, each heading before what lies in it."""
    for panel in panels:
        yield panel
        yield from panel.get("panels", [])


@attr.s
class _Heading(core.Panel):  # type: ignore[misc]
    """The heading of a section."""

    title: str = attr.ib(default="")
    gridPos: core.GridPos = attr.ib(default=None)  # noqa: N815 - grafanalib's name
    collapsed: bool = attr.ib(default=True)
    panels: list[Viz] = attr.ib(factory=list)
    repeated: str = attr.ib(default="")

    def to_json_data(self) -> Json:
        return {
            "type": "row",
            "id": None,
            "title": self.title,
            "collapsed": self.collapsed,
            "gridPos": self.gridPos,
            "panels": self.panels,
            **({"repeat": self.repeated} if self.repeated else {}),
        }


_LINKS: Final[Json] = {
    "type": "dashboards",
    "title": TITLE,
    "tags": [TAG],
    "asDropdown": True,
    "icon": "external link",
    "includeVars": True,
    "keepTime": True,
    "targetBlank": False,
    "tooltip": "The other boards, for the same daemon and time",
    "url": "",
}


@attr.s
class _Page(core.Dashboard):  # type: ignore[misc]
    """A dashboard as today's Grafana stores it; drops grafanalib's keys of older ones."""

    title: str = attr.ib(default="")
    description: str = attr.ib(default="")
    uid: str = attr.ib(default="")
    panels: list[core.Panel] = attr.ib(factory=list)
    links: list[Json] = attr.ib(factory=list)
    since: str = attr.ib(default="now-1h")

    def to_json_data(self) -> Json:
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "editable": False,
            "graphTooltip": 1,
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "timezone": "browser",
            "refresh": REFRESH,
            "time": {"from": self.since, "to": "now"},
            "timepicker": {"refresh_intervals": ["5s", "10s", "30s", "1m", "5m"]},
            "links": self.links,
            "panels": self.panels,
        }


def _plain(value: Any) -> Any:
    """Turn grafanalib's objects into dicts and lists, as its encoder does."""
    if hasattr(value, "to_json_data"):
        return _plain(value.to_json_data())
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def pruned(value: Any) -> Any:
    """Drop nulls, but not the threshold step that begins at minus infinity."""
    if isinstance(value, dict):
        step = value.keys() == {"value", "color"}
        return {
            key: pruned(item) for key, item in value.items() if item is not None or (step and key == "value")
        }
    return [pruned(item) for item in value] if isinstance(value, list) else value


_TOP: Final = Selector({"daemon": "$daemon"})
_FEW: Final = 4


def _of_few(expr: Expr) -> Expr:
    """Leave it away where more daemons are shown: what is routine for one would hide what fifty did."""
    return unless_any(expr, count_by(_TOP.now(d.UP)) > _FEW)


LOADED: Final = Note(
    "Model loads", _of_few(_TOP.newly(d.LOADS, RATE_INTERVAL)), "Loaded {{model}} on {{daemon}}", theme.SLATE
)
UNLOADED: Final = Note(
    "Model unloads",
    _of_few(_TOP.newly(d.UNLOADS, RATE_INTERVAL)),
    "Unloaded {{model}} from {{daemon}} ({{cause}})",
    theme.DIM,
)
RESTARTED: Final = Note(
    "Restarts", _TOP.newly(d.RESTARTS, RATE_INTERVAL), "{{daemon}} restarted", theme.AMBER
)
UPGRADED: Final = Note(
    "Versions",
    _of_few(_TOP.appeared(d.BUILD_INFO, RATE_INTERVAL)),
    "{{daemon}} runs {{version}}",
    theme.VIOLET,
)
CRITICAL: Final = Note(
    "Critical alerts", began_firing("critical", RATE_INTERVAL), "{{alertname}} fires", theme.RED
)
WARNED: Final = Note(
    "Warnings", _of_few(began_firing("warning", RATE_INTERVAL)), "{{alertname}} fires", theme.AMBER
)
NOTES: Final = (CRITICAL, WARNED, LOADED, UNLOADED, RESTARTED, UPGRADED)
