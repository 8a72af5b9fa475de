"""Reads the log stream of one daemon: events become predictions, slots and counts, and go to the sinks.

Does not know metrics or spans. An exception costs the event it comes from: it is counted by stage, and the stream goes
on. A stream that ends is opened again; how often and for how long it was closed is counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol

import msgspec

from exporter.llmster.client import DaemonClient
from exporter.llmster.errors import LlmsterError
from exporter.llmster.events import (
    LogEvent,
    PredictionInput,
    PredictionOutput,
    RuntimeLog,
    ServerLog,
    UnknownEvent,
    parse_message,
    parse_ndjson_line,
)
from exporter.llmster.state import Snapshot
from exporter.pipeline.log_formats import daemon, plugins, stamps
from exporter.pipeline.predictions import Prediction, PredictionBuilder
from exporter.pipeline.slots import Crash, SlotMonitor

log = logging.getLogger(__name__)

REOPEN_AFTER_S: Final = 0.5
"""Wait between the end of a stream and the next attempt, where the session itself still lives."""

MAX_TYPES: Final = 16
"""Event types counted apart; the daemon names them, and labels must stay bounded."""

MAX_PLUGINS: Final = 50
"""MCP plugins counted apart; their names come from outside, further ones are counted together."""
_OTHER: Final = "other"

_HEAD_CHARS: Final = 1024
"""Looked at of a server.log event to find an HTTP request; its body follows."""
Raw = bytes | str | msgspec.Raw

_TYPES: Final = {
    PredictionInput: "llm.prediction.input",
    PredictionOutput: "llm.prediction.output",
    ServerLog: "server.log",
    RuntimeLog: "runtime.log",
}


class Sink(Protocol):
    """Where predictions and log events go. Both calls return at once; an exception costs this sink that item only."""

    name: str

    def take_prediction(self, prediction: Prediction) -> None:
        """Take a finished prediction."""

    def take_log(self, event: ServerLog | RuntimeLog) -> None:
        """Take an event of the daemon's or an engine's log."""


@dataclass(slots=True)
class StreamCounts:
    """What was seen of a stream."""

    up: bool = False
    disconnects: int = 0
    gap_s: float = 0.0
    events: Counter[str] = field(default_factory=Counter)
    """By event type."""
    levels: Counter[str] = field(default_factory=Counter)
    """server.log messages by level."""
    crashes: Counter[str] = field(default_factory=lambda: Counter(running=0, starting=0))
    """Engines that died, by what they did; from 0 on, so that the first one is an increase."""
    sink_failures: Counter[str] = field(default_factory=Counter)
    """Items lost because a sink raised, by sink."""
    plugins: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Lines about MCP plugins, by plugin and by error or notice."""
    http: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """HTTP requests by method, route and status; the status is empty where the line says none."""


