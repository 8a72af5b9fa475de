"""Reads one daemon on demand: shared snapshots, with a maximum age and a maximum wait.

`read()` always answers: a failure becomes a reading that carries its reason.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from exporter.hardware.deadline import DeadlineReader
from exporter.hardware.errors import HardwareError, HostStalled
from exporter.llmster import local_files
from exporter.llmster.client import STALLED_AFTER_S, DaemonClient, DaemonState, Health
from exporter.llmster.errors import ConnectionLost, DaemonStalled, LlmsterError
from exporter.llmster.local_files import LocalPosture
from exporter.llmster.shared_snapshot import SharedSnapshot
from exporter.llmster.state import InstanceInfo, Snapshot
from exporter.pipeline.load_events import Changes
from exporter.shared.internal_errors import InternalErrors

FIRST_ATTEMPT_S: Final = 0.7
"""How long the first reading waits for the first attempt to connect: a scrape of a dead daemon stays below 1 s."""

POSTURE_MAX_AGE_S: Final = 60.0
POSTURE_DEADLINE_S: Final = 1.0


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DaemonCounts:
    """Counts of one daemon, as of a reading; they stay while the daemon is away."""

    restarts: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    """Failed or lost connections by reason."""
    warnings: Mapping[str, int] = field(default_factory=dict)
    """communicationWarning by kind."""
    unreadable: Mapping[str, int] = field(default_factory=dict)
    """Frames and parts of answers that could not be used, by kind."""
    loads: Mapping[str, int] = field(default_factory=dict)
    """By model."""
    unloads: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By model and cause."""
    internal_errors: Mapping[str, int] = field(default_factory=dict)
    """Defects that cost a part of a reading, by stage."""


@dataclass(frozen=True, slots=True)
class DaemonReading:
    """What one reading found. `snapshot` is None exactly when `health.problem` is not."""

    name: str
    health: Health
    snapshot: Snapshot | None
    age_s: float
    posture: LocalPosture | None
    counts: DaemonCounts = field(default_factory=DaemonCounts)
    site: str = ""
    """The group of daemons that it belongs to, "" for none."""


