"""Reads the host for a scrape: its GPUs, and the processes of the daemons that run on it.

`read()` always answers: a part that could not be read carries its reason.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.hardware.errors import HardwareError
from exporter.hardware.host import HostReading, HostSource
from exporter.hardware.host_reader import HostProcesses, HostReader
from exporter.hardware.vendors import HostGpus, Sources
from exporter.pipeline.energy_watch import EnergyWatch
from exporter.pipeline.engine_pids import EnginePids
from exporter.pipeline.snapshots import DaemonReading
from exporter.pipeline.vram import Vram, share_out

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostSnapshot:
    """What one reading found of the host."""

    gpus: HostGpus = field(default_factory=HostGpus)
    hosts: Mapping[str, HostReading] | None = None
    """By daemon, of the daemons on this host; None exactly when there is a problem."""
    host_problem: HardwareError | None = None
    xids: Mapping[tuple[str, int], int] | None = None
    """XID errors by (gpu, xid); None when nothing can be watched. Known even while the GPUs cannot be read."""
    last_xids: Mapping[str, int] = field(default_factory=dict)
    """The last XID error by gpu, of those that had one."""
    vram: Vram = field(default_factory=Vram)
    """Who holds the memory of the GPUs; empty when the GPUs could not be read."""


class HostWatch:
    """Reads the host. `local` are the names of the daemons that run on it."""

    def __init__(
        self,
        gpus: Sources,
        host: HostSource,
        *,
        local: Iterable[str],
        energy: EnergyWatch | None = None,
        max_age_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engines: dict[str, EnginePids] = {name: EnginePids() for name in local}
        self._reader = HostReader(gpus, host)
        self._energy = energy
        self._max_age_s = max_age_s
        self._clock = clock
        self._labels: dict[str, str] = {}
        self._xid_counts: Mapping[tuple[str, int], int] = {}
        self._last_xids: dict[str, int] = {}
        self._latest = HostGpus()
        self._latest_at = float("-inf")

    async def read_gpus(self, *, within_s: float) -> HostGpus:
        """Read the GPUs; a complete reading younger than the maximum age costs nothing."""
        if self._clock() - self._latest_at < self._max_age_s:
            return self._latest
        started_at = self._clock()
        self._latest = await self._reader.gpus(within_s=within_s)
        self._latest_at = float("-inf") if self._latest.problems else started_at
        if self._energy is not None:
            self._energy.observe(self._latest)
        return self._latest

    async def read(
        self, gpus: HostGpus, daemons: Sequence[DaemonReading], *, within_s: float
    ) -> HostSnapshot:
        """Complete a reading of the GPUs with the processes behind it."""
        daemon_pids = {
            daemon.name: daemon.snapshot.process.pid if daemon.snapshot is not None else None
            for daemon in daemons
            if daemon.name in self.engines
        }
        self._learn_labels(gpus)
        try:
            host = await self._reader.processes(daemon_pids, gpus, within_s=within_s)
            problem = None
        except Exception as error:  # noqa: BLE001 - logged in _problem_of
            host, problem = HostProcesses(), self._problem_of(error)
        vram = share_out(gpus.devices, daemons, host.hosts, self.engines, names=host.names)
        if self._energy is not None and problem is None:
            self._energy.place(vram)
        return HostSnapshot(
            gpus=gpus,
            hosts=host.hosts if problem is None else None,
            host_problem=problem,
            xids=self._labelled_xids(),
            last_xids={self._labels.get(uuid, uuid): xid for uuid, xid in self._last_xids.items()},
            vram=vram,
        )

    async def close(self) -> None:
        """Release the drivers, without waiting for one that does not answer."""
        await self._reader.close()

    @staticmethod
    def _problem_of(error: Exception) -> HardwareError:
        """Name the error: a defect costs this part of the reading, not the scrape."""
        if isinstance(error, HardwareError):
            return error
        log.error("reading the host failed", exc_info=error)
        return HardwareError(f"internal error: {type(error).__name__}")

    def _learn_labels(self, gpus: HostGpus) -> None:
        if not gpus.devices:  # the last labels stay in use until GPUs can be read again
            return
        present = {device.uuid: str(device.index) for device in gpus.devices if device.uuid is not None}
        # A driver that was reloaded may count its GPUs anew: two GPUs must not have one number.
        gone = {uuid: label for uuid, label in self._labels.items() if label not in present.values()}
        self._labels = gone | present

    def _labelled_xids(self) -> dict[tuple[str, int], int] | None:
        """Name GPUs as every other metric does; a GPU is known by its uuid where it has no number any more."""
        counts = self._reader.xid_counts()
        if counts is None:
            return None
        for (uuid, xid), count in counts.items():
            if count > self._xid_counts.get((uuid, xid), 0):
                self._last_xids[uuid] = xid
        self._xid_counts = counts
        return {(self._labels.get(uuid, uuid), xid): count for (uuid, xid), count in counts.items()}