class EventFlow:
    """Turns events into what sinks want, in order, and hands it to each. No I/O: tailing and replay share it."""

    def __init__(
        self,
        builder: PredictionBuilder,
        sinks: Sequence[Sink],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.builder = builder
        self.slots = SlotMonitor()
        builder.cached_tokens = self.slots.take_cached_tokens
        self.on_queue_time: Callable[[str, float], None] | None = None
        """Told of an instance and the seconds that a request waited for one of its slots."""
        self._clock = clock
        self._heard_ms: int | None = None
        self._heard_at = 0.0
        self.counts = StreamCounts()
        self.errors = builder.errors
        self.claim: Callable[[Prediction], None] | None = None
        """Takes each prediction instead of the sinks and calls hand_out() in time: for a tap that saw it, too."""
        self._sinks = tuple(sinks)

    def hand_out(self, prediction: Prediction) -> None:
        """Give a prediction to each sink."""
        self._hand_out(lambda sink: sink.take_prediction(prediction))

    def now_ms(self) -> int | None:
        """Tell the time by the daemon's clock, from its last log event and what has passed since; None before one."""
        if self._heard_ms is None:
            return None
        return self._heard_ms + int((self._clock() - self._heard_at) * 1000)

    def take_message(self, raw: Raw) -> None:
        """Take the next message of the `streamLogs` channel."""
        self._parse_and_take(parse_message, raw)

    def take_line(self, line: bytes) -> bool:
        """Take the next line of a recording; tell whether it held an event."""
        return self._parse_and_take(parse_ndjson_line, line)

    def take(self, event: LogEvent) -> None:
        """Take the next event. Never raises: what goes wrong is counted by its stage."""
        self._count(event)
        match event:
            case PredictionInput() | PredictionOutput():
                self._take_prediction(event)
            case ServerLog() | RuntimeLog():
                self._take_log(event)
            case UnknownEvent():
                pass

    def _parse_and_take(self, parse: Callable[[Any], LogEvent | None], raw: Raw) -> bool:
        event = None
        with self.errors.catch("parse"):
            event = parse(raw)
        if event is not None:
            self.take(event)
        return event is not None

    def _take_prediction(self, event: PredictionInput | PredictionOutput) -> None:
        with self.errors.catch("predict"):
            prediction = self.builder.add(event)
            if prediction is not None:
                (self.claim or self.hand_out)(prediction)

    def _take_log(self, event: ServerLog | RuntimeLog) -> None:
        self._heard_ms, self._heard_at = event.timestamp_ms, self._clock()
        with self.errors.catch("slots"):
            crash = self.slots.add(event)
            if self.slots.queued:
                self._report_queue_times()
            if isinstance(crash, Crash):
                self.counts.crashes["running" if crash.was_running else "starting"] += 1
        if isinstance(event, ServerLog):
            with self.errors.catch("server_log"):
                self._count_server_lines(event)
        self._hand_out(lambda sink: sink.take_log(event))

    def _report_queue_times(self) -> None:
        for instance, waited_s in self.slots.queued:
            if self.on_queue_time is not None:
                self.on_queue_time(instance, waited_s)
        self.slots.queued.clear()

    def _count_server_lines(self, event: ServerLog) -> None:
        """Count what the daemon's own log says of its plugins and of HTTP requests."""
        counts = self.counts
        for line in plugins.read(event.content, event.level):
            known = (line.server, "error") in counts.plugins
            server = line.server if known or len(counts.plugins) < 2 * MAX_PLUGINS else _OTHER
            for kind in ("error", "notice"):
                counts.plugins[server, kind] += (kind == "error") == line.is_error
        if event.level in ("debug", "error"):
            stamp = stamps.read(event.content[:_HEAD_CHARS])
            request = (
                daemon.read_http(event.content[stamp.end : stamp.end + _HEAD_CHARS]) if stamp.level else None
            )
            if request is not None:
                counts.http[request.method, request.route, request.status or ""] += 1

    def forget_unloaded(self, snapshot: Snapshot) -> None:
        """Drop what is known of instances that are not loaded any more."""
        if not snapshot.unreadable_instances:
            loaded = {instance.info.identifier for instance in snapshot.instances}
            self.slots.keep_only(loaded)
            self.builder.keep_only(loaded, now_s=snapshot.monotonic_s)

    def learn_reasoning(self, snapshot: Snapshot) -> None:
        """Learn which instances' models reason, as the daemon says."""
        for instance in snapshot.instances:
            if instance.info.model_key in snapshot.reasoning_models:
                self.builder.reasons(instance.info.identifier)

    def _count(self, event: LogEvent) -> None:
        counts = self.counts
        type_ = event.type if isinstance(event, UnknownEvent) else _TYPES[type(event)]
        counts.events[type_ if type_ in counts.events or len(counts.events) < MAX_TYPES else "other"] += 1
        if isinstance(event, ServerLog):
            level = event.level
            counts.levels[level if level in {"debug", "info", "warn", "error"} else "other"] += 1

    def _hand_out(self, give: Callable[[Sink], None]) -> None:
        for sink in self._sinks:
            try:
                give(sink)
            except Exception as error:  # noqa: BLE001 - counted
                self.counts.sink_failures[sink.name] += 1
                self.errors.note("sink", error)


class Tailer:
    """Keeps the log stream of one daemon open. `run()` must be kept going by the owner's task group."""

    def __init__(
        self, client: DaemonClient, flow: EventFlow, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.flow = flow
        self._client = client
        self._clock = clock
        self._ended_at: float | None = None

    async def run(self) -> NoReturn:
        """Read the stream, and open it again without end. Raises nothing but cancellation."""
        while True:
            try:
                await self._client.connected()
                async with self._client.log_channel() as channel:
                    self._opened()
                    try:
                        async for raw in channel:
                            self.flow.take_message(raw)
                    finally:
                        self._closed(channel.silent_s)
            except LlmsterError as error:
                log.info("log stream ended", extra={"daemon": self._client.name, "problem": str(error)})
            except Exception as error:  # noqa: BLE001 - counted
                self.flow.errors.note("stream", error)
            await asyncio.sleep(REOPEN_AFTER_S)

    def _opened(self) -> None:
        counts = self.flow.counts
        counts.up = True
        if self._ended_at is not None:
            counts.gap_s += self._clock() - self._ended_at

    def _closed(self, silent_s: float) -> None:
        """Count the end; what a daemon sent on a socket that had fallen silent before is lost as well."""
        self.flow.slots.forget_all()
        counts = self.flow.counts
        counts.up = False
        counts.disconnects += 1
        self._ended_at = self._clock() - silent_s
