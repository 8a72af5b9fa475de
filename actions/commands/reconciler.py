"""Reconciles a daemon with its desired state: loads pinned instances, ejects idle ones, records changes.

It reads one snapshot per tick and submits ordinary commands, which are decided and audited. It never evicts to make
room and never ejects a busy instance. Idle time is counted on this host's monotonic clock, so a clock that jumps
ejects nothing.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from actions.commands.daemon_session import DaemonSession, in_hand
from actions.commands.retries import Retries
from actions.commands.service import Service
from actions.domain.actor import Actor, Scope, internal
from actions.domain.command import Eject
from actions.domain.errors import Problem
from actions.domain.evidence import ESTIMATE, LISTED, MODEL, STATE, Evidence, as_ever, knows_less, refuses
from actions.domain.timeouts import Timeouts
from actions.store.database import StorageFailed
from actions.store.desired_state import DesiredState
from actions.store.operations import Operation
from exporter.catalogue import actions as rows
from exporter.llmster.state import LoadedInstance, Snapshot

log = logging.getLogger(__name__)

RECONCILER: Final = Actor("reconciler", Scope.ADMIN)
"""What is desired was allowed when it was set."""
REAPER: Final = internal("reaper")
NOTICER: Final = internal("observer")


WAITS: Final = "waits"
"""Instead of the type of a Problem: it does nothing, and looks again."""
DESIRED: Final = "an instance is desired"
IDLE: Final = "an instance idles"


@dataclass(slots=True)
class _Idle:
    """Since when an instance was seen idle, and its `lastUsedTime` then."""

    since: float
    last_used_ms: float | None


@dataclass(slots=True)
class _Memory:
    """What the reconciler remembers of one daemon."""

    seen: dict[str, LoadedInstance] | None = None
    """By instance reference, at the last tick; None before the first."""
    pid: int | None = None
    idle: dict[str, _Idle] = field(default_factory=dict)
    loading: dict[str, Operation] = field(default_factory=dict)
    """The reconciler's loads in progress, by instance id."""
    reported: set[str] = field(default_factory=set)
    """Instance ids with a series of DESIRED_LOADED."""