class DaemonWatch:
    """Reads one daemon. The owner's task group runs `run()`."""

    def __init__(
        self,
        client: DaemonClient,
        *,
        local_home: Path | None,
        max_age_s: float = 1.0,
        site: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.site = site
        self.changes = Changes()
        self.observers: list[Callable[[Snapshot], None]] = []
        """Called with every new snapshot. One that raises is counted; the others are still called."""
        self.engine_slots: Callable[[str], int | None] = lambda _identifier: None
        """Tells how many slots an instance's engine said to have."""
        self.errors = InternalErrors("observer")
        self._max_age_s = max_age_s
        self._clock = clock
        self._group: asyncio.TaskGroup | None = None
        self._snapshots = SharedSnapshot(client, complete=self._with_slots, on_new=self._observe, clock=clock)
        self._home_reader = _reader_of(local_home) if local_home is not None else None
        self._posture: LocalPosture | None = None
        self._posture_reading: asyncio.Task[None] | None = None
        self._posture_at = float("-inf")

    @property
    def name(self) -> str:
        """The configured name, the value of the label `daemon`."""
        return self.client.name

    async def run(self) -> None:
        """Keep the client connected, and own the fetches, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self.client.run()
        finally:
            await self._snapshots.close()
            if self._home_reader is not None:
                self._home_reader.close(wait_s=0.1)

    async def read(self, *, within_s: float) -> DaemonReading:
        """Read the daemon, waiting at most `within_s` in all (and never longer than a stalled daemon deserves).

        Concurrent readers share one fetch; a snapshot younger than the maximum age costs no call at all.
        """
        until = self._clock() + within_s
        reading = await self._attempt(until)
        if isinstance(reading.health.problem, ConnectionLost):
            # The session ended under this reading; how the daemon is now shows when it is connected to again.
            reading = await self._attempt(until)
        return reading

    async def _attempt(self, until: float) -> DaemonReading:
        left_s = max(0.0, until - self._clock())
        await self.client.settled(
            within_s=min(left_s, FIRST_ATTEMPT_S), accepted_within_s=min(left_s, STALLED_AFTER_S)
        )
        health = self.client.health()
        if health.problem is not None:
            return self._without_snapshot(health)
        left_s = max(0.0, min(until - self._clock(), STALLED_AFTER_S - self._snapshots.fetching_s))
        try:
            snapshot = await self._snapshots.get(max_age_s=self._max_age_s, within_s=left_s)
        except LlmsterError as error:
            return self._without_snapshot(self._explain(error))
        posture = await self._join_posture(until)
        return DaemonReading(
            self.name, health, snapshot, self._snapshots.age_s, posture, self._counts(), self.site
        )

    def instance(self, identifier: str) -> InstanceInfo | None:
        """Look up a loaded instance in the latest reading, without asking the daemon."""
        latest = self._snapshots.latest
        if latest is None:
            return None
        return next((i.info for i in latest.instances if i.info.identifier == identifier), None)

    def _with_slots(self, snapshot: Snapshot) -> Snapshot:
        instances = tuple(
            replace(instance, engine_slots=slots)
            if (slots := self.engine_slots(instance.info.identifier)) is not None
            else instance
            for instance in snapshot.instances
        )
        return replace(snapshot, instances=instances)

    def _observe(self, snapshot: Snapshot) -> None:
        for observe in (self.changes.observe, *self.observers):
            with self.errors.catch("observer"):
                observe(snapshot)

    def _explain(self, problem: LlmsterError) -> Health:
        """Name the state behind a fetch that failed or is not done yet."""
        health = self.client.health()
        if health.problem is not None:
            return health
        # A fetch still under way may yet succeed; one that has ended without any answer will not.
        waited_s = self._snapshots.fetching_s or STALLED_AFTER_S
        if isinstance(problem, DaemonStalled) and waited_s >= STALLED_AFTER_S:
            return Health(DaemonState.STALLED, problem)
        return Health(health.state, problem)

    def _counts(self) -> DaemonCounts:
        client = self.client
        return DaemonCounts(
            restarts=client.restarts,
            failures=dict(client.failures),
            warnings=dict(client.counts.warnings),
            unreadable=dict(client.counts.unreadable),
            loads=dict(self.changes.loads),
            unloads=dict(self.changes.unloads),
            internal_errors=dict(self.errors.counts),
        )

    def _without_snapshot(self, health: Health) -> DaemonReading:
        return DaemonReading(self.name, health, None, 0.0, None, self._counts(), self.site)

    async def _join_posture(self, until: float) -> LocalPosture | None:
        """Give the posture, of a minute ago at most; a home that answers later serves the next reading."""
        if self._home_reader is None:
            return None
        reading = self._posture_reading
        is_due = self._clock() - self._posture_at >= POSTURE_MAX_AGE_S
        if is_due and (reading is None or reading.done()):
            assert self._group is not None  # noqa: S101 - read() is only useful while run() is going
            reading = self._group.create_task(self._read_posture(self._home_reader))
            self._posture_reading = reading
        if reading is not None:
            await asyncio.wait({reading}, timeout=max(0.0, until - self._clock()))
        return self._posture

    async def _read_posture(self, reader: DeadlineReader[LocalPosture]) -> None:
        try:
            self._posture = await reader.read()
        except HardwareError:
            self._posture = None
        except Exception:
            self._posture = None
            log.exception("reading a daemon's home failed", extra={"daemon": self.name})
        self._posture_at = self._clock()


def _reader_of(local_home: Path) -> DeadlineReader[LocalPosture]:
    """Read files from a thread: a home on a network disk that hangs costs the posture, never a scrape."""
    return DeadlineReader(
        lambda: local_files.read_posture(local_home),
        subject="the LM Studio home",
        overdue=HostStalled,
        deadline_s=POSTURE_DEADLINE_S,
    )
