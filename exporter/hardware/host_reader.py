"""Reads the GPUs of this host and the processes behind what they hold, each within a deadline.

The exporter and the actions API read their host through it. Does not depend on metrics or on a daemon's protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.hardware.deadline import DEADLINE_S, DeadlineReader
from exporter.hardware.errors import HostStalled
from exporter.hardware.evidence import pids_of
from exporter.hardware.host import HostReading, HostSource
from exporter.hardware.vendors import GpuReaders, HostGpus, Sources


@dataclass(frozen=True, slots=True)
class HostProcesses:
    """The processes of one reading."""

    hosts: Mapping[str, HostReading] = field(default_factory=dict)
    """By daemon: the host's memory, and the daemon's processes where they can be seen."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Of the processes on the GPUs, by pid; one that cannot be seen is absent."""


class HostReader:
    """The GPUs and processes of this host."""

    def __init__(self, gpus: Sources, host: HostSource) -> None:
        self._gpus = GpuReaders(gpus)
        self._source = host
        self._host = DeadlineReader(self._read_processes, subject="the host", overdue=HostStalled)
        self._daemon_pids: Mapping[str, int | None] = {}
        self._gpu_pids: frozenset[int] = frozenset()

    async def gpus(self, *, within_s: float = DEADLINE_S) -> HostGpus:
        """Read the GPUs of every vendor now. Raises nothing: what fails is in `problems`."""
        return await self._gpus.read(within_s=within_s)

    async def processes(
        self, daemon_pids: Mapping[str, int | None], gpus: HostGpus, *, within_s: float = DEADLINE_S
    ) -> HostProcesses:
        """Read the daemons' processes and name those on the GPUs; a few milliseconds of /proc.

        Callers at the same time share one reading. Raises HardwareError, and what the source raises.
        """
        self._daemon_pids, self._gpu_pids = daemon_pids, pids_of(gpus.devices)
        return await self._host.read(within_s=within_s)

    def xid_counts(self) -> Mapping[tuple[str, int], int] | None:
        """Count XID errors by (gpu uuid, xid); None when no GPU can be watched. Never blocks."""
        return self._gpus.xid_counts()

    async def close(self) -> None:
        """Release the drivers, without waiting for one that does not answer."""
        await asyncio.to_thread(self._gpus.close)
        await asyncio.to_thread(self._host.close)

    def _read_processes(self) -> HostProcesses:
        """Read /proc, in the thread that belongs to it."""
        names = {pid: name for pid in self._gpu_pids if (name := self._source.name_of(pid)) is not None}
        return HostProcesses({name: self._source.read(pid) for name, pid in self._daemon_pids.items()}, names)
