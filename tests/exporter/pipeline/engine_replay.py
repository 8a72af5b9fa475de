"""Replays what a real llama-server printed, in the ways in which a daemon may pass it on.

Does not know what is right: that is said by the recordings and the tests.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from exporter.llmster.events import LogEvent, RuntimeLog, ServerLog
from exporter.pipeline.slot_state import Slot
from exporter.pipeline.slots import SlotMonitor

FOLDER = Path(__file__).parents[2] / "fixtures" / "engine"
NAMES = sorted(path.stem for path in FOLDER.glob("*.jsonl"))
SLACK_MS = 60
"""How much earlier or later than an answer of the server its lines may arrive: another process wrote them down."""
LAG_MS = 150

Lines = list[tuple[int, str]]
Events = list[tuple[int, LogEvent]]
Busy = dict[int, int | None]


@dataclass
class Recording:
    lines: Lines = field(default_factory=list)
    polls: list[tuple[int, int, Busy]] = field(default_factory=list)
    requests: list[tuple[int, int, int]] = field(default_factory=list)


def recording(name: str) -> Recording:
    found = Recording()
    for text in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        one = json.loads(text)
        if "line" in one:
            found.lines.append((one["t"], one["line"]))
        elif "busy" in one:
            found.polls.append((one["t0"], one["t"], dict(enumerate(one["busy"]))))
        else:
            found.requests.append(tuple(one["request"]))
    return found


def runtime(text: str, at_ms: int) -> RuntimeLog:
    return RuntimeLog(at_ms, "debug", text, "llama.cpp", "2.41.0", "llama.cpp", "m", "r", 7)


def server(text: str, at_ms: int) -> ServerLog:
    return ServerLog(at_ms, "debug", f"[2026-11-22 12:51:12][DEBUG] {text}")


def as_they_are(lines: Lines) -> Events:
    return [(at, runtime(line, at)) for at, line in lines]


def over_the_server_log(lines: Lines) -> Events:
    return [(at, server(line, at)) for at, line in lines]


def joined(make: Callable[[str, int], LogEvent]) -> Callable[[Lines], Events]:
    """Make one event of lines that arrived within 10 ms."""
    return lambda lines: [(at, make(text, at)) for at, text in _joined(lines)]


def _joined(lines: Lines) -> Lines:
    groups: list[Lines] = []
    for at, line in lines:
        if groups and at - groups[-1][0][0] <= 10:
            groups[-1].append((at, line))
        else:
            groups.append([(at, line)])
    return [(group[-1][0], "\n".join(line for _, line in group)) for group in groups]


def split(make: Callable[[str, int], LogEvent], seed: int = 7) -> Callable[[Lines], Events]:
    """Cut every second line anywhere, into two events."""

    def cut(lines: Lines) -> Events:
        chance = random.Random(seed)
        events: Events = []
        for at, line in lines:
            place = chance.randrange(1, len(line)) if len(line) > 1 and chance.random() < 0.5 else len(line)
            events += [(at, make(piece, at)) for piece in (line[:place], line[place:]) if piece]
        return events

    return cut


def joined_and_split(make: Callable[[str, int], LogEvent], seed: int = 7) -> Callable[[Lines], Events]:
    """Make two events of lines that arrived within 10 ms: the second one begins anywhere."""

    def cut(lines: Lines) -> Events:
        chance = random.Random(seed)
        events: Events = []
        for at, text in _joined(lines):
            whole = text + "\n"
            place = chance.randrange(1, len(whole) + 1)
            events += [(at, make(piece, at)) for piece in (whole[:place], whole[place:]) if piece]
        return events

    return cut


def cut_anywhere(make: Callable[[str, int], LogEvent], seed: int = 8) -> Callable[[Lines], Events]:
    """Keep the line feeds, and let events begin and end anywhere."""

    def cut(lines: Lines) -> Events:
        chance = random.Random(seed)
        events: Events = []
        for at, line in lines:
            text = line + "\n"
            while text:
                place = chance.randrange(1, len(text) + 1)
                events.append((at, make(text[:place], at)))
                text = text[place:]
        return events

    return cut


def doubled(
    first: Callable[[str, int], LogEvent], second: Callable[[str, int], LogEvent]
) -> Callable[[Lines], Events]:
    """Let every line come over both channels, one of them later."""

    def twice(lines: Lines) -> Events:
        events = [(at, first(line, at)) for at, line in lines]
        events += [(at + LAG_MS, second(line, at + LAG_MS)) for at, line in lines]
        return sorted(events, key=lambda event: event[0])

    return twice


WAYS: dict[str, Callable[[Lines], Events]] = {
    "as they are": as_they_are,
    "over the server log": over_the_server_log,
    "joined": joined(runtime),
    "joined over the server log": joined(server),
    "split": split(runtime),
    "split over the server log": split(server),
    "cut anywhere": cut_anywhere(runtime),
    "cut anywhere over the server log": cut_anywhere(server),
    "joined and split": joined_and_split(runtime),
    "doubled": doubled(runtime, server),
    "doubled, the server log first": doubled(server, runtime),
}


def replay(lines: Lines, way: str) -> tuple[SlotMonitor, list[tuple[int, Busy]]]:
    """Return the monitor at the end, and which task it showed on each slot after each event."""
    monitor = SlotMonitor()
    monitor.keep_only({"m"})
    states: list[tuple[int, Busy]] = [(-1, {})]
    at = -1
    monitor.busy_changed = lambda _, slots: states.append((at, busy(slots or {})))
    for at, event in WAYS[way](lines):
        monitor.add(event)
        states.append((at, busy(monitor.slots("m"))))
    return monitor, states


def busy(slots: Mapping[int, Slot]) -> Busy:
    return {number: slot.task if slot.busy else None for number, slot in slots.items()}


def wrong_polls(found: Recording, states: list[tuple[int, Busy]]) -> int:
    """Count the answers of the server with a slot that was shown so at no moment of the answer."""
    wrong = 0
    for asked, answered, busy in found.polls:
        before = [state for at, state in states if at <= asked - SLACK_MS][-1:]
        during = [state for at, state in states if asked - SLACK_MS < at <= answered + SLACK_MS]
        shown = before + during
        wrong += any(all(state.get(slot) != task for state in shown) for slot, task in busy.items())
    return wrong
