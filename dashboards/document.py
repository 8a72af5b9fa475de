"""Writes docs/DASHBOARDS.md, each panel with its question and queries, and docs/CAUSES.md, what alerts can name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dashboards.alerts.alert import Alert
from dashboards.alerts.causes import RECENT, Cause
from dashboards.kit.board import Board
from dashboards.kit.targets import AnyQuery, ApiQuery, LogQuery, Query, TraceQuery
from dashboards.kit.theme import Json
from dashboards.kit.variables import Variable

_HEAD: Final = """# Dashboards

Written by `daemonpulse dashboards build`. Do not edit: change `dashboards/`, then build.

Eight boards, one question each, linked with one another. Import `dashboards/generated/<board>.json` into any Grafana
from version 12 on. The boards look for the shipped stack's datasources, and take the first one of the same type where
those do not exist; the settings of a board show the choice as hidden variables.

Buttons POST through Grafana's datasource proxy to the actions API. The token stays in Grafana's server; no board
holds one. Only people who may edit a board see its buttons.

Variables are written as in the boards: `$daemon` and the like are your choice at the top, `$__rate_interval` and
`$__range` are Grafana's.

| Board | Question |
| --- | --- |
"""


def document(boards: Sequence[Board]) -> str:
    """Write the page."""
    rows = "".join(f"| [{board.name}](#{board.name.lower()}) | {board.question} |\n" for board in boards)
    return _HEAD + rows + "".join("\n".join(_board(board)) for board in boards)


def _board(board: Board) -> Iterator[str]:
    yield f"\n## {board.name}\n\n{board.question}\n"
    yield "Variables: " + ", ".join(_variable(variable) for variable in board.variables) + ".\n"
    for part in board.sections:
        if part.title:
            yield f"### {board.name}: {part.title.lower()}\n"
        for line in part.rows:
            for _, viz in line.panels:
                yield f"**{viz.title}.** {viz.description}\n"
                yield from (_query(query) for query in viz.targets)
                for button in _buttons(viz.overrides):
                    yield f"Button *{button['title']}*: `POST {button['fetch']['url'].partition('}')[2]}`\n"
    if board.notes:
        yield "Drawn over every panel: " + ", ".join(note.name.lower() for note in board.notes) + "."
        yield "\n```promql\n" + "\n".join(note.expr.text for note in board.notes) + "\n```\n"


def _variable(variable: Variable) -> str:
    return (
        f"`${variable.name}` ({variable.label}{': ' + variable.about.rstrip('.') if variable.about else ''})"
    )


def _query(query: AnyQuery) -> str:
    match query:
        case Query():
            return f"```promql\n{query.expr.text}\n```\n"
        case LogQuery():
            return f"```logql\n{query.expr}\n```\n"
        case TraceQuery():
            return f"```traceql\n{query.query}\n```\n"
        case ApiQuery(resource="live"):
            return "The actions API's `GET /v1/live`, as it goes on.\n"
        case ApiQuery(resource="think"):
            return "The actions API's `POST /v1/live/text`, as it goes on.\n"
        case ApiQuery():
            return f"The actions API's list of {query.resource}.\n"


def _buttons(overrides: Sequence[Json]) -> Iterator[Json]:
    for override in overrides:
        for entry in override["properties"]:
            if entry["id"] == "actions":
                yield from entry["value"]


_CAUSES_HEAD: Final = f"""# Named causes

Written by `daemonpulse dashboards build`. Do not edit: change `dashboards/alerts/causes.py`, then build.

Alerts that page name one cause of this list, or none. The rules look in this order, which is that of cause and effect:
hardware, host, engine, then what clients do. The first that explains the alert and whose evidence was seen in the last
{RECENT} (some: 5m) is named; so a lost GPU is named, and not the crash that it led to.

- Annotation `cause` of the alert: the cause, what it is about, the series that shows it with its value, what to do.
  It is empty where no evidence is seen: the cause is another one, and not that there is none.
- Board Overview, *Named causes*. Series `alert:<alert>:cause`, there while the alert's condition holds; each cause's
  evidence by itself: `daemon:<cause>:evidence` and `gpu:<cause>:evidence`.
- GPUs and the host count for the daemons that run where the exporter does. Without an exporter on that host, or without
  Prometheus' rules, nothing is named. Grafana's own alerting has no queries in annotations and leaves `cause` empty;
  the board shows it all the same.
- Evidence is no proof: two things can be wrong at once, and what no series shows cannot be named.

`python -m tests.causes` plays labelled faults on the simulator and prints how many are named right:
[BENCHMARKS.md](BENCHMARKS.md#named-causes).
"""


def causes_page(causes: Sequence[Cause], alerts: Sequence[Alert]) -> str:
    """Write the page of causes."""
    return _CAUSES_HEAD + "".join("\n".join(_cause(cause, alerts)) + "\n" for cause in causes)


def _cause(cause: Cause, alerts: Sequence[Alert]) -> Iterator[str]:
    def links(names: Sequence[str]) -> str:
        return ", ".join(
            f"[{alert.name}](runbook/{alert.name}.md)" for alert in alerts if alert.name in names
        )

    yield f"\n## {cause.name[0].upper()}{cause.name[1:]}\n"
    yield f"Evidence: `{cause.evidence.metrics[0].name}`. {cause.remedy}\n"
    yield f"Explains {links(cause.explains)}" + (
        f"; where an engine crashed as well, {links(cause.by_crash)}." if cause.by_crash else "."
    )
