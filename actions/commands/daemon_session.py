"""One daemon under control: its connection, its turn, and its readings.

Does not depend on HTTP or policy. Commands that change the daemon wait for its turn here and run one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from actions.capacity.load_history import LoadHistory
from actions.capacity.local import LoadedModel, MemorySource, MemoryUnknown
from actions.domain.command import Load
from actions.domain.errors import Problem, from_daemon, not_found
from actions.domain.load_keys import KEYS
from actions.domain.preflight import MemoryReading, Need
from exporter.llmster import rest
from exporter.llmster.client import DaemonClient
from exporter.llmster.commands import DaemonCommands, load_namespace_of
from exporter.llmster.errors import CallFailed, LlmsterError, ProtocolViolation
from exporter.llmster.listing import Listing
from exporter.llmster.session import GONE_CODES
from exporter.llmster.shared_snapshot import SharedSnapshot
from exporter.llmster.state import (
    LOCAL,
    DownloadedModel,
    InstanceInfo,
    ProcessingState,
    Snapshot,
    device_name,
)

SNAPSHOT_TIMEOUT_S: Final = 15.0
SNAPSHOT_MAX_AGE_S: Final = 0.5
"""Reads at the same time share one snapshot; a decision always takes a new one."""
FIRST_ATTEMPT_S: Final = 2.0
"""How long the first request waits for the first attempt to connect."""
REST_TIMEOUT_S: Final = 5.0
REST_CONFIG: Final = {
    "eval_batch_size": "batch_size",
    "parallel": "parallel",
    "flash_attention": "flash_attention",
    "num_experts": "experts",
    "offload_kv_cache_to_gpu": "offload_kv_cache",
}
"""REST's names of options; the instance itself states its context."""
UNREADABLE: Final = "the daemon lists an instance that could not be read"
"""Why an instance may be loaded although it is not listed."""


class Cancelled(Exception):
    """The operation was cancelled while it could still be cancelled."""


