"""Follows the engines of a daemon's instances: whose line it is, over which channel, and what its slots do.

Does not know metrics or clocks: times are the events'. A wording that is not known changes nothing, so what was never
told is absent, not zero.

Engine lines arrive as `runtime.log` events and, on 0.4.24, as `[DEBUG]` `server.log` events; the same line may come
both ways, the copy later. Each channel is followed by itself, and an instance shows the one that is ahead.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from operator import attrgetter
from typing import Final

import msgspec

from exporter.llmster.events import LogEvent, RuntimeLog, ServerLog
from exporter.pipeline.engine_state import EngineCounts, EngineState
from exporter.pipeline.line_joiner import LineJoiner
from exporter.pipeline.log_formats import daemon, engine, stamps
from exporter.pipeline.log_formats.engine import EngineLine
from exporter.pipeline.slot_state import Slot

MAX_INSTANCES: Final = 256
_DUPLICATE_MS: Final = 10_000
"""A fatal line that comes both ways within this time is one crash."""
_SILENT_MS: Final = 10_000
_HEAD_CHARS: Final = 512
_MAX_TEXT_CHARS: Final = 65_536
"""Read of an event; engine lines are short, and so are the events that hold them."""


class Crash(msgspec.Struct, frozen=True, gc=False):
    """An engine ended with a fatal line."""

    timestamp_ms: int
    instance: str | None
    exit_code: int | None
    was_running: bool
    """False: it never became healthy, so a load failed."""


class _Instance(msgspec.Struct):
    engine: str | None = None
    """The process behind it: instance reference or pid, whichever its lines carry."""
    told: tuple[tuple[int, int], ...] = ()
    """Busy slots and their tasks, as told last."""
    runtime: EngineState = msgspec.field(default_factory=EngineState)
    server: EngineState = msgspec.field(default_factory=EngineState)

    def leading(self) -> EngineState:
        """Return the channel that is ahead, by the engine's own stamps, unless it tells less than the other.

        One that is silent while the other goes on has ended.
        """
        runtime, server = self.runtime, self.server
        if not server.lines or not runtime.lines:
            return runtime if runtime.lines else server
        if abs(runtime.heard_ms - server.heard_ms) > _SILENT_MS:
            return max(runtime, server, key=attrgetter("heard_ms"))
        if not runtime.lines <= 2 * server.lines <= 4 * runtime.lines:
            return max(runtime, server, key=attrgetter("lines"))
        return max(runtime, server, key=attrgetter("position"))


class SlotMonitor:
    """The engines of a daemon's instances, as far as their lines tell."""

    def __init__(self) -> None:
        self._instances: OrderedDict[str, _Instance] = OrderedDict()
        self._loaded: set[str] = set()
        self._engines: dict[str, str] = {}  # process -> instance
        self._crashes: deque[tuple[type[RuntimeLog | ServerLog], Crash]] = deque(maxlen=16)
        """Crashes told one way so far."""
        self._of_runtime, self._of_server = LineJoiner(), LineJoiner()
        self.busy_changed: Callable[[str, dict[int, Slot] | None], None] = _ignore
        """Told of an instance and its slots when one begins or ends to work; None when they are not known any more."""
        self.queued: list[tuple[str, float]] = []
        """Instances and the seconds that requests waited for a slot, for the owner to take."""
        self.unattributed = 0
        """Engine lines that named no instance while several, or none, could have written them."""

    def add(self, event: LogEvent) -> Crash | None:
        """Take in an event; return the crash it reports. Events of other kinds pass by."""
        if isinstance(event, RuntimeLog):
            return self._runtime(event)
        if isinstance(event, ServerLog):
            return self._server(event)
        return None

    def slots(self, instance: str, now_ms: int | None = None) -> dict[int, Slot]:
        """Return the known slots of an instance by number as of `now_ms`, by the daemon's clock."""
        state = self._instances.get(instance)
        return state.leading().slots(now_ms) if state else {}

    def instances(self) -> list[str]:
        """Return the instances whose engines told of slots, or of their prompt cache."""
        return [
            name
            for name, state in self._instances.items()
            if state.leading().knows_slots or state.leading().counts.processed_tokens
        ]

    def engine(self, instance: str) -> EngineState | None:
        """Return the leading channel of an instance's engine."""
        state = self._instances.get(instance)
        return state.leading() if state else None

    def engine_slots(self, instance: str) -> int | None:
        """Return how many slots an instance's engine said at its start to have."""
        state = self._instances.get(instance)
        return (state.runtime.n_slots or state.server.n_slots) if state else None

    def counts(self, instance: str) -> EngineCounts:
        """Return what happened in an instance's engine; whichever channel told, it counts once."""
        state = self._instances.get(instance)
        return state.runtime.counts.merged(state.server.counts) if state else EngineCounts()

    def last_progress_ms(self, instance: str) -> int | None:
        """Return when any slot of an instance last made progress."""
        state = self._instances.get(instance)
        return state.leading().last_progress_ms() if state else None

    def take_cached_tokens(
        self, instance: str, prompt_tokens: int | None, generated: int | None, end_ms: int
    ) -> int | None:
        """Return how much of a prediction's prompt came from the cache, where an engine line tells."""
        state = self._instances.get(instance)
        if state is None or prompt_tokens is None:
            return None
        return state.leading().take_cached_tokens(prompt_tokens, generated, end_ms)

    def forget(self, instance: str) -> None:
        """Drop what is known of an instance that is gone."""
        if self._instances.pop(instance, None) is not None:
            self.busy_changed(instance, None)
        self._engines = {engine: name for engine, name in self._engines.items() if name != instance}

    def forget_all(self) -> None:
        """Drop what every engine was doing: its lines have stopped coming."""
        self._of_runtime.clear()
        self._of_server.clear()
        for instance in list(self._instances):
            self.forget(instance)

    def keep_only(self, instances: set[str]) -> None:
        """Learn which instances are loaded and drop all others. A sole one owns the lines that name none."""
        self._loaded = set(instances)
        for gone in set(self._instances) - instances:
            self.forget(gone)

    def _runtime(self, event: RuntimeLog) -> Crash | None:
        reference = event.instance_reference
        engine = reference or (None if event.pid is None else f"pid {event.pid}")
        instance = event.model or (self._engines.get(engine) if engine else None)
        text = event.message[:_MAX_TEXT_CHARS]
        lines = self._of_runtime.feed(engine or instance or "", text, only_engine=True)
        if lines:
            if instance is None:
                self.unattributed += len(lines)
                return None
            state = self._state(instance, engine)
            self._take(instance, state, state.runtime, lines, event.timestamp_ms)
            return None
        if "crashed" in text or "exited" in text or "Prompt cache restore" in text:
            return self._daemon_lines(event, text, instance)
        return None

    def _server(self, event: ServerLog) -> Crash | None:
        stamp = stamps.read(event.content[:_HEAD_CHARS])
        text = event.content[stamp.end : stamp.end + _MAX_TEXT_CHARS]
        if event.level == "error":
            return self._daemon_lines(event, text, None)
        instance = self._named(stamp.bracket)
        is_debug = event.level == "debug"
        if is_debug and (stamp.level != "DEBUG" or not stamp.timed):
            return None
        source = instance or stamp.bracket or ""
        lines = self._of_server.feed(source, text, only_engine=False) if is_debug else []
        if not lines:
            return self._daemon_lines(event, text, instance) if "Prompt cache restore" in text[:64] else None
        if instance is None:
            self.unattributed += len(lines)
            return None
        state = self._state(instance, None)
        self._take(instance, state, state.server, lines, event.timestamp_ms)
        return None

    def _take(
        self, instance: str, state: _Instance, told: EngineState, lines: list[EngineLine], now_ms: int
    ) -> None:
        """Take in the lines of one event. Each is told by itself: several may launch and release one slot."""
        last = lines[-1]
        for line in lines:
            at_ms = now_ms
            if line is not last and last.stamp_ms is not None and line.stamp_ms is not None:
                at_ms = min(now_ms, max(told.heard_ms, now_ms - last.stamp_ms + line.stamp_ms))
            if told.take(line, at_ms):
                self._moved(instance, state, told)

    def _moved(self, instance: str, state: _Instance, told: EngineState) -> None:
        """Report slots that became busy or idle, and how long a request waited."""
        if told.queue_s:
            if told is state.runtime or not state.runtime.lines:  # else the other channel tells the same
                self.queued += [(instance, waited_s) for waited_s in told.queue_s]
            told.queue_s.clear()
        slots = state.leading().slots(None)
        busy = tuple((number, slot.task) for number, slot in slots.items() if slot.busy)
        if busy != state.told:
            state.told = busy
            self.busy_changed(instance, slots)

    def _named(self, bracket: str | None) -> str | None:
        """Return the instance of a server.log line: the one in its bracket, else the only one there is.

        Assumed: a bracket after the level holds the instance identifier, as in `[INFO][qwen/qwen3-vl-4b]`.
        """
        if bracket is not None and bracket != stamps.SERVER_BRACKET:
            return bracket
        likely = self._loaded or self._instances.keys()
        return next(iter(likely)) if len(likely) == 1 else None

    def _daemon_lines(self, event: RuntimeLog | ServerLog, text: str, instance: str | None) -> Crash | None:
        """Read what the daemon itself says of an engine; a fatal line may follow an engine's line in its event."""
        lines = text.split("\n", 8)[:8]
        if isinstance(event, ServerLog) and not engine.begins(lines[0]):
            lines = lines[:1]
        for line in lines:
            bare = line.rstrip("\r ")[:_HEAD_CHARS]
            crash = daemon.read_crash(bare)
            if crash is not None:
                return self._crash(event, crash, instance)
            restored = daemon.CACHE_RESTORE.fullmatch(bare)
            if restored is not None and instance is not None:
                state = self._state(instance, None)
                channel = state.runtime if isinstance(event, RuntimeLog) else state.server
                channel.cache_restored(int(restored["cached"]), int(restored["uncached"]), event.timestamp_ms)
        return None

    def _crash(
        self, event: RuntimeLog | ServerLog, line: daemon.CrashLine, instance: str | None
    ) -> Crash | None:
        """Report a fatal line; None for one that came the other way already."""
        if instance is None and isinstance(event, ServerLog):
            instance = self._named(stamps.read(event.content[:_HEAD_CHARS]).bracket)
        if instance is not None:
            self.forget(instance)
        crash = Crash(event.timestamp_ms, instance, line.exit_code, line.was_running)
        for told in self._crashes:
            way, other = told
            if way is not type(event) and _is_same(crash, other):
                self._crashes.remove(told)
                return None
        self._crashes.append((type(event), crash))
        return crash

    def _state(self, instance: str, engine: str | None) -> _Instance:
        state = self._instances.get(instance)
        if state is None:
            state = self._instances[instance] = _Instance()
            while len(self._instances) > MAX_INSTANCES:
                self.forget(next(iter(self._instances)))
        if engine is not None and state.engine != engine:
            if state.engine is not None:
                state.runtime, state.server = EngineState(), EngineState()  # another process: it begins anew
                self._of_runtime.forget(state.engine)
            state.engine = engine
            state.runtime.is_one_process = True
            self._engines[engine] = instance
            while len(self._engines) > 2 * MAX_INSTANCES:
                self._engines.pop(next(iter(self._engines)))
        return state


def _ignore(_instance: str, _slots: dict[int, Slot] | None) -> None:
    """Nothing listens."""


def _is_same(crash: Crash, told: Crash) -> bool:
    """Whether two fatal lines tell of one crash; one that names no instance may be any instance's."""
    return (
        crash.timestamp_ms - told.timestamp_ms <= _DUPLICATE_MS
        and (crash.exit_code, crash.was_running) == (told.exit_code, told.was_running)
        and (crash.instance == told.instance or None in {crash.instance, told.instance})
    )
