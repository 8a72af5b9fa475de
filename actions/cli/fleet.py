"""The client verbs about several daemons: what a group's command answers, and `daemonpulse actions fleet`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import click

from actions.cli import completion
from actions.cli.client import client_flags, verb_flags
from actions.cli.connection import PARTLY, Api, Refused
from actions.cli.load_flags import plan_flags
from actions.cli.output import show, table
from exporter.shared.terminal import fail, say, say_json


def run_group(
    api: Api, verb: str, parameters: Mapping[str, Any], describe: Callable[[Any], str], *, as_json: bool
) -> NoReturn:
    """Run a command on the daemons that are meant, print a line for each, and exit: 0 all, 4 some, 1 none."""
    answer = api.run(verb, parameters)
    if as_json:
        say_json(answer)
    else:
        for one in answer["results"]:
            words = describe(one["operation"]) if api.is_done(one) else why_failed(one)
            say(f"{one['daemon']}: {words}")
    exit_of_group(answer)


def exit_of_group(answer: Any) -> NoReturn:
    """Exit as a group's answer says: 0 all, 4 some, 1 none."""
    sys.exit(0 if not answer["failed"] else PARTLY if answer["done"] else 1)


def why_failed(result: Any) -> str:
    """Write why a daemon's part of a group's command came to no good end."""
    problem = result["problem"] or {"detail": result["operation"]["state"]}
    return f"failed: {Refused(None, problem).words()}"


@click.group()
def fleet() -> None:
    """Keep a model loaded on at least so many of several daemons."""


@fleet.command("list")
@client_flags
def fleet_list(*, api: Api, as_json: bool) -> None:
    """List the groups, how many daemons serve, and what is done next.

    \b
    Example:  daemonpulse actions fleet list
    """  # noqa: D301 - click wants a real backspace before lines that are to stay as they are
    answer = api.ask("GET", "/v1/fleet/desired", {})
    if as_json:
        say_json(answer)
    else:
        _print(answer["groups"])


@fleet.command("set")
@click.argument("name")
@click.argument("model", shell_complete=completion.models)
@click.option("--at-least", type=click.IntRange(1, 4096), required=True, help="Daemons that shall have it.")
@click.option(
    "--wave",
    type=click.IntRange(1, 4096),
    default=1,
    show_default=True,
    help="Daemons that may be loading at the same time.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done next, and change nothing.")
@plan_flags
@verb_flags
def fleet_set(*, api: Api, as_json: bool, dry_run: bool, **parameters: Any) -> None:
    """Keep MODEL loaded on several daemons, as group NAME.

    They are those of --site or --daemon. Loads are spread over sites and daemons. Nothing is evicted, and no request
    is ended.

    \b
    Example:  daemonpulse actions fleet set chat qwen/qwen3-8b --at-least 3 --site east --wave 2 --dry-run
    """  # noqa: D301 - as above
    if not api.is_chosen:
        fail("--site: say which daemons, with --site or --daemon")
    asked = {**parameters, **api.selection, "dry_run": str(dry_run).lower()}
    answer = api.ask("POST", "/v1/fleet/desired", asked)
    if as_json:
        say_json(answer)
    else:
        _print([answer])


@fleet.command("remove")
@click.argument("name")
@client_flags
def fleet_remove(*, api: Api, as_json: bool, name: str) -> None:
    """Remove the group NAME. What it loaded stays.

    \b
    Example:  daemonpulse actions fleet remove chat
    """  # noqa: D301 - as above
    answer = api.ask("POST", "/v1/fleet/desired", {"name": name, "at_least": 0})
    show(answer, f"{name} removed", as_json=as_json)


_COLUMNS = ("GROUP", "MODEL", "AT LEAST", "SERVING", "MISSING", "WAVE", "DAEMONS")


def _print(groups: list[Any]) -> None:
    rows = []
    for one in groups:
        group, plan = one["group"], one["plan"] or {}
        chosen = [f"site {group['site']}"] if group["site"] else []
        where = " ".join((*chosen, *group["daemons"]))
        rows.append(
            (
                group["name"],
                group["model"],
                group["at_least"],
                plan.get("serving"),
                plan.get("missing"),
                group["wave"],
                where,
            )
        )
    table(_COLUMNS, rows)
    for one in groups:
        name = one["group"]["name"]
        if one["problem"]:
            say(f"{name}: {one['problem']}")
        for step in one["plan"]["steps"] if one["plan"] else ():
            how = "load, in place of the idle instance" if step["replaces"] else "load"
            say(f"{name}: next {step['daemon']}: {how}")
        for daemon, why in one["plan"]["waiting"].items() if one["plan"] else ():
            say(f"{name}: {daemon} {why}")
