"""Reads the free memory of a daemon's host: from the GPU drivers on this host, else from a Prometheus.

preflight.py decides what fits. A source that has no reading raises MemoryUnknown with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from actions.domain.preflight import Gpu, Holder, MemoryReading
from exporter.hardware.attribution import Instance, ProcessTree, attribute
from exporter.hardware.errors import HardwareError
from exporter.hardware.evidence import names_of, tree_of, uses_of
from exporter.hardware.host import HostReading, HostSource
from exporter.hardware.host_reader import HostReader
from exporter.hardware.vendors import HostGpus, Sources, is_shadowed
from exporter.llmster.state import InstanceInfo


class MemoryUnknown(Exception):
    """Free memory is unknown; the message says why, and the fix."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded instance, with the pid that appeared when this service loaded it."""

    info: InstanceInfo
    pid: int | None


class MemorySource(Protocol):
    """Where readings come from."""

    async def read(self, daemon_pid: int | None, loaded: Sequence[LoadedModel]) -> MemoryReading:
        """Read now. `loaded` are instances on the daemon's own host. Raises MemoryUnknown."""
        ...

    async def close(self) -> None:
        """Let go of what is held."""
        ...


class LocalMemory:
    """GPU drivers and /proc of this host."""

    def __init__(self, daemon: str, gpus: Sources, host: HostSource) -> None:
        self._daemon = daemon
        self._reader = HostReader(gpus, host)

    async def read(self, daemon_pid: int | None, loaded: Sequence[LoadedModel]) -> MemoryReading:
        """Read the GPUs, then the processes behind what they hold."""
        gpus = await self._reader.gpus()
        try:
            found = await self._reader.processes({self._daemon: daemon_pid}, gpus)
        except HardwareError as error:
            raise MemoryUnknown(f"free GPU memory is not known: {error}") from error
        return read_memory(gpus, found.hosts[self._daemon], found.names, loaded)

    async def close(self) -> None:
        """Release the drivers, without waiting for one that does not answer."""
        await self._reader.close()


class NoMemory:
    """Stands where nothing can be read, with the reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def read(self, _daemon_pid: int | None, _loaded: Sequence[LoadedModel]) -> MemoryReading:
        """Raise MemoryUnknown."""
        raise MemoryUnknown(self._reason)

    async def close(self) -> None:
        """Do nothing."""


class FirstThatAnswers:
    """Asks one source after the other."""

    def __init__(self, sources: Sequence[MemorySource]) -> None:
        self._sources = sources

    async def read(self, daemon_pid: int | None, loaded: Sequence[LoadedModel]) -> MemoryReading:
        """Return the first answer. Raises MemoryUnknown with every reason when there is none."""
        reasons: list[str] = []
        for source in self._sources:
            try:
                return await source.read(daemon_pid, loaded)
            except MemoryUnknown as error:
                reasons.append(str(error))
        raise MemoryUnknown("; ".join(reasons))

    async def close(self) -> None:
        """Close every source."""
        for source in self._sources:
            await source.close()


def read_memory(
    gpus: HostGpus, host: HostReading, names: Mapping[int, str], loaded: Sequence[LoadedModel]
) -> MemoryReading:
    """Combine GPUs, processes and instances. Pure. Raises MemoryUnknown when a GPU reports no memory.

    Where the daemon's processes are not visible, an instance is the process that appeared when this service loaded
    it.
    """
    for problem in gpus.problems.values():
        raise MemoryUnknown(f"free GPU memory is not known: {problem}")
    devices = [device for device in gpus.devices if not is_shadowed(device)]
    if not devices:
        raise MemoryUnknown("free GPU memory is not known: no GPU driver answers on this host")
    for device in devices:
        if device.lost or device.memory is None:
            raise MemoryUnknown(f"GPU {device.index} does not report its free memory")
    names = {**names, **names_of(devices)}
    tree = tree_of(host, names)
    if tree is None:
        tree = ProcessTree(parents={one.pid: None for one in loaded if one.pid is not None}, names=names)
    shares = attribute(
        uses_of(devices),
        [Instance(one.info.identifier, model_path=one.info.path, engine_pid=one.pid) for one in loaded],
        tree,
    )
    held: dict[str, dict[int, int]] = {}
    holders: list[Holder] = []
    for share in shares.instances:
        held.setdefault(share.instance_id, {})[share.gpu] = share.memory_bytes
        holders += [
            Holder(part.gpu, part.memory_bytes, part.pid, part.name, share.instance_id)
            for part in share.processes
        ]
    holders += [
        Holder(part.gpu, part.memory_bytes, part.pid, part.name)
        for part in (*shares.unattributed, *shares.foreign)
    ]
    return MemoryReading(
        source="+".join(sorted({gpus.source_of(device.vendor) for device in devices})),
        gpus=tuple(
            Gpu(device.index, device.memory.total_bytes, device.memory.free_bytes, device.name)
            for device in devices
            if device.memory is not None
        ),
        holders=tuple(sorted(holders, key=lambda holder: (holder.gpu, -holder.memory_bytes))),
        held_by_instance=held,
        host_available_bytes=host.memory.available_bytes if host.memory is not None else None,
    )
