"""The client verbs of the desired state: pin, unpin and desired."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import click

from actions.cli import completion
from actions.cli.client import verb_flags
from actions.cli.connection import Api
from actions.cli.fleet import exit_of_group, why_failed
from actions.cli.load_flags import plan_flags
from actions.cli.output import table
from exporter.shared.durations import Duration
from exporter.shared.terminal import fail, say, say_json

_DESIRED: Final = ("INSTANCE", "DAEMON", "MODEL", "TTL", "STATE")


@click.command()
@click.argument("model", shell_complete=completion.models)
@plan_flags
@verb_flags
def pin(*, api: Api, as_json: bool, **parameters: Any) -> None:
    """Keep MODEL loaded: load it now and whenever it is gone.

    Nothing is evicted for it.

    \b
    Example:  daemonpulse actions pin qwen/qwen3-8b --context-length 32768
              daemonpulse actions pin qwen/qwen3-8b --site east
    """  # noqa: D301 - click wants a real backspace before lines that are to stay as they are
    _change(api, parameters, as_json=as_json)


@click.command()
@click.argument("instance_id", shell_complete=completion.instances)
@verb_flags
def unpin(*, api: Api, as_json: bool, instance_id: str) -> None:
    """Stop keeping INSTANCE_ID loaded. It stays loaded until it is ejected.

    \b
    Example:  daemonpulse actions unpin qwen/qwen3-8b
    """  # noqa: D301 - as above
    names = api.daemons() if api.is_group else [api.daemon()]
    states = [api.ask("GET", api.path("desired", daemon=name), {}) for name in names]
    pinned = sorted({str(one["instance_id"]) for state in states for one in state["instances"]})
    if instance_id not in pinned:
        fail(f"{instance_id}: not pinned; pinned: {', '.join(pinned) or 'nothing'}", 1)
    _change(api, {"instance_id": instance_id, "pinned": "false"}, as_json=as_json)


@click.command()
@click.option(
    "--reap-idle", type=Duration(), help="Eject what is not pinned after so much idle time, such as 1h."
)
@click.option("--no-reap", is_flag=True, help="Eject nothing for being idle.")
@verb_flags
def desired(
    *,
    api: Api,
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
        _change(api, {"reap_idle_seconds": reap_idle or 0}, as_json=as_json)
        return
    answers = [api.ask("GET", api.path("desired", daemon=name), {}) for name in api.daemons()]
    if as_json:
        say_json({"daemons": answers})
    else:
        _print(answers)


def _change(api: Api, parameters: dict[str, Any], *, as_json: bool) -> None:
    if api.is_group:
        _change_several(api, parameters, as_json=as_json)
    answer = api.ask("POST", api.path("desired"), parameters)
    if as_json:
        say_json(answer)
    else:
        _print([answer])


def _change_several(api: Api, parameters: dict[str, Any], *, as_json: bool) -> NoReturn:
    answer = api.ask("POST", "/v1/fleet/pin", {**parameters, **api.selection})
    if as_json:
        say_json(answer)
    else:
        _print([one["desired"] for one in answer["results"] if one["desired"] is not None])
        for one in answer["results"]:
            if one["desired"] is None:
                say(f"{one['daemon']}: {why_failed(one)}")
    exit_of_group(answer)


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
