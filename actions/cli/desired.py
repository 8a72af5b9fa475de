"""The client verbs of the desired state: pin, unpin and desired."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from actions.cli import completion
from actions.cli.client import verb_flags
from actions.cli.connection import Api
from actions.cli.models import plan_flags
from actions.cli.status import table
from exporter.shared.durations import Duration
from exporter.shared.terminal import fail, say, say_json

_DESIRED: Final = ("INSTANCE", "DAEMON", "MODEL", "TTL", "STATE")


@click.command()
@click.argument("model", shell_complete=completion.models)
@plan_flags
@verb_flags
def pin(*, url: str, token_file: Path | None, daemon: str | None, as_json: bool, **parameters: Any) -> None:
    """Keep MODEL loaded: load it now and whenever it is gone.

    Nothing is evicted for it.

    \b
    Example:  daemonpulse actions pin qwen/qwen3-8b --context-length 32768
    """  # noqa: D301 - click wants a real backspace before lines that are to stay as they are
    _change(url, token_file, daemon, parameters, as_json=as_json)


@click.command()
@click.argument("instance_id", shell_complete=completion.instances)
@verb_flags
def unpin(*, url: str, token_file: Path | None, daemon: str | None, as_json: bool, instance_id: str) -> None:
    """Stop keeping INSTANCE_ID loaded. It stays loaded until somebody ejects it.

    \b
    Example:  daemonpulse actions unpin qwen/qwen3-8b
    """  # noqa: D301 - as above
    _change(url, token_file, daemon, {"instance_id": instance_id, "pinned": "false"}, as_json=as_json)


@click.command()
@click.option(
    "--reap-idle", type=Duration(), help="Eject what is not pinned after so much idle time, such as 1h."
)
@click.option("--no-reap", is_flag=True, help="Eject nothing for being idle.")
@verb_flags
def desired(
    *,
    url: str,
    token_file: Path | None,
    daemon: str | None,
    as_json: bool,
    reap_idle: int | None,
    no_reap: bool,
) -> None:
    """List what is kept loaded, or set when the rest is ejected.

    \b
    Example:  daemonpulse actions desired --reap-idle 1h
    """  # noqa: D301 - as above
    if reap_idle is not None and no_reap:
        fail("--no-reap: not together with --reap-idle")
    if reap_idle is not None or no_reap:
        _change(url, token_file, daemon, {"reap_idle_seconds": reap_idle or 0}, as_json=as_json)
        return
    with Api(url, token_file) as api:
        answers = [api.ask("GET", _path(name), {}) for name in api.daemons(daemon)]
    if as_json:
        say_json({"daemons": answers})
    else:
        _print(answers)


def _change(
    url: str, token_file: Path | None, daemon: str | None, parameters: dict[str, Any], *, as_json: bool
) -> None:
    with Api(url, token_file) as api:
        answer = api.ask("POST", _path(api.daemon(daemon)), parameters)
    if as_json:
        say_json(answer)
    else:
        _print([answer])


def _path(daemon: str) -> str:
    return f"/v1/daemons/{quote(daemon, safe='')}/desired"


def _print(answers: list[Any]) -> None:
    table(
        _DESIRED,
        [
            (
                one["instance_id"],
                answer["daemon"],
                one["model"],
                f"{one['ttl_seconds']} s" if one.get("ttl_seconds") is not None else None,
                one.get("problem") or ("suspended" if one["suspended"] else "pinned"),
            )
            for answer in answers
            for one in answer["instances"]
        ],
    )
    for answer in answers:
        idle = answer["reap_idle_seconds"]
        if idle is not None:
            say(
                f"{answer['daemon']}: instances that are not pinned are ejected after {idle:g} s of idle time"
            )


DESIRED_COMMANDS: Final = (pin, unpin, desired)
