"""Follows which slot of which instance works on what, from the lines its engine logs.

Knows no metrics and no clock: times are the events'. A wording it does not know changes nothing, so what was
never told is absent, not zero.

Lines of llama-server (llama.cpp, tools/server), each seen in a published log:
- `slot launch_slot_: id  2 | task 6 | processing task, is_child = 0`
- `slot print_timing: id  0 | task 7 | prompt processing, n_tokens = 2048, progress = 0.03, t = 9.61 s / 213.19 tokens
  per second`; older: `slot update_slots: id  0 | task 0 | prompt processing progress, n_past = 33, n_tokens = 33,
  progress = 1.000000`
- `slot print_timing: id  1 | task 916 | n_gen = 276, tg = 28.66 t/s, tg_3s = 30.85 t/s`; older: `n_decoded`
- `slot      release: id  0 | task 0 | stop processing: n_tokens = 3553, truncated = 0`
- `srv  update_slots: all slots are idle`
They arrive as `runtime.log`, and on 0.4.24 as `[DEBUG]` `server.log`; the same line may come both ways.

Generated text cannot pass for one: a line counts only as the first of its event, whole, from its first character
(after the stamp of a server.log line, with level debug); what a request body or a completion holds comes later.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import msgspec

from exporter.llmster.events import RuntimeLog, ServerLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.llmster.events import LogEvent

MAX_INSTANCES = 256
MAX_SLOTS = 512
"""Per instance: above any parallel setting; a slot number beyond it is not believed."""
_MAX_LINE_CHARS = 512
_DUPLICATE_MS = 10_000
"""A launch of the task a slot just finished is the same line come the other way; later, a restarted engine. A fatal
line is told once either way."""

_STAMP = re.compile(
    r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]\[DEBUG\](?:\[(?P<model>[^\]\n]{1,256})\])? ?", re.ASCII
)
_NATIVE = r"(?:\d{1,6}\.\d\d\.\d{3}\.\d{3} )?(?:[DIWE] )?"
"""llama-server's own stamp and level. Assumed: a daemon may pass them on; the captured one does not."""
_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
_SLOT = re.compile(
    _NATIVE + r"slot +(?P<function>\w{1,32})(?:\(\))?: id +(?P<slot>\d{1,4}) \| task (?P<task>\d{1,15}) \| "
    r"(?:"
    r"(?P<launch>processing task(?:, is_child = \d)?)"
    r"|(?P<release>(?:stop|cancel|error) processing(?:\.{3}|: n_\w{1,16} = \d{1,12}, truncated = \d)?)"
    rf"|prompt processing, n_tokens = +\d{{1,12}}, progress = (?P<progress>{_NUMBER}), t = +{_NUMBER} s / "
    rf"{_NUMBER} tokens per second"
    r"|prompt processing progress, n_\w{1,16} = +\d{1,12}, (?:n_tokens = +\d{1,12}, )?"
    rf"progress = (?P<older>{_NUMBER})"
    rf"|n_(?:gen|decoded) = +\d{{1,12}}, tg = +(?P<mean>{_NUMBER}) t/s(?:, tg_3s = +(?P<recent>{_NUMBER}) t/s)?"
    r") *",
    re.ASCII,
)
_IDLE = re.compile(_NATIVE + r"srv +update_slots: all slots are idle *", re.ASCII)
_FATAL = re.compile(
    r"(?:\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]\[ERROR\](?:\[(?P<model>[^\]\n]{1,256})\])? ?)?(?:Error: )?"
    r"(?:(?P<ran>The model has crashed without additional information\. \(Exit code: (?P<code>-?\w{1,24})\))"
    r"|Engine protocol runtime [\w.-]{1,64} for [^\n]{1,256} exited before becoming healthy\. "
    r"exitCode=(?P<exit>-?\w{1,24}))",
    re.ASCII,
)
"""The fatal lines as published; the code has up to 20 digits. Their end stays open, because releases differ in what
follows: `. Error Data: n/a, Additional Data: n/a` and `, signal=null` were published. Assumed: in server.log stamped
like any other line."""


class Slot(msgspec.Struct, frozen=True, gc=False):
    """What one slot does. None: not told since its task began."""

    busy: bool
    task: int
    """The current task, or the last one."""
    prompt_progress: float | None = None
    """0 to 1."""
    tokens_per_second: float | None = None
    """Over the last three seconds where the engine says so, else over the task."""
    progress_ms: int = 0
    """When it last got on: launched, advanced in its prompt, generated, released."""


