"""One authenticated visit to a daemon: its sockets, its slow facts, and what a snapshot costs.

Knows no reconnecting: when a core socket ends, the session is over, and client.py starts the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Final

from exporter.llmster import calls, rest
from exporter.llmster.cached_value import Fact
from exporter.llmster.connection import Connection, Timeouts, WireTally
from exporter.llmster.errors import (
    CallFailed,
    ConnectionLost,
    DaemonStalled,
    LlmsterError,
    ProtocolViolation,
)
from exporter.llmster.messages import Identity
from exporter.llmster.state import (
    PROCESSING_STATES,
    DaemonProcess,
    DaemonVersion,
    DownloadedModel,
    Estimate,
    InstanceInfo,
    LinkStatus,
    LoadConfig,
    LoadedInstance,
    ProcessingState,
    Snapshot,
)

CORE_NAMESPACES: Final = ("system", "llm", "embedding")
"""Sockets without which there is nothing to read; the others are opened when first needed."""

FACT_MAX_AGE_S: Final = 60.0
"""Models on disk and LM Link peers are read at most once in this time."""

GONE_CODES: Final = frozenset({"generic.specificModelUnloaded", "generic.identifierNotFound"})
"""What a call about an instance fails with once it is unloaded (frames in tests/fixtures/protocol/12-rpcError)."""

FACT_TIMEOUT_S: Final = 2.0
"""A fact that takes longer is left out of this snapshot: it must not make the daemon look stalled."""


class Session:
    """The sockets of one visit and what was learned on arrival: `open()`, use, `close()`.

    `rest_url` is given when we hold a token: then the REST side is asked once whether it needs one. Without `estimates`
    a snapshot leaves out what the daemon believes its instances take, which is costly for it.
    """

    def __init__(
        self,
        *,
        base_url: str,
        identity: Identity,
        rest_url: str | None,
        timeouts: Timeouts,
        tally: WireTally,
        group: asyncio.TaskGroup,
        estimates: bool = True,
    ) -> None:
        self.version: DaemonVersion
        self.process: DaemonProcess
        self._base_url = base_url
        self._identity = identity
        self._rest_url = rest_url
        self._timeouts = timeouts
        self._tally = tally
        self._group = group
        self._connections: dict[str, Connection] = {}
        self._tasks: dict[str, asyncio.Task[LlmsterError]] = {}
        self._opening = asyncio.Lock()
        self._closed = False
        self._wants_estimates = estimates
        self._models: Fact[tuple[DownloadedModel, ...]] = Fact(max_age_s=FACT_MAX_AGE_S)
        self._link: Fact[LinkStatus] = Fact(max_age_s=FACT_MAX_AGE_S)
        self._auth_required: Fact[bool] = Fact(max_age_s=None)
        self._configs: dict[str, Fact[LoadConfig]] = {}
        self._estimates: dict[str, Fact[Estimate]] = {}

    async def open(self) -> None:
        """Open the core sockets under ONE identity and learn version and pid.

        Raises what Connection.open() raises, and CallFailed.
        """
        for namespace in CORE_NAMESPACES:
            await self.connection(namespace)
        system = self._connections["system"]
        self.version = await calls.version(system)
        self.process = await calls.process(system)

    @property
    def unanswered_s(self) -> float:
        """The longest time any of our sockets has been waiting for a keepAlive answer."""
        return max(connection.unanswered_s for connection in self._connections.values())

    async def connection(self, namespace: str) -> Connection:
        """Return the socket of a namespace, opening it when there is none or it was lost."""
        async with self._opening:
            connection = self._connections.get(namespace)
            if connection is None or connection.lost is not None:
                connection = await Connection.open(
                    self._base_url, namespace, self._identity, timeouts=self._timeouts, tally=self._tally
                )
                if self._closed:
                    connection.abort()
                    raise ConnectionLost(f"the session ended before /{namespace} was open")
                self._connections[namespace] = connection
                self._tasks[namespace] = self._group.create_task(
                    connection.run(), name=f"socket /{namespace}"
                )
            return connection

    async def over(self) -> LlmsterError:
        """Wait until a core socket ends; return why."""
        core = [self._tasks[namespace] for namespace in CORE_NAMESPACES]
        done, _ = await asyncio.wait(core, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).result()

    async def close(self) -> None:
        """Close every socket and end their tasks, also one that waits for a slow reader. Nothing opens after it."""
        self._closed = True
        await asyncio.gather(*(connection.close() for connection in self._connections.values()))
        for task in self._tasks.values():
            task.cancel()

    async def models(self) -> tuple[DownloadedModel, ...] | None:
        """Return the models on disk, read at most once a minute; None when they cannot be read."""
        return await self._models.get(self._read_models, tolerate=LlmsterError)

    async def link(self) -> LinkStatus | None:
        """Return this device and its LM Link peers, read at most once a minute; None when they cannot be read."""
        return await self._link.get(self._read_link, tolerate=LlmsterError)

    async def snapshot(self) -> Snapshot:
        """Read the daemon once. See DaemonClient.snapshot()."""
        started = time.monotonic()
        llm, embedding = self._connections["llm"], self._connections["embedding"]
        unreadable = self._tally.unreadable
        # Groups, not gather(): when one call fails, the others must not go on behind our back.
        with _first_error():
            async with asyncio.TaskGroup() as group:
                llm_list = group.create_task(calls.loaded_instances(llm, unreadable=unreadable))
                embedding_list = group.create_task(calls.loaded_instances(embedding, unreadable=unreadable))
                models = group.create_task(self.models())
                link = group.create_task(self.link())
                auth_required = group.create_task(
                    self._auth_required.get(self._read_auth_required, tolerate=LlmsterError)
                )
            listed = [(llm, info) for info in llm_list.result().read]
            listed += [(embedding, info) for info in embedding_list.result().read]
            async with asyncio.TaskGroup() as group:
                reads = [group.create_task(self._read_instance(*each)) for each in listed]
        unreadable_instances = llm_list.result().unreadable + embedding_list.result().unreadable
        if not unreadable_instances:
            present = {info.instance_reference for _, info in listed}
            self._configs = {key: fact for key, fact in self._configs.items() if key in present}
            self._estimates = {key: fact for key, fact in self._estimates.items() if key in present}
        done = time.monotonic()
        return Snapshot(
            taken_at_s=time.time(),
            monotonic_s=done,
            duration_s=done - started,
            version=self.version,
            process=self.process,
            instances=tuple(instance for read in reads if (instance := read.result()) is not None),
            models=models.result(),
            link=link.result(),
            auth_required=auth_required.result(),
            unreadable_instances=unreadable_instances,
        )

    async def _read_instance(self, namespace: Connection, info: InstanceInfo) -> LoadedInstance | None:
        """Read what one instance is doing; None if it was unloaded since it was listed."""
        processing: ProcessingState | None = None
        try:
            processing = await calls.processing_state(namespace, info.instance_reference)
        except CallFailed as error:
            if error.code in GONE_CODES:
                return None
        except ProtocolViolation:
            self._tally.unreadable["processing_state"] += 1
        else:
            if processing.status not in PROCESSING_STATES:
                self._tally.unreadable["processing_status"] += 1
        config: LoadConfig | None = None
        if info.type == "llm":
            fact = self._configs.setdefault(info.instance_reference, Fact(max_age_s=None))
            config = await fact.get(
                lambda: calls.load_config(namespace, info.instance_reference, timeout_s=FACT_TIMEOUT_S),
                tolerate=LlmsterError,
            )
        return LoadedInstance(
            info=info,
            processing=processing,
            config=config,
            vram_estimate_bytes=await self._estimate(namespace, info, config),
        )

    async def _estimate(
        self, namespace: Connection, info: InstanceInfo, config: LoadConfig | None
    ) -> float | None:
        """Ask once per load what the daemon believes it takes; only of models on its own machine."""
        if not self._wants_estimates or config is None or info.device_identifier is not None:
            return None
        fact = self._estimates.setdefault(info.instance_reference, Fact(max_age_s=None, retry_s=None))
        estimate = await fact.get(
            lambda: calls.estimate(namespace, info.model_key, config.memory_fields, timeout_s=FACT_TIMEOUT_S),
            tolerate=LlmsterError,
        )
        return estimate.memory.total_vram_bytes if estimate is not None else None

    async def _read_models(self) -> tuple[DownloadedModel, ...]:
        return await calls.downloaded_models(
            self._connections["system"], timeout_s=FACT_TIMEOUT_S, unreadable=self._tally.unreadable
        )

    async def _read_link(self) -> LinkStatus:
        try:
            # Opening the socket has limits of its own, longer ones.
            async with asyncio.timeout(FACT_TIMEOUT_S):
                repository = await self.connection("repository")
        except TimeoutError:
            raise DaemonStalled(f"/repository did not open within {FACT_TIMEOUT_S:g} s") from None
        return await calls.link_status(repository, timeout_s=FACT_TIMEOUT_S)

    async def _read_auth_required(self) -> bool:
        """We got in without a token, so none is needed; with one, ask REST as a stranger would, once."""
        if self._rest_url is None:
            return False
        return await rest.requires_token(self._rest_url, timeout_s=FACT_TIMEOUT_S)


@contextlib.contextmanager
def _first_error() -> Iterator[None]:
    """Let the first error out of its group: callers know LlmsterError, not groups of it."""
    try:
        yield
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
