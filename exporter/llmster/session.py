"""One authenticated session with a daemon: its slowly changing values, and the calls of a snapshot.

Each part fails alone: a namespace that does not open, a call that hangs or an invalid response costs its own values
only. client.py starts the next session when this one is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

from exporter.llmster import calls, rest
from exporter.llmster.cached_value import CachedValue
from exporter.llmster.domains import CORE, DOMAINS, Domain
from exporter.llmster.errors import CallFailed, DaemonStalled, LlmsterError, ProtocolViolation
from exporter.llmster.listing import Listing
from exporter.llmster.load_config import LoadConfig
from exporter.llmster.state import (
    PROCESSING_STATES,
    UNKNOWN_PROCESS,
    UNKNOWN_VERSION,
    DaemonProcess,
    DaemonVersion,
    DownloadedModel,
    Engine,
    InstanceInfo,
    LinkStatus,
    LoadedInstance,
    ProcessingState,
    Snapshot,
)
from exporter.llmster.wire.connection import WireCounts
from exporter.llmster.wire.sockets import SYSTEM, Sockets

T = TypeVar("T")

LIST_LIMIT_S: Final = 5.0
"""How long a daemon may take to answer any listLoaded at all, before it is stalled."""
PART_GRACE_S: Final = 1.0
"""What one part has when another has answered: the daemon is alive, so the slow part is left out."""
FACT_MAX_AGE_S: Final = 60.0
"""Models on disk, engines and LM Link peers are read at most once in this time."""
FACT_TIMEOUT_S: Final = 10.0
"""A fact is read in the background; after so long its reading is given up."""
GONE_CODES: Final = frozenset({"generic.specificModelUnloaded", "generic.identifierNotFound"})
"""What a call about an instance fails with once it is unloaded (frames in tests/fixtures/protocol/12-rpcError)."""


class Session:
    """What one visit reads: `open()`, use, `close()`.

    The REST side is asked once whether it requires a token, if one is held, and which models reason. Without
    `estimates` a snapshot leaves that out, and what the daemon believes its instances take, which is costly for it.
    """

    def __init__(
        self,
        sockets: Sockets,
        *,
        rest_url: str,
        token: Callable[[], Awaitable[str | None]],
        has_token: bool,
        counts: WireCounts,
        estimates: bool = True,
    ) -> None:
        self._wants_estimates = estimates
        self.sockets = sockets
        self._rest_url = rest_url
        self._token = token
        self._has_token = has_token
        self._counts = counts
        self._version = _fact(self._read_version, max_age_s=None)
        self._process = _fact(self._read_process, max_age_s=None)
        self._models = _fact(self._read_models)
        self._link = _fact(self._read_link)
        self._engines = _fact(self._read_engines)
        self._auth_required = _fact(self._read_auth_required, max_age_s=None)
        self._reasoning = _fact(self._read_reasoning)
        self._configs: dict[str, CachedValue[LoadConfig]] = {}
        self._estimates: dict[str, CachedValue[float]] = {}
        self._estimating = asyncio.Semaphore(1)  # costly for the daemon: never two at once

    @property
    def version(self) -> DaemonVersion:
        """What system.version answered."""
        return self._version.value or UNKNOWN_VERSION

    @property
    def process(self) -> DaemonProcess:
        """What system.info answered."""
        return self._process.value or UNKNOWN_PROCESS

    async def models(self) -> tuple[DownloadedModel, ...] | None:
        """Return the models on disk, read at most once a minute; None when they cannot be read."""
        listing = await self._models.get()
        return listing.read if listing is not None else None

    async def link(self) -> LinkStatus | None:
        """Return this device and its LM Link peers, read at most once a minute; None when they cannot be read."""
        return await self._link.get()

    async def open(self) -> None:
        """Open the core sockets; learn version and pid if the daemon tells them. Raises what Sockets.open() does."""
        await self.sockets.open()
        readings = [reading for fact in (self._version, self._process) if (reading := fact.refresh())]
        if readings:
            await asyncio.wait(readings, timeout=PART_GRACE_S)

    async def close(self, *, is_dead: bool = False) -> None:
        """Give up what is being read, and close every socket."""
        for fact in (*self._facts(), self._reasoning):
            fact.close()
        await self.sockets.close(is_dead=is_dead)

    async def snapshot(self) -> Snapshot:
        """Read the daemon once. See DaemonClient.snapshot()."""
        started = time.monotonic()
        for fact in self._facts():
            fact.refresh()
        if self._wants_estimates:
            self._reasoning.refresh()  # no snapshot waits for REST
        listings = await self._list_all()
        listed = [(domain, info) for domain, listing in listings.items() for info in listing.read]
        for domain, info in listed:
            if domain.has_load_config:
                self._config_of(domain, info).refresh()
        states = await self._states(listed)
        await self._wait_for_facts(until=started + PART_GRACE_S)
        read = {domain.name for domain in listings}
        unread = tuple(name for name in CORE if name not in read)
        unreadable = sum(listing.unreadable for listing in listings.values()) + len(unread)
        if not unreadable:
            self._forget_all_but({info.instance_reference for _, info in listed})
        done = time.monotonic()
        models = self._models.value
        return Snapshot(
            taken_at_s=time.time(),
            monotonic_s=done,
            duration_s=done - started,
            version=self.version,
            process=self.process,
            instances=tuple(
                self._instance(info, states.get(info.instance_reference))
                for _, info in listed
                if states.get(info.instance_reference) is not _GONE
            ),
            models=models.read if models is not None else None,
            unreadable_models=models.unreadable if models is not None else 0,
            link=self._link.value,
            auth_required=self._auth_required.value,
            unreadable_instances=unreadable,
            engines=self._engines.value,
            reasoning_models=self._reasoning.value or frozenset(),
            unread_domains=unread,
        )

    # Lists and states: what every snapshot asks for

    async def _list_all(self) -> dict[Domain, Listing[InstanceInfo]]:
        """List what is loaded, by domain; one that does not answer soon after another has is left out.

        Raises LlmsterError when none could be listed: DaemonStalled only when none has answered at all.
        """
        tasks: dict[Domain, asyncio.Task[Listing[InstanceInfo] | LlmsterError]] = {}
        for domain in DOMAINS:
            if domain.optional and self.sockets.peek(domain.name) is None:
                self.sockets.start(domain.name)
                continue
            tasks[domain] = asyncio.create_task(_outcome(self._list(domain)))
        await _settle(tasks.values(), limit_s=LIST_LIMIT_S, grace_s=PART_GRACE_S)
        listings: dict[Domain, Listing[InstanceInfo]] = {}
        problems: list[LlmsterError] = []
        for domain, task in tasks.items():
            outcome = (
                task.result()
                if not task.cancelled()
                else DaemonStalled(f"{domain.name}.listLoaded did not answer in time")
            )
            if isinstance(outcome, LlmsterError):
                problems.append(outcome)
            else:
                listings[domain] = outcome
        if not listings and problems:
            raise next((each for each in problems if not isinstance(each, DaemonStalled)), problems[0])
        return listings

    async def _list(self, domain: Domain) -> Listing[InstanceInfo]:
        connection = await self.sockets.connection(domain.name)
        return await calls.loaded_instances(connection, unreadable=self._counts.unreadable)

    async def _states(self, listed: list[tuple[Domain, InstanceInfo]]) -> dict[str, ProcessingState | _Gone]:
        """Ask what each instance is doing, by its reference; one that does not answer in time is not in it."""
        tasks = {
            info.instance_reference: asyncio.create_task(_outcome(self._state(domain, info)))
            for domain, info in listed
        }
        await _settle(tasks.values(), limit_s=PART_GRACE_S, grace_s=PART_GRACE_S)
        states: dict[str, ProcessingState | _Gone] = {}
        for reference, task in tasks.items():
            if task.cancelled():
                continue
            outcome = task.result()
            if isinstance(outcome, CallFailed) and outcome.code in GONE_CODES:
                states[reference] = _GONE
            elif isinstance(outcome, ProtocolViolation):
                self._counts.unreadable["processing_state"] += 1
            elif not isinstance(outcome, LlmsterError):
                if outcome.status not in PROCESSING_STATES:
                    self._counts.unreadable["processing_status"] += 1
                states[reference] = outcome
        return states

    async def _state(self, domain: Domain, info: InstanceInfo) -> ProcessingState:
        return await calls.processing_state(
            await self.sockets.connection(domain.name), info.instance_reference
        )

    def _instance(self, info: InstanceInfo, state: ProcessingState | _Gone | None) -> LoadedInstance:
        config, estimate = (
            self._configs.get(info.instance_reference),
            self._estimates.get(info.instance_reference),
        )
        return LoadedInstance(
            info=info,
            processing=state if isinstance(state, ProcessingState) else None,
            config=config.value if config is not None else None,
            vram_estimate_bytes=estimate.value if estimate is not None else None,
        )

    # Facts: what changes rarely

    def _facts(self) -> list[CachedValue[Any]]:
        own = (self._version, self._process, self._models, self._link, self._engines, self._auth_required)
        return [*own, *self._configs.values(), *self._estimates.values()]

    async def _wait_for_facts(self, *, until: float) -> None:
        """Wait for what is being read, until a moment; it goes on after that and serves the next snapshot."""
        while pending := {reading for fact in self._facts() if (reading := fact.refresh())}:
            done, _ = await asyncio.wait(
                pending,
                timeout=max(0.0, until - time.monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not done:
                return

    def _config_of(self, domain: Domain, info: InstanceInfo) -> CachedValue[LoadConfig]:
        """Give an instance's configuration, read once per load."""
        return self._configs.setdefault(
            info.instance_reference, _fact(lambda: self._read_config(domain, info), max_age_s=None)
        )

    def _forget_all_but(self, present: set[str]) -> None:
        self._configs = {key: fact for key, fact in self._configs.items() if key in present}
        self._estimates = {key: fact for key, fact in self._estimates.items() if key in present}

    async def _read_config(self, domain: Domain, info: InstanceInfo) -> LoadConfig:
        connection = await self.sockets.connection(domain.name)
        config = await calls.load_config(connection, info, timeout_s=FACT_TIMEOUT_S)
        if self._wants_estimates and info.device_identifier is None:  # it estimates for its own host only
            self._estimates.setdefault(
                info.instance_reference,
                _fact(lambda: self._read_estimate(domain, info, config), max_age_s=None, retry_s=None),
            )
        return config

    async def _read_estimate(self, domain: Domain, info: InstanceInfo, config: LoadConfig) -> float:
        """Ask what this very load takes: with the configuration it has and the context it got."""
        async with self._estimating:
            estimate = await calls.estimate(
                await self.sockets.connection(domain.name),
                info.model_key,
                config.as_loaded(info.context_length),
                timeout_s=FACT_TIMEOUT_S,
            )
        return estimate.memory.total_vram_bytes

    async def _read_version(self) -> DaemonVersion:
        return await calls.version(await self.sockets.connection(SYSTEM), timeout_s=FACT_TIMEOUT_S)

    async def _read_process(self) -> DaemonProcess:
        return await calls.process(await self.sockets.connection(SYSTEM), timeout_s=FACT_TIMEOUT_S)

    async def _read_models(self) -> Listing[DownloadedModel]:
        return await calls.downloaded_models(
            await self.sockets.connection(SYSTEM),
            timeout_s=FACT_TIMEOUT_S,
            unreadable=self._counts.unreadable,
        )

    async def _read_link(self) -> LinkStatus:
        return await calls.link_status(await self.sockets.connection("repository"), timeout_s=FACT_TIMEOUT_S)

    async def _read_engines(self) -> tuple[Engine, ...]:
        listing = await calls.engines(
            await self.sockets.connection("runtime"),
            timeout_s=FACT_TIMEOUT_S,
            unreadable=self._counts.unreadable,
        )
        return listing.read

    async def _read_auth_required(self) -> bool:
        """Without a token, a session proves that none is required; with one, ask REST once without it."""
        if not self._has_token:
            return False
        return await rest.requires_token(self._rest_url, timeout_s=FACT_TIMEOUT_S)

    async def _read_reasoning(self) -> frozenset[str]:
        models = await rest.models(self._rest_url, token=await self._token(), timeout_s=FACT_TIMEOUT_S)
        return frozenset(model.key for model in models if model.reasons)


class _Gone:
    """Stands for the state of an instance that was unloaded since it was listed."""


_GONE: Final = _Gone()


async def _outcome(answer: Awaitable[T]) -> T | LlmsterError:
    """Make a problem a value, so that one part's does not end the others."""
    try:
        return await answer
    except LlmsterError as error:
        return error


async def _settle(tasks: Iterable[asyncio.Task[T | LlmsterError]], *, limit_s: float, grace_s: float) -> None:
    """Wait for all, at most `limit_s`, and `grace_s` after the first that succeeded; the rest is cancelled."""
    pending = set(tasks)
    until = time.monotonic() + limit_s
    try:
        while pending:
            left_s = until - time.monotonic()
            done, pending = await asyncio.wait(
                pending, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            if any(not isinstance(task.result(), LlmsterError) for task in done):
                until = min(until, time.monotonic() + grace_s)
    finally:
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)


def _fact(
    read: Callable[[], Awaitable[T]],
    *,
    max_age_s: float | None = FACT_MAX_AGE_S,
    retry_s: float | None = FACT_MAX_AGE_S,
) -> CachedValue[T]:
    return CachedValue(read, tolerate=LlmsterError, max_age_s=max_age_s, retry_s=retry_s)