class Reconciler:
    """Looks at one daemon every so often."""

    EVIDENCE: ClassVar[Evidence] = (
        refuses(WAITS, "listLoaded", *LISTED),
        refuses(WAITS, "listDownloadedModels", *MODEL, when=DESIRED),
        refuses(WAITS, "estimateModelUsage", *ESTIMATE, when=DESIRED),
        as_ever("loadModel", "type", "info", *(f"info.{path}" for path in LISTED)),
        knows_less("loadModel", "info.contextLength", when=DESIRED),
        refuses(WAITS, "getInstanceProcessingState", *STATE, when=IDLE),
    )

    def __init__(
        self,
        daemon: DaemonSession,
        service: Service,
        timeouts: Timeouts,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._daemon = daemon
        self._service = service
        self._timeouts = timeouts
        self._clock = clock
        self._memory = _Memory()
        self._retries = Retries(timeouts, clock)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            try:
                await self.tick()
            except StorageFailed as error:
                self._service.unrecordable(error)
            except Problem as problem:
                log.debug("reconciler tick failed", extra={"problem": problem.detail})
            await asyncio.sleep(self._timeouts.tick_s)

    async def tick(self) -> None:
        """Look once and act. Raises Problem or StorageFailed when that is not possible now."""
        desired = await self._service.desired.get(self._daemon.name)
        try:
            snapshot = await self._daemon.snapshot()
        except Problem:
            self._report({})
            raise
        self._report(_presence(snapshot, desired))
        if not snapshot.unreadable_instances:  # else an instance that is missing may be loaded
            await self._notice(snapshot)
            await self._reconcile(snapshot, desired)
        await self._reap(snapshot, desired)

    # Changes without a command
    # ----------------------------------------------------------------------------------------------

    async def _notice(self, snapshot: Snapshot) -> None:
        """Record what the daemon loaded or unloaded without a command: JIT, TTL, crashes, other clients."""
        if self._is_acting():
            return
        memory = self._memory
        now = {one.info.instance_reference: one for one in snapshot.instances}
        before, memory.seen = memory.seen, now
        pid = snapshot.process.pid or memory.pid  # not reported this time: the last known one
        restarted, memory.pid = memory.pid not in {None, pid}, pid
        if before is None:
            return
        own = await self._service.operations.recent(daemon=self._daemon.name, limit=50)
        if restarted:
            lost = [
                one.info.identifier for reference, one in before.items() if not _did_eject(own, reference)
            ]
            await self._record("daemon-restarted", self._daemon.name, {"lost": sorted(lost)})
            self._retries.clear()
            return
        for reference in before.keys() - now.keys():
            if not _did_eject(own, reference):
                gone = before[reference]
                await self._record("unloaded-by-itself", gone.info.identifier, _why_gone(gone, snapshot))
        for reference in now.keys() - before.keys():
            if not _did_load(own, reference):
                info = now[reference].info
                detail = {"model": info.model_key, "ttl_seconds": info.ttl_ms and info.ttl_ms / 1000}
                await self._record("loaded-by-itself", info.identifier, detail)

    async def _record(self, action: str, subject: str, detail: Mapping[str, object]) -> None:
        await self._service.audit.record(
            "event",
            actor=NOTICER,
            action=action,
            subject=subject,
            detail={"daemon": self._daemon.name, **detail},
        )

    def _is_acting(self) -> bool:
        """Whether an operation is changing this daemon; the next tick then sees its result."""
        return any(
            operation.command.daemon == self._daemon.name and operation.command.CHANGES_INSTANCES
            for operation in self._service.operations.live.values()
        )

    # Desired instances
    # -----------------------------------------------------------------------------------------------

    async def _reconcile(self, snapshot: Snapshot, desired: DesiredState) -> None:
        memory = self._memory
        loaded = {one.info.identifier for one in snapshot.instances}
        for wanted in desired.instances:
            name = wanted.instance_id
            operation = memory.loading.get(name)
            if operation is not None and not operation.is_finished:
                continue
            if operation is not None:
                del memory.loading[name]
                self._learn_from(name, operation)
            if wanted.suspended or name in loaded or not self._retries.may_try(name):
                continue
            if wanted.load is None:
                self._failed(name, wanted.problem)
                continue
            try:
                memory.loading[name] = await self._service.submit(
                    RECONCILER, wanted.load, still_wanted=functools.partial(self._is_wanted, name)
                )
            except Problem as problem:
                self._failed(name, problem.detail)

    def _report(self, presence: Mapping[str, bool]) -> None:
        """Show which desired instances are loaded, and nothing of those that are not known."""
        memory, metrics, daemon = self._memory, self._service.metrics, self._daemon.name
        for name in memory.reported - presence.keys():
            metrics.set(rows.DESIRED_LOADED, None, daemon, name)
        for name, is_loaded in presence.items():
            metrics.set(rows.DESIRED_LOADED, is_loaded, daemon, name)
        memory.reported = set(presence)

    async def _is_wanted(self, name: str) -> bool:
        desired = await self._service.desired.get(self._daemon.name)
        return any(wanted.instance_id == name and not wanted.suspended for wanted in desired.instances)

    def _learn_from(self, name: str, operation: Operation) -> None:
        if operation.state == "done":
            self._retries.succeeded(name)
        else:
            self._retries.failed(name)

    def _failed(self, name: str, problem: str | None) -> None:
        """Note that a desired instance could not even be submitted."""
        log.warning(
            "desired instance not loaded",
            extra={"daemon": self._daemon.name, "instance_id": name, "problem": problem},
        )
        self._retries.failed(name)

    # Idle instances
    # ------------------------------------------------------------------------------------------------------

    async def _reap(self, snapshot: Snapshot, desired: DesiredState) -> None:
        """Eject instances that were idle long enough. The eject checks again, in the daemon's turn."""
        idle, now = self._memory.idle, self._clock()
        wanted = {one.instance_id for one in desired.instances}
        wanted |= await self._service.fleet.kept(self._daemon.name, self._daemon.site)
        present: set[str] = set()
        for one in snapshot.instances:
            reference = one.info.instance_reference
            if one.processing is None or in_hand(one.processing) > 0:
                continue
            present.add(reference)
            known = idle.get(reference)
            if known is None or known.last_used_ms != one.info.last_used_time:
                idle[reference] = known = _Idle(now, one.info.last_used_time)
            if desired.reap_idle_seconds is None or one.info.identifier in wanted:
                continue
            if now - known.since >= desired.reap_idle_seconds:
                known.since = now  # not again at the next tick, even when it fails
                await self._eject(one)
        for reference in idle.keys() - present:
            del idle[reference]

    async def _eject(self, one: LoadedInstance) -> None:
        command = Eject(
            daemon=self._daemon.name,
            instance_id=one.info.identifier,
            reference=one.info.instance_reference,
            only_if_idle=True,
            reason="idle for reap_idle_seconds",
        )
        try:
            await self._service.submit(REAPER, command)
        except Problem as problem:
            log.info("idle instance not ejected", extra={"problem": problem.detail})


def _presence(snapshot: Snapshot, desired: DesiredState) -> dict[str, bool]:
    """Say of each desired instance whether it is loaded; one that a list may be hiding is left out."""
    loaded = {one.info.identifier for one in snapshot.instances}
    return {
        wanted.instance_id: wanted.instance_id in loaded
        for wanted in desired.instances
        if not wanted.suspended and (wanted.instance_id in loaded or not snapshot.unreadable_instances)
    }


def _why_gone(gone: LoadedInstance, snapshot: Snapshot) -> dict[str, object]:
    """Guess why the daemon unloaded it. Assumed: a TTL that was nearly over is the reason."""
    left_ms = gone.ttl_remaining_ms(snapshot.taken_at_s * 1000)
    cause = "ttl" if left_ms is not None and left_ms <= 0 else "unknown"
    return {"model": gone.info.model_key, "cause": cause}


def _did_eject(operations: list[Operation], reference: str) -> bool:
    for operation in operations:
        name = operation.before.get("references", {}).get(reference)
        command = operation.command
        if name is not None and (command.EJECTS or name in command.replaces):
            return True
    return False


def _did_load(operations: list[Operation], reference: str) -> bool:
    return any((operation.result or {}).get("instance_reference") == reference for operation in operations)
