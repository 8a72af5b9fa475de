"""Probe a model: chat once with a canned prompt and measure its times.

Times are taken as events arrive. Source of the events' order: the official docs page "Streaming events".
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from actions.commands import load_plan
from actions.commands.action import Action, Result
from actions.commands.daemon_session import Cancelled, require_all_read
from actions.domain.command import Load, Probe
from actions.domain.errors import Problem, invalid
from actions.domain.evidence import ESTIMATE, LISTED, MODEL, knows_less, refuses
from actions.domain.policy import Facts
from actions.store.operations import Operation
from exporter.catalogue import actions as rows
from exporter.llmster import rest_commands
from exporter.llmster.commands import namespace_of
from exporter.llmster.rest_commands import ChatEvent

CHAT: Final = "POST /api/v1/chat"
PROBE_PROMPT: Final = "Answer with the single word: pulse"
PROBE_MAX_TOKENS: Final = 256
"""Room for a short thought and the word; a model that thinks longer is cut off, which the times survive."""


class ProbeAction(Action[Probe]):
    """Probes. A model that is not loaded is loaded by the daemon, if it fits."""

    COMMAND = Probe
    EVIDENCE = (
        refuses("daemon-unreadable", "listDownloadedModels", *MODEL),
        refuses("daemon-unreadable", "listLoaded", *LISTED),
        refuses("daemon-unreadable", "estimateModelUsage", *ESTIMATE, when="the model is not loaded"),
        refuses("daemon-unreadable", CHAT, "type"),
        knows_less(CHAT, "load_time_seconds", when="the model is not loaded"),
        knows_less(CHAT, "result", "result.model_instance_id", "result.stats"),
    )

    async def facts(self, command: Probe) -> Facts:
        """Judge the load that the probe would cause."""
        model = await self.daemon.model(command.model)
        load_plan.require_commanded_domain(model)
        if namespace_of(model) != "llm":
            raise invalid("model", command.model, "an embedding model does not chat; probe an LLM")
        listing = await self.daemon.instances()
        if any(info.model_key == model.model_key for info in listing.read):
            return Facts()
        require_all_read(listing, f"whether {model.model_key} is loaded", daemon=command.daemon)
        load = Load(daemon=command.daemon, model=command.model)
        need = await self.daemon.estimate(load, model)
        preflight = await load_plan.judged(self.daemon, load, model, need, listing.read)
        self.tools.metrics.count(rows.PREFLIGHTS, preflight.verdict.value)
        return Facts(preflight)

    async def run(self, operation: Operation, command: Probe, _facts: Facts) -> Result:
        """Chat once; take a turn if the daemon has to load the model for it."""
        listing = await self.daemon.instances()
        base = command.model.partition("@")[0]
        is_loaded = any(base == info.model_key for info in listing.read)
        turn = contextlib.nullcontext() if is_loaded else self.daemon.turn(operation.cancel)
        async with turn:
            await self.tools.operations.start(operation, {})
            operation.phase = "probing"
            reading = asyncio.ensure_future(self._chat(operation, command))
            cancelling = asyncio.ensure_future(operation.cancel.wait())
            try:
                await asyncio.wait({reading, cancelling}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    raise Cancelled
                return reading.result()
            finally:
                cancelling.cancel()
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await reading

    async def recover(self, _operation: Operation, _command: Probe) -> Result:
        """Report no times: the events were not read."""
        raise Problem("interrupted", "the service stopped while it was probing")

    def finished(self, operation: Operation) -> None:
        """Publish the times of the last probe."""
        result = operation.result
        if operation.state != "done" or result is None:
            return
        labels = (operation.command.daemon, operation.command.subject)
        metrics = self.tools.metrics
        metrics.set(rows.PROBE_FIRST_TOKEN, result.get("time_to_first_token_seconds"), *labels)
        metrics.set(rows.PROBE_REASONING, result.get("reasoning_seconds"), *labels)
        metrics.set(rows.PROBE_LOAD, result.get("load_seconds"), *labels)
        metrics.set(rows.PROBE_TIMESTAMP, time.time(), *labels)

    async def _chat(self, operation: Operation, command: Probe) -> Result:
        clock = _Stopwatch()
        events: AsyncIterator[ChatEvent] = rest_commands.chat_events(
            self.daemon.client.url,
            token=await self.daemon.client.current_token(),
            model=command.model,
            prompt=PROBE_PROMPT,
            max_output_tokens=PROBE_MAX_TOKENS,
            silence_s=self.tools.timeouts.probe_silence_s,
            total_s=self.tools.timeouts.probe_s,
        )
        with self.daemon.translated():
            async for event in events:
                clock.take(event)
                if event.type == "model_load.progress":
                    operation.phase, operation.progress = "loading", event.progress
                elif event.type == "prompt_processing.start":
                    operation.phase, operation.progress = "probing", None
        if clock.error is not None:
            raise Problem("daemon-refused", f"the probe of {command.model} failed: {clock.error}")
        if not clock.ended:
            raise Problem("interrupted", f"the probe of {command.model} ended before its end")
        return {"model": command.model, **clock.result()}


@dataclass(slots=True)
class _Stopwatch:
    """Times the events of one chat; an `error` does not end it."""

    started: float = field(default_factory=time.monotonic)
    started_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    marks: dict[str, float] = field(default_factory=dict)
    """First arrival of each kind of event."""
    load_s: float | None = None
    instance_id: str | None = None
    stats: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    ended: bool = False

    def take(self, event: ChatEvent) -> None:
        """Note an event."""
        self.marks.setdefault(event.type, time.monotonic())
        match event.type:
            case "model_load.end":
                self.load_s = event.load_time_seconds
            case "error":
                message = event.error.get("message") if isinstance(event.error, dict) else event.error
                self.error = message if isinstance(message, str) else "the daemon gave no reason"
            case "chat.end":
                self.ended = True
                self.stats = event.result.stats
                self.instance_id = event.result.model_instance_id or event.model_instance_id

    def result(self) -> dict[str, Any]:
        """Say what was measured; what did not happen is None."""
        firsts = [self.marks[kind] for kind in ("reasoning.delta", "message.delta") if kind in self.marks]
        loading_s = self._between("model_load.start", "model_load.end") or 0.0
        return {
            "instance_id": self.instance_id,
            "time_to_first_token_seconds": _round(min(firsts) - self.started - loading_s) if firsts else None,
            "reasoning_seconds": _round(self._between("reasoning.start", "reasoning.end")),
            "load_seconds": self.load_s,
            "total_seconds": _round(time.monotonic() - self.started),
            "started_ms": self.started_ms,
            "marks_seconds": {kind: _round(at - self.started) for kind, at in self.marks.items()},
            "daemon_stats": {
                key: value for key, value in self.stats.items() if isinstance(value, int | float)
            },
        }

    def _between(self, first: str, last: str) -> float | None:
        if first not in self.marks or last not in self.marks:
            return None
        return self.marks[last] - self.marks[first]


def _round(seconds: float | None) -> float | None:
    return round(max(0.0, seconds), 6) if seconds is not None else None
