"""One daemon under control: its connection, its turn-taking, and what can be found out about it.

Knows no HTTP and no policy. Whatever changes the daemon waits for its turn here, so that conflicting commands come
one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

from actions.capacity.load_history import Experience
from actions.capacity.local import LoadedModel, MemorySource, MemoryUnknown
from actions.domain.command import Load
from actions.domain.errors import Problem, from_daemon, not_found
from actions.domain.preflight import MemoryReading, Need, Preflight, SplitPlan, judge
from exporter.llmster.client import DaemonClient
from exporter.llmster.commands import DaemonCommands, namespace_of
from exporter.llmster.errors import CallFailed, DaemonStalled, LlmsterError
from exporter.llmster.state import DownloadedModel, InstanceInfo, Listing, ProcessingState, Snapshot

SNAPSHOT_TIMEOUT_S: Final = 15.0
SNAPSHOT_MAX_AGE_S: Final = 0.5
"""Reads that come together share one snapshot; a decision never uses an old one."""
FIRST_ATTEMPT_S: Final = 2.0
"""How long the first request waits for the first attempt to connect."""
UNREADABLE: Final = "the daemon lists an instance that could not be read"
"""Why it cannot be said that something is not loaded."""


class Cancelled(Exception):
    """Somebody cancelled the operation while it could still be cancelled."""


class Controlled:
    """A daemon. `run()` must be kept going by the owner's task group."""

    def __init__(
        self, client: DaemonClient, *, token: str | None, memory: MemorySource, experience: Experience
    ) -> None:
        self.client = client
        self.commands = DaemonCommands(client)
        self.token = token
        self._memory = memory
        self._experience = experience
        self._turn = asyncio.Lock()
        self._flight: asyncio.Task[Snapshot] | None = None
        self._latest: Snapshot | None = None
        self._latest_at = float("-inf")
        self._latest_session = -1

    @property
    def name(self) -> str:
        """The configured name."""
        return self.client.name

    async def run(self) -> None:
        """Stay connected until cancelled."""
        await self.client.run()

    async def close(self) -> None:
        """Let go of the GPUs' driver."""
        await self._memory.close()

    @contextlib.asynccontextmanager
    async def turn(self, cancel: asyncio.Event, *, patience_s: float | None = None) -> AsyncIterator[None]:
        """Wait for this daemon's turn. Raises Cancelled; goes ahead out of turn when `patience_s` is over."""
        acquiring = asyncio.ensure_future(self._turn.acquire())
        cancelling = asyncio.ensure_future(cancel.wait())
        try:
            await asyncio.wait(
                {acquiring, cancelling}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
            )
            if cancel.is_set():
                raise Cancelled
            yield
        finally:
            cancelling.cancel()
            if acquiring.done() and not acquiring.cancelled():
                self._turn.release()
            else:
                acquiring.cancel()

    async def snapshot(self, *, max_age_s: float = 0.0) -> Snapshot:
        """Read the daemon; with a maximum age, readers share. Raises Problem."""
        await self.client.settled(within_s=FIRST_ATTEMPT_S)
        fresh = (
            self._latest is not None
            and self._latest_session == self.client.sessions
            and time.monotonic() - self._latest_at < max_age_s
            and self.client.health().problem is None
        )
        if fresh and self._latest is not None:
            return self._latest
        try:
            if not max_age_s:
                return await self._read()
            if self._flight is None or self._flight.done():
                self._flight = asyncio.create_task(self._read(), name=f"snapshot of {self.name}")
            return await asyncio.shield(self._flight)
        except LlmsterError as error:
            raise from_daemon(error, daemon=self.name) from error

    async def _read(self) -> Snapshot:
        session = self.client.sessions
        try:
            async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
                snapshot = await self.client.snapshot()
        except TimeoutError:
            raise DaemonStalled(f"a snapshot took longer than {SNAPSHOT_TIMEOUT_S:g} s") from None
        self._latest, self._latest_at, self._latest_session = snapshot, time.monotonic(), session
        return snapshot

    async def model(self, key: str) -> DownloadedModel:
        """Find a model on disk by key (a `@variant` is left aside) or path. Raises Problem."""
        snapshot = await self.snapshot(max_age_s=SNAPSHOT_MAX_AGE_S)
        base = key.partition("@")[0]
        for models in (snapshot.models or (), None):
            if models is None:
                try:
                    models = await self.commands.models()  # noqa: PLW2901 - downloaded since the snapshot's list
                except LlmsterError as error:
                    raise from_daemon(error, daemon=self.name) from error
            found = [model for model in models if base == model.model_key or key == model.path]
            if found:
                return min(found, key=lambda model: not is_local(snapshot, model.device_identifier))
        known = tuple(model.model_key for model in snapshot.models or ())
        raise not_found("model", key, known)

    async def preflight(self, command: Load, *, model: DownloadedModel) -> Preflight:
        """Ask for the estimate, read the memory, judge. Raises Problem when the daemon cannot be read at all."""
        snapshot = await self.snapshot()
        learned = (await self._experience.learned(self.name)).get(model.model_key)
        return judge(
            await self._need(command, model),
            await self.memory(snapshot, model),
            learned=learned,
            split=SplitPlan(
                strategy=command.split or "evenly",
                disabled=command.disabled_gpus,
                priority=command.gpu_priority,
                ratio=command.gpu_ratio,
            ),
            replace=command.replace,
        )

    async def memory(self, snapshot: Snapshot, model: DownloadedModel) -> MemoryReading | str:
        """Read the memory a model would be loaded into; a string says why that is not known."""
        if not is_local(snapshot, model.device_identifier):
            return f"{model.model_key} is on LM Link peer {snapshot.device_name(model.device_identifier)}"
        local = [one.info for one in snapshot.instances if is_local(snapshot, one.info.device_identifier)]
        pids = await self._experience.pids(self.name, [info.instance_reference for info in local])
        loaded = [LoadedModel(info, pids.get(info.instance_reference)) for info in local]
        try:
            return await self._memory.read(snapshot.process.pid, loaded)
        except MemoryUnknown as error:
            return str(error)

    async def _need(self, command: Load, model: DownloadedModel) -> Need | str:
        request = command.request(namespace_of(model), model.device_identifier)
        try:
            estimate = await self.commands.estimate(request)
        except CallFailed as error:
            return f"the daemon gives no estimate: {error}"
        except LlmsterError as error:
            raise from_daemon(error, daemon=self.name) from error
        memory = estimate.memory
        return Need(
            vram_bytes=round(memory.total_vram_bytes),
            total_bytes=round(memory.total_bytes),
            passes_guardrails=estimate.passes_guardrails,
            confidence=memory.confidence,
        )


def find(listing: Listing[InstanceInfo], instance_id: str) -> InstanceInfo | None:
    """Find a loaded instance by its identifier. Raises Problem when it may be one that could not be read."""
    found = next((info for info in listing.read if info.identifier == instance_id), None)
    if found is None and not listing.is_complete:
        raise Problem("not-verified", f"{instance_id} may be loaded: {UNREADABLE}")
    return found


def in_hand(state: ProcessingState) -> int:
    """Count the requests in hand; an instance that is not idle has one, whatever it counts."""
    return state.queued if state.status == "idle" else max(1, state.queued)


def is_local(snapshot: Snapshot, device_identifier: str | None) -> bool:
    """Tell whether a device is the daemon's own machine, and not an LM Link peer."""
    return snapshot.device_name(device_identifier) == "local"