class CrashLine(msgspec.Struct, frozen=True, gc=False):
    """An engine died."""

    timestamp_ms: int
    instance: str | None
    exit_code: int | None
    was_running: bool
    """False: it never became healthy, so a load failed."""


class SlotLine(msgspec.Struct, frozen=True, gc=False):
    """One engine line about one slot, or about all of them (`slot` None: all idle)."""

    slot: int | None
    task: int = 0
    launched: bool = False
    released: bool = False
    prompt_progress: float | None = None
    tokens_per_second: float | None = None


class _Instance(msgspec.Struct):
    engine: str | None = None
    """The process behind it: instance reference or pid, whichever its lines carry."""
    slots: dict[int, Slot] = {}


def parse_line(line: str) -> SlotLine | None:
    """Read one engine line; None for any other, however alike."""
    if len(line) > _MAX_LINE_CHARS:
        return None
    match = _SLOT.fullmatch(line)
    if match is None:
        return SlotLine(None) if _IDLE.fullmatch(line) else None
    progress = match["progress"] or match["older"]
    rate = match["recent"] or match["mean"]
    return SlotLine(
        int(match["slot"]),
        int(match["task"]),
        launched=match["launch"] is not None,
        released=match["release"] is not None,
        prompt_progress=None if progress is None else min(1.0, float(progress)),
        tokens_per_second=None if rate is None else float(rate),
    )


class SlotMonitor:
    """The slots of a daemon's instances, as far as their engines tell."""

    def __init__(self) -> None:
        self._instances: OrderedDict[str, _Instance] = OrderedDict()
        self._loaded: set[str] = set()
        self._engines: dict[str, str] = {}  # process -> instance
        self._crashes: deque[tuple[type[RuntimeLog | ServerLog], CrashLine]] = deque(
            maxlen=16
        )  # told one way so far
        self.busy_changed: Callable[[str, int | None], None] = _ignore
        """Told of an instance and how many of its slots work, whenever that changes; None when it is not known now."""
        self.unattributed = 0
        """Engine lines that named no instance while several, or none, could have written them."""

    def add(self, event: LogEvent) -> CrashLine | None:
        """Take in an event; return the crash it reports. Events of other kinds pass by."""
        if isinstance(event, RuntimeLog):
            return self._runtime(event)
        if isinstance(event, ServerLog):
            return self._server(event)
        return None

    def slots(self, instance: str) -> dict[int, Slot]:
        """Return the known slots of an instance by number; empty when its engine told nothing."""
        state = self._instances.get(instance)
        return dict(state.slots) if state else {}

    def instances(self) -> list[str]:
        """Return the instances whose engines told something."""
        return list(self._instances)

    def last_progress_ms(self, instance: str) -> int | None:
        """Return when any slot of an instance last got on."""
        return max((slot.progress_ms for slot in self.slots(instance).values()), default=None)

    def forget(self, instance: str) -> None:
        """Drop what is known of an instance that is gone."""
        if self._instances.pop(instance, None) is not None:
            self.busy_changed(instance, None)
        self._engines = {engine: name for engine, name in self._engines.items() if name != instance}

    def forget_all(self) -> None:
        """Drop what every engine was doing: its lines have stopped coming."""
        for instance in self.instances():
            self.forget(instance)

    def keep_only(self, instances: set[str]) -> None:
        """Learn which instances are loaded and drop all others. A sole one owns the lines that name none."""
        self._loaded = set(instances)
        for gone in set(self._instances) - instances:
            self.forget(gone)

    def _runtime(self, event: RuntimeLog) -> CrashLine | None:
        first = _first_line(event.message)
        reference = event.instance_reference
        engine = reference or (None if event.pid is None else f"pid {event.pid}")
        instance = event.model or (self._engines.get(engine) if engine else None)
        line = parse_line(first)
        if line is not None:
            self._apply(line, instance, engine, event.timestamp_ms)
            return None
        return self._crash(event, first, instance)

    def _server(self, event: ServerLog) -> CrashLine | None:
        if event.level == "error":
            return self._crash(event, _first_line(event.content), None)
        if event.level != "debug":
            return None
        first = _first_line(event.content)
        stamp = _STAMP.match(first)
        line = parse_line(first[stamp.end() :]) if stamp else None
        if stamp and line is not None:
            self._apply(line, self._named(stamp["model"]), None, event.timestamp_ms)
        return None

    def _named(self, bracket: str | None) -> str | None:
        """Return the instance of a server.log line: the one in its bracket, else the only one there is.

        Assumed: a bracket after the level holds the instance identifier, as in `[INFO][qwen/qwen3-vl-4b]`.
        """
        if bracket is not None and bracket != "LM STUDIO SERVER":
            return bracket
        likely = self._loaded or self._instances.keys()
        return next(iter(likely)) if len(likely) == 1 else None

    def _crash(self, event: RuntimeLog | ServerLog, line: str, instance: str | None) -> CrashLine | None:
        """Read a fatal line; None for any other, and for one that came the other way already."""
        match = _FATAL.match(line)
        if match is None:
            return None
        named = instance or self._named(match["model"])
        if named is not None:
            self.forget(named)
        code = match["code"] or match["exit"]
        exit_code = int(code) if code.lstrip("-").isdecimal() else None
        crash = CrashLine(event.timestamp_ms, named, exit_code, was_running=match["ran"] is not None)
        for told in self._crashes:
            way, other = told
            if way is not type(event) and _is_same(crash, other):
                self._crashes.remove(told)
                return None
        self._crashes.append((type(event), crash))
        return crash

    def _apply(self, line: SlotLine, instance: str | None, engine: str | None, now_ms: int) -> None:
        if instance is None:
            self.unattributed += 1
            return
        if line.slot is None:
            state = self._instances.get(instance)
            slots = state.slots if state else {}
            busy = [number for number, slot in slots.items() if slot.busy]
            for number in busy:
                slots[number] = Slot(busy=False, task=slots[number].task, progress_ms=now_ms)
            if busy:
                self.busy_changed(instance, 0)
        elif line.slot < MAX_SLOTS:
            slots = self._state(instance, engine).slots
            before = slots.get(line.slot)
            after = _next(before, line, now_ms)
            if after is not None:
                slots[line.slot] = after
                if before is None or before.busy != after.busy:
                    self.busy_changed(instance, sum(slot.busy for slot in slots.values()))

    def _state(self, instance: str, engine: str | None) -> _Instance:
        state = self._instances.get(instance)
        if state is None:
            state = self._instances[instance] = _Instance()
            while len(self._instances) > MAX_INSTANCES:
                self.forget(next(iter(self._instances)))
        if engine is not None:
            if state.engine not in (None, engine):
                state.slots.clear()  # another process: its tasks count from 0 again
            state.engine = engine
            self._engines[engine] = instance
            while len(self._engines) > 2 * MAX_INSTANCES:
                self._engines.pop(next(iter(self._engines)))
        return state


