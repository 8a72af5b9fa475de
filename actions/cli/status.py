"""The client verbs ps, models, operations and cancel."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import click

from actions.cli.client import client_flags, verb_flags
from actions.cli.connection import Api, Refused
from actions.cli.output import age_of, gib, show, table
from exporter.shared.terminal import fail, local_time, say, say_json

_PS: Final = ("INSTANCE", "DAEMON", "STATE", "RUN", "WAIT", "CONTEXT", "PARALLEL", "TTL LEFT", "VRAM")
_MODELS: Final = ("MODEL", "DAEMON", "TYPE", "SIZE", "PARAMS", "QUANT", "MAX CONTEXT", "LOADED")


@click.command()
@verb_flags
def ps(*, api: Api, as_json: bool) -> None:
    """List loaded instances and who else holds GPU memory.

    \b
    Example:  daemonpulse actions ps --daemon box
    """  # noqa: D301 - click wants a real backspace before lines that are to stay as they are
    seen = api.each(lambda name: _looked_at(api, name))
    if as_json:
        say_json({"daemons": seen})
        return
    rows = [
        (
            one["instance_id"],
            seen_at["daemon"],
            one["state"],
            one["running"],
            one["waiting"],
            one["context_length"],
            one["parallel"],
            _left(one["ttl_remaining_seconds"], has_ttl=one["ttl_seconds"] is not None),
            _by_gpu(seen_at["memory"]["instances"].get(one["instance_id"], {})),
        )
        for seen_at in seen
        for one in seen_at["instances"]
    ]
    table(_PS, rows)
    for seen_at in seen:
        _print_memory(seen_at["daemon"], seen_at["memory"], seen_at["problem"])


@click.command()
@verb_flags
def models(*, api: Api, as_json: bool) -> None:
    """List the models on disk.

    \b
    Example:  daemonpulse actions models --json
    """  # noqa: D301 - as above
    answers = api.each(lambda name: api.ask("GET", api.path("models", daemon=name), {}))
    if as_json:
        say_json({"daemons": answers})
        return
    table(
        _MODELS,
        [
            (
                one["model"],
                answer["daemon"],
                one["type"],
                gib(one["size_bytes"]) if one["size_bytes"] is not None else None,
                one["params"],
                one["quantization"],
                one["max_context_length"],
                ", ".join(one["instances"]) or None,
            )
            for answer in answers
            for one in answer["models"]
        ],
    )


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--before", help="Only operations older than the one with this id.")
@verb_flags
def operations(*, api: Api, as_json: bool, limit: int, before: str | None) -> None:
    """List the latest operations, newest first.

    \b
    Example:  daemonpulse actions operations --limit 5
    """  # noqa: D301 - as above
    answers = [
        api.ask("GET", "/v1/operations", {"daemon": name, "limit": limit, "before": before})["operations"]
        for name in (api.daemons() if api.is_chosen else [None])
    ]
    found = sorted((one for page in answers for one in page), key=lambda one: -one["created_ms"])[:limit]
    if as_json:
        say_json({"operations": found})
        return
    if not found:
        say("no operation yet")
    for one in found:
        at = local_time(one["created_ms"])
        why = f"  {one['problem']['detail']}" if one["problem"] else ""
        who = one["person"] or one["actor"]
        what = f"{one['state']:<9} {one['daemon']:<10} {one['action']:<9} {one['subject']}"
        say(f"{at}  {one['id']}  {what}  by {who}{why}")


@click.command()
@click.argument("operation_id", metavar="ID")
@client_flags
def cancel(*, api: Api, as_json: bool, operation_id: str) -> None:
    """Cancel the operation ID, as `operations` lists it.

    \b
    Example:  daemonpulse actions cancel 3f2a9c0d1b
    """  # noqa: D301 - as above
    answer = api.ask("POST", f"/v1/operations/{quote(operation_id, safe='')}/cancel", {})
    words = f"{answer['id']} {answer['state']}: {answer['action']} {answer['subject']}"
    show(answer, words, as_json=as_json)


def _looked_at(api: Api, name: str) -> dict[str, Any]:
    """Read instances and memory of a daemon; one that is down does not hide the others."""
    nothing: dict[str, Any] = {"gpus": [], "holders": [], "instances": {}}
    nothing |= dict.fromkeys(("problem", "source", "age_seconds"))
    try:
        listed = api.try_ask("GET", api.path("instances", daemon=name), {})
        unread = listed["unreadable"]
        memory = api.try_ask("GET", api.path("memory", daemon=name), {})
    except Refused as refusal:
        if refusal.exit_code != 1:
            fail(refusal.words(), refusal.exit_code)
        return {"daemon": name, "instances": [], "memory": nothing, "problem": refusal.words()}
    problem = f"{unread} loaded instances or lists of them cannot be read" if unread else None
    return {"daemon": name, "instances": listed["instances"], "memory": memory, "problem": problem}


def _print_memory(daemon: str, memory: dict[str, Any], problem: str | None) -> None:
    why = problem or memory["problem"]
    if why:
        say(f"{daemon}: {why}")
    own = set(memory["instances"])
    for gpu in memory["gpus"]:
        others = ", ".join(
            f"{holder['process'] or 'others'}{_pid(holder)} {gib(holder['memory_bytes'])}"
            for holder in memory["holders"]
            if holder["gpu"] == gpu["index"] and holder["instance_id"] not in own
        )
        say(
            f"{daemon} GPU {gpu['index']}: {gib(gpu['free_bytes'], gpu['total_bytes'])} free"
            + age_of(memory["age_seconds"])
            + (f"; {others}" if others else "")
        )


def _pid(holder: dict[str, Any]) -> str:
    return f" (pid {holder['pid']})" if holder["pid"] is not None else ""


def _by_gpu(held: dict[str, int]) -> str | None:
    return ", ".join(f"GPU {gpu}: {gib(size)}" for gpu, size in sorted(held.items())) or None


def _left(seconds: float | None, *, has_ttl: bool) -> str | None:
    if not has_ttl:
        return "pinned"
    if seconds is None:
        return None
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


STATUS_COMMANDS: Final = (ps, models, operations, cancel)
