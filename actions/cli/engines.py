"""`daemonpulse actions engines`: list, select and update a daemon's inference engines."""

from __future__ import annotations

from typing import Any

import click

from actions.cli.client import verb_flags
from actions.cli.connection import Api
from actions.cli.output import show, table
from exporter.shared.terminal import say, say_json

_COLUMNS = ("ENGINE", "VERSION", "DAEMON", "FORMATS", "SELECTED FOR")


@click.group()
def engines() -> None:
    """List, select and update a daemon's inference engines."""


@engines.command("list")
@click.option("--search", help="Show also what can be downloaded whose name has this, such as llama.cpp.")
@verb_flags
def engines_list(*, api: Api, as_json: bool, search: str | None) -> None:
    """List the installed engines, and which are selected.

    \b
    Example:  daemonpulse actions engines list --search llama.cpp
    """  # noqa: D301 - click wants a real backspace before lines that are to stay as they are
    answers = api.each(lambda name: api.ask("GET", api.path("engines", daemon=name), {"search": search}))
    if as_json:
        say_json({"daemons": answers})
        return
    table(
        _COLUMNS,
        [
            (
                one["engine"],
                one["version"],
                answer["daemon"],
                ", ".join(one["formats"]),
                ", ".join(one["selected_for"]) or None,
            )
            for answer in answers
            for one in answer["engines"]
        ],
    )
    for answer in answers:
        for one in answer["available"] or ():
            state = "installed" if one["installed"] else "available"
            say(f"{answer['daemon']}: {one['engine']} {one['version']} {state}")


@engines.command("select")
@click.argument("engine")
@click.option("--engine-version", "version", required=True, help="Version, as listed.")
@click.option("--model-format", default="GGUF", show_default=True, help="Format that it is selected for.")
@click.option("--reason", help="Goes into the audit.")
@verb_flags
def engines_select(*, api: Api, as_json: bool, **parameters: Any) -> None:
    """Select an installed ENGINE for the loads from then on.

    \b
    Example:  daemonpulse actions engines select llama.cpp-linux-x86_64-avx2 --engine-version 2.41.0
    """  # noqa: D301 - as above
    operation = api.command("engines/select", parameters)
    chosen = f"{parameters['engine']} {parameters['version']} selected for {parameters['model_format']}"
    show(operation, chosen, as_json=as_json)


@engines.command("update")
@click.argument("engine")
@click.option("--engine-version", "version", required=True, help="Version that is offered.")
@click.option("--reason", help="Goes into the audit.")
@verb_flags
def engines_update(*, api: Api, as_json: bool, **parameters: Any) -> None:
    """Download a version of ENGINE and select it.

    It is selected only where another version of it is selected.

    \b
    Example:  daemonpulse actions engines update llama.cpp-linux-x86_64-avx2 --engine-version 2.42.0
    """  # noqa: D301 - as above
    operation = api.command("engines/update", parameters, bar=not as_json)
    formats = operation["result"]["selected_for"]
    words = f", selected for {', '.join(formats)}" if formats else ""
    show(operation, f"{parameters['engine']} {parameters['version']} installed{words}", as_json=as_json)
