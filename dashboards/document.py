"""Writes docs/DASHBOARDS.md: for each panel its question, its queries and their datasource."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

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
