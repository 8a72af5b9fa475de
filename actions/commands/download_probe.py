"""How a download is followed and a probe is timed: the two commands that go through the daemon's REST side.

Knows no permission. A probe's times are ours, taken as events arrive, so they are what a client really waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from actions.commands.daemon_session import Cancelled, Controlled
from actions.commands.load_eject import LOST
from actions.domain.command import Download, Probe
from actions.domain.errors import Problem, from_daemon
from actions.domain.timeouts import Timing
from actions.store.operations import Operation, Operations
from exporter.llmster import rest_commands
from exporter.llmster.errors import CallFailed, LlmsterError, NotLlmster
from exporter.llmster.rest_commands import ChatEvent

PROBE_PROMPT: Final = "Answer with the single word: pulse"
PROBE_MAX_TOKENS: Final = 256
"""Room for a short thought and the word; a model that thinks longer is cut off, which the times survive."""


class Transfers:
    """Carries out downloads and probes of one daemon."""

    def __init__(self, daemon: Controlled, operations: Operations, timing: Timing) -> None:
        self._daemon = daemon
        self._operations = operations
        self._timing = timing

    async def download(self, operation: Operation, command: Download) -> Mapping[str, Any]:
        """Start a download and follow it to its end."""
        await self._operations.start(operation, {})
        try:
            job = await rest_commands.start_download(
                self._daemon.client.url,
                token=self._daemon.token,
                model=command.model,
                quantization=command.quantization,
            )
        except LlmsterError as error:
            raise from_daemon(error, daemon=self._daemon.name) from error
        if job.job_id is None:
            return {"model": command.model, "status": job.status}
        await self._operations.start(operation, {"job_id": job.job_id})
        return await self.follow(operation, command)

    async def follow(self, operation: Operation, command: Download) -> Mapping[str, Any]:
        """Look at a download until it ends, also one that a former process of ours began."""
        job_id = operation.before.get("job_id")
        if job_id is None:
            return await self._on_disk(command, "whether the daemon began the download was not recorded")
        while True:
            try:
                job = await rest_commands.download_status(
                    self._daemon.client.url, token=self._daemon.token, job_id=job_id
                )
            except (*LOST, NotLlmster):  # one HTTP 500 with a web page was seen while a load began
                operation.phase = "waiting for the daemon"
            except CallFailed:
                return await self._on_disk(command, f"the daemon does not know download {job_id} any more")
            except LlmsterError as error:
                raise from_daemon(error, daemon=self._daemon.name) from error
            else:
                operation.phase, operation.progress = job.status, job.progress
                if job.status in {"completed", "already_downloaded"}:
                    return {
                        "model": command.model,
                        "status": job.status,
                        "size_bytes": job.total_size_bytes,
                    }
                if job.status == "failed":
                    raise Problem("daemon-refused", f"the download of {command.model} failed")
            await asyncio.sleep(self._timing.download_poll_s)

    async def probe(self, operation: Operation, command: Probe) -> Mapping[str, Any]:
        """Chat once; take a turn if the daemon has to load the model for it."""
        snapshot = await self._daemon.snapshot()
        base = command.model.partition("@")[0]
        is_loaded = any(base == one.info.model_key for one in snapshot.instances)
        turn = contextlib.nullcontext() if is_loaded else self._daemon.turn(operation.cancel)
        async with turn:
            await self._operations.start(operation, {})
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

    async def _chat(self, operation: Operation, command: Probe) -> Mapping[str, Any]:
        clock = _Stopwatch()
        events: AsyncIterator[ChatEvent] = rest_commands.chat_events(
            self._daemon.client.url,
            token=self._daemon.token,
            model=command.model,
            prompt=PROBE_PROMPT,
            max_output_tokens=PROBE_MAX_TOKENS,
            silence_s=self._timing.probe_silence_s,
            total_s=self._timing.probe_s,
        )
        try:
            async for event in events:
                clock.take(event)
                if event.type == "model_load.progress":
                    operation.phase, operation.progress = "loading", event.progress
                elif event.type == "prompt_processing.start":
                    operation.phase, operation.progress = "probing", None
        except LlmsterError as error:
            raise from_daemon(error, daemon=self._daemon.name) from error
        if clock.error is not None:
            raise Problem("daemon-refused", f"the probe of {command.model} failed: {clock.error}")
        if not clock.ended:
            raise Problem("interrupted", f"the probe of {command.model} ended before its end")
        return {"model": command.model, **clock.result()}

    async def _on_disk(self, command: Download, because: str) -> Mapping[str, Any]:
        """Decide by what is there, where the name tells."""
        name = command.model
        if command.quantization is not None or "@" in name or "://" in name:  # a list of keys
            raise Problem(
                "interrupted", f"{because}; the daemon's list of models does not tell whether it is there"
            )
        try:
            models = await self._daemon.commands.models()
        except LlmsterError as error:
            raise from_daemon(error, daemon=self._daemon.name) from error
        if any(name == model.model_key for model in models):
            return {"model": name, "status": "completed", "size_bytes": None}
        raise Problem("interrupted", f"{because}, and {name} is not on its disk")


@dataclass(slots=True)
class _Stopwatch:
    """Times the events of one chat; an `error` does not end it.

    Source of the order: the official docs page "Streaming events".
    """

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
                result = event.result if isinstance(event.result, dict) else {}
                stats = result.get("stats")
                self.stats = stats if isinstance(stats, dict) else {}
                self.instance_id = result.get("model_instance_id") or event.model_instance_id

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