def _ignore(_instance: str, _busy: int | None) -> None:
    """Nobody wants to know."""


def _is_same(crash: CrashLine, told: CrashLine) -> bool:
    """Whether two fatal lines tell of one death; one that names no instance may be any instance's."""
    return (
        crash.timestamp_ms - told.timestamp_ms <= _DUPLICATE_MS
        and (crash.exit_code, crash.was_running) == (told.exit_code, told.was_running)
        and (crash.instance == told.instance or None in {crash.instance, told.instance})
    )


def _first_line(text: str) -> str:
    return text[: _MAX_LINE_CHARS + 1].partition("\n")[0].rstrip("\r")


def _next(slot: Slot | None, line: SlotLine, now_ms: int) -> Slot | None:
    """Return a slot's state after a line about it; None when the line tells nothing new."""
    if slot is not None and (
        line.task < slot.task or (line.task == slot.task and (line.launched or not slot.busy))
    ):
        # A straggler about an earlier task or the copy from the other log, unless the engine began anew.
        running = slot.busy and line.task == slot.task
        if running or not line.launched or now_ms - slot.progress_ms < _DUPLICATE_MS:
            return None
        slot = None
    if line.released:
        return Slot(busy=False, task=line.task, progress_ms=now_ms)
    progress = rate = None
    if slot is not None and slot.task == line.task:
        progress, rate = slot.prompt_progress, slot.tokens_per_second
        now_ms = max(now_ms, slot.progress_ms)
    if line.prompt_progress is not None:
        progress = line.prompt_progress
    if line.tokens_per_second is not None:
        rate = line.tokens_per_second
        progress = None if progress is None else 1.0  # it generates, so the prompt is done
    return Slot(
        busy=True, task=line.task, prompt_progress=progress, tokens_per_second=rate, progress_ms=now_ms
    )
