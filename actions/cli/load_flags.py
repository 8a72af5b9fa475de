"""The flags of a load, one for each row of the table of options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from actions.domain.load_key import LoadKey
from actions.domain.load_keys import ROWS
from exporter.shared.durations import Duration


def plan_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of a load, one for each row of the table of options."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        click.option("--instance-id", help="Name of the instance. Default: the model key."),
        click.option("--ttl", "ttl_seconds", type=Duration(), help="Idle time, such as 1h. Default: never."),
        *(_option(row) for row in ROWS),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _option(row: LoadKey) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make the flag of one option. The API checks what a click type cannot."""
    flag = row.cli_flag
    if row.kind == "bool":
        negated = f"--no-{flag.removeprefix('--')}"
        return click.option(f"{flag}/{negated}", row.parameter, default=None, help=row.help)
    kinds: dict[str, Any] = {
        "int": click.IntRange(_whole(row.least), _whole(row.most)),
        "number": click.FloatRange(row.least, row.most),
        "choice": click.Choice(row.values),
    }
    plain = row.unchecked is None or row.kind == "choice"
    return click.option(
        flag,
        row.parameter,
        type=kinds.get(row.kind) if plain else None,
        multiple=row.kind in {"words", "pairs"},
        metavar=_metavar(row),
        help=row.help,
    )


def _metavar(row: LoadKey) -> str | None:
    shown = {"indices": "0,1", "shares": "2,1", "words": "KEY", "pairs": "KEY=VALUE"}
    return None if row.kind == "choice" else shown.get(row.kind, row.kind.upper())


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)
