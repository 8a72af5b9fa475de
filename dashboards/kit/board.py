"""Puts panels on a board: rows of 24 columns, variables, annotations, links between the boards.

Knows the grid and what every board has in common; which panels there are is each board's own business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import attr
from grafanalib import core

from dashboards.kit import theme
from dashboards.kit.panels import Viz
from dashboards.kit.promql import Expr, Scope
from dashboards.kit.targets import ACTIONS_TYPE, PROMETHEUS
from dashboards.kit.theme import Json
from exporter.catalogue import Metric
from exporter.catalogue import daemon as d

COLUMNS: Final = 24
NARROWEST: Final = 4
FOLD: Final = 20
"""Grid rows of 38 px that a screen of 1080 lines shows below Grafana's bars."""
SCHEMA_VERSION: Final = 41
"""The newest that every Grafana 12 and 13 reads."""
TAG: Final = "daemonpulse"
REFRESH: Final = "10s"
"""Not faster than Prometheus scrapes."""

FIXED_UIDS: Final = {
    "prometheus": "daemonpulse-prometheus",
    "loki": "daemonpulse-loki",
    "tempo": "daemonpulse-tempo",
    "actions": "daemonpulse-actions",
}
"""Datasources of the shipped stack. Only the provisioned copies name them."""
SOURCE_TYPES: Final = {"prometheus": "prometheus", "loki": "loki", "tempo": "tempo", "actions": ACTIONS_TYPE}


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a board."""

    name: str
    label: str
    kind: str
    """datasource, query, textbox or custom."""
    query: str = ""
    """For custom: choices as `text : value` or `value`, joined by commas."""
    default: str = ""
    about: str = ""

    def to_json_data(self) -> Json:
        """Write the variable."""
        data: Json = {
            "name": self.name,
            "label": self.label,
            "type": self.kind,
            "description": self.about,
            "hide": 0,
            "skipUrlSync": False,
        }
        if self.kind == "datasource":
            return {
                **data,
                "query": self.query,
                "refresh": 1,
                "regex": "",
                "multi": False,
                "includeAll": False,
            }
        if self.kind == "query":
            return {
                **data,
                "datasource": PROMETHEUS,
                "query": {"qryType": 1, "query": self.query, "refId": f"variable-{self.name}"},
                "refresh": 2,
                "regex": "",
                "sort": 1,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "current": {"text": ["All"], "value": ["$__all"], "selected": True},
            }
        if self.kind == "textbox":
            current = {"text": self.default, "value": self.default, "selected": True}
            return {**data, "query": self.default, "current": current, "options": [current]}
        choices = [choice.split(" : ") for choice in self.query.split(",")]
        options = [
            {"text": choice[0], "value": choice[-1], "selected": choice[-1] == self.default}
            for choice in choices
        ]
        current = next(option for option in options if option["selected"])
        return {**data, "query": self.query, "current": current, "options": options, "multi": False}


def source(name: str, label: str) -> Variable:
    """Let the reader choose the datasource of a kind."""
    return Variable(name, label, "datasource", SOURCE_TYPES[name], about=f"Which {label} to ask.")


def values_of(name: str, label: str, metric: Metric, key: str, *, about: str, **matchers: str) -> Variable:
    """List a label's values."""
    selector = Scope().now(metric, **matchers).text
    if key not in metric.labels and key != "instance":
        raise ValueError(f"{metric.name} has no label {key}")
    return Variable(name, label, "query", f"label_values({selector}, {key})", about=about)


DAEMON: Final = values_of("daemon", "Daemon", d.STATE, "daemon", about="Daemons to show.")
MODEL: Final = values_of("model", "Model", d.MODEL_INFO, "model", about="Models to show.", daemon="=~$daemon")


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
            "hide": False,
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
    """Rows below a heading; "" is the top of the board, which has none."""

    title: str
    rows: tuple[Row, ...]


def section(title: str, *rows: Row) -> Section:
    """Write a section."""
    return Section(title, rows)


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

    @property
    def uid(self) -> str:
        """The same for ever: links and bookmarks hold it."""
        return f"{TAG}-{self.name.lower()}"

    def placed(self) -> Iterator[core.Panel]:
        """Give every panel its place, top to bottom."""
        top = 0
        for part in self.sections:
            if part.title:
                yield core.RowPanel(title=part.title, gridPos=core.GridPos(1, COLUMNS, 0, top))
                top += 1
            for line in part.rows:
                left = 0
                for width, viz in line.panels:
                    yield attr.evolve(viz, gridPos=core.GridPos(line.height, width, left, top))
                    left += width
                top += line.height

    def to_json(self, *, provisioned: bool) -> Json:
        """Write the board: for the shipped stack with its datasources chosen, else for anybody's to choose."""
        page = _Page(
            title=f"DaemonPulse / {self.name}",
            description=self.question,
            uid=self.uid,
            panels=list(self.placed()),
            links=[_LINKS],
        ).auto_panel_ids()
        data: Json = pruned(_plain({**page.to_json_data(), "variables": None}))
        variables = [_plain(variable.to_json_data()) for variable in self.variables]
        data["templating"] = {"list": variables}
        data["annotations"] = {"list": [_plain(note.to_json_data()) for note in self.notes]}
        if not provisioned:
            return data
        for variable in variables:
            if variable["type"] == "datasource":
                uid = FIXED_UIDS[variable["name"]]
                variable["current"] = {"text": uid, "value": uid, "selected": True}
        fixed: Json = _replace(data, "/uid/${actions}/", f"/uid/{FIXED_UIDS['actions']}/")
        return fixed


_LINKS: Final[Json] = {
    "type": "dashboards",
    "title": "Boards",
    "tags": [TAG],
    "asDropdown": False,
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
            "time": {"from": "now-1h", "to": "now"},
            "timepicker": {"refresh_intervals": ["5s", "10s", "30s", "1m", "5m"]},
            "links": self.links,
            "panels": self.panels,
        }


def _plain(value: Any) -> Any:
    """Turn what knows how to write itself into dicts and lists, as grafanalib's encoder would."""
    if isinstance(value, core.RowPanel):
        place = _plain(value.gridPos)
        return {
            "type": "row", "id": value.id, "title": value.title, "collapsed": False, "gridPos": place, "panels": [],
        }  # fmt: skip
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


def _replace(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {key: _replace(item, old, new) for key, item in value.items()}
    return [_replace(item, old, new) for item in value] if isinstance(value, list) else value


_TOP: Final = Scope({"daemon": "$daemon"})

LOADED: Final = Note("Loads", _TOP.increase(d.LOADS) > 0, "Loaded {{model}} on {{daemon}}", theme.WELL)
UNLOADED: Final = Note(
    "Unloads", _TOP.increase(d.UNLOADS) > 0, "Unloaded {{model}} on {{daemon}} ({{cause}})", theme.ATTENTION
)
RESTARTED: Final = Note("Restarts", _TOP.increase(d.RESTARTS) > 0, "{{daemon}} restarted", theme.FAULT)
NOTES: Final = (LOADED, UNLOADED, RESTARTED)