class DaemonSession:
    """A daemon. `run()` must be kept going by the owner's task group."""

    def __init__(
        self,
        client: DaemonClient,
        *,
        memory: MemorySource,
        history: LoadHistory,
        home: Path | None = None,
        site: str = "",
    ) -> None:
        """`home` is the LM Studio home of a daemon on this host, None where it is not known; `site` its group."""
        self.site = site
        self.client = client
        self.commands = DaemonCommands(client)
        self.history = history
        self._memory = memory
        self._home = home
        self._turn = asyncio.Lock()
        self._snapshots = SharedSnapshot(client, limit_s=SNAPSHOT_TIMEOUT_S)

    @property
    def name(self) -> str:
        """The configured name."""
        return self.client.name

    async def run(self) -> None:
        """Stay connected until cancelled."""
        await self.client.run()

    async def close(self) -> None:
        """Give up a reading that is under way, and release the GPUs' drivers."""
        await self._snapshots.close()
        await self._memory.close()

    @contextlib.asynccontextmanager
    async def turn(self, cancel: asyncio.Event, *, wait_s: float | None = None) -> AsyncIterator[None]:
        """Wait for this daemon's turn, at most `wait_s`; after that, continue without it. Raises Cancelled."""
        acquiring = asyncio.ensure_future(self._turn.acquire())
        cancelling = asyncio.ensure_future(cancel.wait())
        try:
            await asyncio.wait({acquiring, cancelling}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if cancel.is_set():
                raise Cancelled
            yield
        finally:
            cancelling.cancel()
            if acquiring.done() and not acquiring.cancelled():
                self._turn.release()
            else:
                acquiring.cancel()

    async def settled(self) -> None:
        """Wait for the end of the first connection attempt, so that a request right after a start succeeds."""
        await self.client.settled(within_s=FIRST_ATTEMPT_S)

    async def snapshot(self, *, max_age_s: float = 0.0) -> Snapshot:
        """Read the daemon; with a maximum age, readers share one reading. Raises Problem."""
        await self.settled()
        with self.translated():
            if not max_age_s:
                return await self._snapshots.fresh()
            is_healthy = self.client.health().problem is None
            return await self._snapshots.get(max_age_s=max_age_s if is_healthy else 0.0)

    async def model(self, key: str) -> DownloadedModel:
        """Find a model on disk by key (a `@variant` is left aside) or path, first on the daemon's own host.

        Looks into the list of at most a minute ago, then into a new one. Raises Problem.
        """
        await self.settled()
        base = key.partition("@")[0]
        with self.translated():
            found = _matching(await self.client.models() or (), base, key)
            if not found:
                listing = await self.commands.models()  # downloaded since
                found = _matching(listing.read, base, key)
                if not found:
                    require_all_read(listing, f"whether {key[:200]} is on its disk", daemon=self.name)
                    raise not_found("model", key, tuple(model.model_key for model in listing.read))
            link = await self.client.link()
        return min(found, key=lambda model: device_name(link, model.device_identifier) != LOCAL)

    async def instances(
        self, *, optional_within_s: float = 0.0, in_part: bool = False
    ) -> Listing[InstanceInfo]:
        """List what is loaded now, with a call per domain; with `in_part` as far as it can be read. Raises Problem."""
        await self.settled()
        with self.translated():
            return await self.commands.instances(optional_within_s=optional_within_s, in_part=in_part)

    def free_disk(self) -> int | None:
        """Read the free bytes of the disk that a download goes to; None when the daemon's home is not on this host.

        Assumed: models lie below the home; a folder chosen elsewhere is not seen.
        """
        if self._home is None:
            return None
        folder = self._home / "models"
        try:
            return shutil.disk_usage(folder if folder.is_dir() else self._home).free
        except OSError:
            return None

    def process_id(self) -> int | None:
        """Return the daemon's pid; None when it does not report one. Raises Problem."""
        with self.translated():
            return self.client.process().pid

    async def queued(self, instance: InstanceInfo) -> int | None:
        """Count an instance's requests in flight; 0 when it is gone, None when the daemon does not report them.

        Raises Problem when the daemon cannot be asked.
        """
        with self.translated():
            try:
                state = await self.commands.processing(instance)
            except CallFailed as error:
                return 0 if error.code in GONE_CODES else None
        return in_hand(state)

    async def configuration(self, instance: InstanceInfo, *, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Read an instance's load configuration by wire key; REST adds keys that are wanted and missing.

        Source of the REST names: `loaded_instances[].config` of GET /api/v1/models. Raises Problem.
        """
        with self.translated():
            config = await self.commands.load_config(instance)
            missing = {
                name: KEYS[parameter].llm
                for name, parameter in REST_CONFIG.items()
                if parameter in wanted and KEYS[parameter].llm not in config and instance.type == "llm"
            }
            if not missing:
                return config
            models = await rest.models(
                self.client.url, token=await self.client.current_token(), timeout_s=REST_TIMEOUT_S
            )
        found = next(
            (
                one.config
                for model in models
                for one in model.loaded_instances
                if one.id == instance.identifier
            ),
            None,
        )
        told = found if isinstance(found, dict) else {}
        return config | {wire: told[name] for name, wire in missing.items() if wire and name in told}

    async def memory(self, instances: Iterable[InstanceInfo], model: DownloadedModel) -> MemoryReading | str:
        """Read the memory a model would be loaded into; a string is the reason why it is unknown."""
        with self.translated():
            link = await self.client.link()
        device = device_name(link, model.device_identifier)
        if device != LOCAL:
            return f"{model.model_key} is on LM Link peer {device}"
        return await self.local_memory(instances)

    async def local_memory(self, instances: Iterable[InstanceInfo]) -> MemoryReading | str:
        """Read the memory of the daemon's host; a string is the reason why it is unknown. Raises Problem."""
        with self.translated():
            link = await self.client.link()
            pid = self.client.process().pid
        local = [info for info in instances if device_name(link, info.device_identifier) == LOCAL]
        pids = await self.history.pids(self.name, [info.instance_reference for info in local])
        loaded = [LoadedModel(info, pids.get(info.instance_reference)) for info in local]
        try:
            return await self._memory.read(pid, loaded)
        except MemoryUnknown as error:
            return str(error)

    async def estimate(self, command: Load, model: DownloadedModel) -> Need | str:
        """Get the daemon's estimate of a load, which is costly for it; a string is the reason why there is none.

        Raises Problem when the daemon cannot be asked.
        """
        request = command.request(load_namespace_of(model), model.device_identifier)
        with self.translated():
            try:
                estimate = await self.commands.estimate(request)
            except CallFailed as error:
                return f"the daemon gives no estimate: {error}"
        memory = estimate.memory
        return Need(
            vram_bytes=round(memory.total_vram_bytes),
            total_bytes=round(memory.total_bytes),
            passes_guardrails=estimate.passes_guardrails,
            confidence=memory.confidence,
        )

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the client's errors into Problems."""
        try:
            yield
        except LlmsterError as error:
            raise from_daemon(error, daemon=self.name) from error


def find(listing: Listing[InstanceInfo], instance_id: str) -> InstanceInfo | None:
    """Find a loaded instance by its identifier. Raises Problem when it may be one that could not be read."""
    found = next((info for info in listing.read if info.identifier == instance_id), None)
    if found is None and not listing.is_complete:
        raise Problem("not-verified", f"{instance_id} may be loaded: {unread(listing)}")
    return found


def unread(listing: Listing[Any]) -> str:
    """Say that instances could not be read, and which."""
    return f"{UNREADABLE} ({'; '.join(listing.problems)})" if listing.problems else UNREADABLE


def require_all_read(listing: Listing[Any], question: str, *, daemon: str) -> None:
    """Refuse to answer a question that an entry would answer that cannot be read. Raises Problem."""
    if not listing.is_complete:
        entries = "; ".join(listing.problems) or f"{listing.unreadable} entries"
        raise from_daemon(
            ProtocolViolation(f"{question} is not known: its list has what cannot be read ({entries})"),
            daemon=daemon,
        )


def in_hand(state: ProcessingState) -> int:
    """Count the requests in flight; an instance that is not idle has at least one."""
    return state.queued if state.status == "idle" else max(1, state.queued)


def _matching(models: tuple[DownloadedModel, ...], base: str, key: str) -> list[DownloadedModel]:
    return [model for model in models if base == model.model_key or key == model.path]
