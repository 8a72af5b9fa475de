"""`daemonpulse check --against FRAMES`: what recorded frames of another daemon version would cost, before the upgrade.

Reads recordings of frames (one JSON object per line with `dir` and `data`) and of `lms log stream --json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import yaml

from actions.domain.evidence import KNOWS_LESS
from daemonpulse import upgrade
from daemonpulse.shipped import generated
from exporter.catalogue import CATALOGUE, Metric
from exporter.shared.terminal import fail, say_json

_WORD: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass(frozen=True, slots=True)
class Loss:
    """A metric that would vanish, with what shows it."""

    metric: str
    fields: list[str]
    """Those of the fields it needs that the recording does not have, or has in another type."""
    panels: list[str]
    alerts: list[str]


@dataclass(frozen=True, slots=True)
class Impaired:
    """An action that would refuse, or know less than today."""

    action: str
    when: str
    """The situation in which it would; "" in any."""
    effect: str
    """The type of the problem it would end with, or "knows less"."""
    fields: list[str]


def run(recordings: Iterable[BinaryIO], *, as_json: bool) -> int:
    """Compare, print, and return the exit code: 1 if something would be lost, 2 if nothing was recorded."""
    answers: dict[str, list[Any]] = {}
    for recording in recordings:
        for call, answer in answers_of(recording):
            answers.setdefault(call, []).append(answer)
    if not answers:
        fail(
            "--against: no answer and no log event that the exporter reads; record frames or `lms log stream --json`"
        )
    gone = upgrade.missing(answers)
    losses, actions = losses_of(gone), actions_of(gone)
    silent = sorted(upgrade.SHAPES.keys() - answers.keys())
    if as_json:
        say_json(
            {
                "recorded": sorted(answers),
                "not_recorded": silent,
                "lost": [asdict(loss) for loss in losses],
                "actions": [asdict(action) for action in actions],
            }
        )
    else:
        _print(losses, actions, answers, silent)
    return 1 if losses or actions else 0


def answers_of(recording: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    """Give the answers to calls and the log events of a recording, by call or event type; skip every other line."""
    asked: dict[tuple[Any, ...], str] = {}
    for line in recording:
        message = _object(line)
        where = message.get("ns"), message.get("conn")
        if "data" in message and message.get("op") == "request":
            asked[where] = str(message["data"])
        elif "data" in message and message.get("op") == "response":
            yield from _of_rest(asked.get(where, ""), message["data"])
        elif "data" in message and "dir" in message:
            yield from _of_frame(_object(message["data"]), where, asked)
        elif "timestamp" in message:
            yield from _of_event(message)


def _of_frame(
    frame: dict[str, Any], where: tuple[Any, Any], asked: dict[tuple[Any, ...], str]
) -> Iterator[tuple[str, Any]]:
    call = (*where, "call", repr(frame.get("callId")))
    channel = (*where, "channel", repr(frame.get("channelId")))
    match frame.get("type"):
        case "rpcCall":
            asked[call] = str(frame.get("endpoint"))
        case "channelCreate":
            asked[channel] = str(frame.get("endpoint"))
        case "rpcResult" if asked.get(call) in upgrade.SHAPES:
            yield asked[call], frame.get("result")
        case "channelSend" if asked.get(channel) in upgrade.SHAPES:
            yield asked[channel], frame.get("message")
        case "channelSend" if isinstance(frame.get("message"), dict):
            yield from _of_event(frame["message"].get("log"))


def _of_rest(request: str, body: Any) -> Iterator[tuple[str, Any]]:
    """Give the answer to a request, or every event of its stream."""
    call = next((name for name in upgrade.SHAPES if f"{request}/".startswith(f"{name.rstrip('/')}/")), None)
    if call is None:
        return
    lines = str(body).splitlines()
    events = [line.removeprefix("data:") for line in lines if line.startswith("data:")]
    yield from ((call, _object(text)) for text in events or [body])


def _of_event(event: Any) -> Iterator[tuple[str, Any]]:
    data = event.get("data") if isinstance(event, dict) else None
    kind = data.get("type") if isinstance(data, dict) else None
    if isinstance(kind, str) and kind in upgrade.SHAPES:
        yield kind, event


def _object(text: bytes | str | Any) -> dict[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, bytes | str) else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def actions_of(gone: Sequence[str]) -> list[Impaired]:
    """Name the actions that would refuse or know less without these fields."""
    return [
        Impaired(action, lack.when, lack.effect, [field for field in lack.fields if field in gone])
        for action, lacks in upgrade.impaired(gone).items()
        for lack in lacks
    ]


def losses_of(gone: Sequence[str]) -> list[Loss]:
    """Name the metrics that would vanish, and the panels and alerts of this version that ask for them."""
    panels, rules = list(_panels(generated())), list(_rules(generated() / "rules"))
    return [_loss(row, gone, panels, rules) for row in upgrade.vanishing(gone)]


def _loss(
    row: Metric,
    gone: Iterable[str],
    panels: list[tuple[str, set[str]]],
    rules: list[tuple[str, str, set[str]]],
) -> Loss:
    names = {row.name, *(f"{row.name}_{part}" for part in ("bucket", "sum", "count"))}
    grown = True
    while grown:  # recording rules of recording rules
        recorded = {name for kind, name, uses in rules if kind == "record" and uses & names}
        grown = not recorded <= names
        names |= recorded
    return Loss(
        row.name,
        [need for need in row.needs if need in gone],
        sorted({title for title, uses in panels if uses & names}),
        sorted({name for kind, name, uses in rules if kind == "alert" and uses & names}),
    )


def _panels(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """List the panels of the boards with the words of their queries."""
    for file in sorted(folder.glob("*.json")):
        board = json.loads(file.read_text(encoding="utf-8"))
        waiting = list(board["panels"])
        while waiting:
            panel = waiting.pop()
            waiting += panel.get("panels", ())
            words = {
                w for target in panel.get("targets", ()) for w in _WORD.findall(str(target.get("expr", "")))
            }
            if words:
                yield f"{board['title']}: {panel.get('title')}", words


def _rules(folder: Path) -> Iterator[tuple[str, str, set[str]]]:
    """List rules as kind, name and the words of their query."""
    for file in sorted(folder.glob("*.yaml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                kind = "alert" if "alert" in rule else "record"
                yield kind, rule[kind], set(_WORD.findall(rule["expr"]))


def _print(
    losses: list[Loss], actions: list[Impaired], answers: dict[str, list[Any]], silent: list[str]
) -> None:
    recorded = ", ".join(f"{call} ({len(found)})" for call, found in sorted(answers.items()))
    click.echo(f"recorded: {recorded}")
    if silent:
        click.echo(f"not recorded, so nothing is known: {', '.join(silent)}")
    for loss in losses:
        click.echo(f"\nlost: {loss.metric}\n  lacks  {', '.join(loss.fields)}")
        for what, names in (("panels", loss.panels), ("alerts", loss.alerts)):
            if names:
                click.echo(f"  {what} {', '.join(names)}")
    for one in actions:
        does = one.effect if one.effect == KNOWS_LESS else f"refuses ({one.effect})"
        when = f" when {one.when}" if one.when else ""
        click.echo(f"\naction {one.action}{when}: {does}\n  lacks  {', '.join(one.fields)}")
    known = {need.partition(":")[0] for need in upgrade.NEEDED} & answers.keys()
    judged = sum(1 for row in CATALOGUE if row.needs and {n.partition(":")[0] for n in row.needs} <= known)
    click.echo(f"\n{len(losses)} metrics would be lost; {judged} could be judged by what is recorded")
    refusing = len({one.action for one in actions if one.effect != KNOWS_LESS})
    click.echo(
        f"{refusing} actions would refuse, {len({one.action for one in actions})} would not be as today"
    )
