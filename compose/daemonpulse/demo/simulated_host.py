"""Gives the exporter the simulator's GPUs and processes through the interfaces of real ones.

Neither side depends on the other; everything here is marked as simulated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from daemonpulse.demo.simulated_gpus import device_of, uuid_of
from exporter.hardware.errors import DriverUnavailable, HardwareError
from exporter.hardware.gpus import GpuReading, GpuSource
from exporter.hardware.host import HostMemory, HostProcess, HostReading, ProcessRole
from llmster_sim.engine.daemon import Daemon
from llmster_sim.host.memory import RAM_BYTES

T = TypeVar("T")

ENGINE_NAME: Final = "llama-server (simulated)"
_DAEMON_CORES: Final = 0.04
"""What the daemon itself takes of the processor."""
DAEMON_NAME: Final = "llmster (simulated)"
ANSWER_S: Final = 2.0
"""How long a reader's thread waits for the simulator's loop; longer than the loop is ever busy."""


class _Simulated:
    """Asks the simulator where it lives: in its event loop, while readers ask from threads of their own."""

    def __init__(self, daemon: Daemon, loop: asyncio.AbstractEventLoop) -> None:
        self._daemon = daemon
        self._loop = loop

    def _ask(self, question: Callable[[], T], failure: type[HardwareError]) -> T:
        async def answer() -> T:
            return question()

        try:
            return asyncio.run_coroutine_threadsafe(answer(), self._loop).result(timeout=ANSWER_S)
        except TimeoutError as error:
            raise failure("the simulator does not answer") from error


def simulated_gpus(daemon: Daemon, loop: asyncio.AbstractEventLoop) -> dict[str, GpuSource]:
    """Make a source for each vendor of the simulated GPUs."""
    vendors = {gpu.spec.vendor for gpu in daemon.gpus.all}
    return {vendor: SimulatedGpus(daemon, loop, vendor) for vendor in sorted(vendors, reverse=True)}


class SimulatedGpus(_Simulated):
    """A GpuSource of one vendor's GPUs that do not exist."""

    def __init__(self, daemon: Daemon, loop: asyncio.AbstractEventLoop, vendor: str) -> None:
        super().__init__(daemon, loop)
        self._vendor = vendor

    def read(self) -> GpuReading:
        """Read every simulated GPU."""
        return self._ask(self._read, DriverUnavailable)

    def xid_counts(self) -> Mapping[tuple[str, int], int] | None:
        """Count the XIDs of the scenario that has some; None for a vendor that has no XIDs."""
        if self._vendor != "nvidia":
            return None
        return {
            (uuid_of(gpu.index), xid): count
            for gpu in self._daemon.gpus.all
            for xid, count in gpu.xids.items()
        }

    def close(self) -> None:
        """Leave the simulator alone; it ends by itself."""

    def _read(self) -> GpuReading:
        engines = {instance.pid for instance in self._daemon.instances}
        names = {pid: ENGINE_NAME for pid in engines if pid is not None}
        gpus = self._daemon.gpus.read(self._daemon.clock.now_s)
        return GpuReading(
            driver_version=None,
            cuda_version=None,
            devices=tuple(device_of(gpu, names) for gpu in gpus if gpu.spec.vendor == self._vendor),
            simulated=True,
        )


class SimulatedHost(_Simulated):
    """A HostSource of a host that does not exist: the simulated daemon with one engine per loaded model."""

    def read(self, daemon_pid: int | None) -> HostReading:
        """Read the simulated host; it has one daemon, so the pid is ignored."""
        return self._ask(lambda: self._read(daemon_pid), HardwareError)

    def name_of(self, pid: int) -> str | None:
        """Return nothing: the simulated GPUs name their processes themselves."""
        del pid
        return None

    def _read(self, daemon_pid: int | None) -> HostReading:
        daemon = self._daemon
        memory = HostMemory(total_bytes=RAM_BYTES, available_bytes=RAM_BYTES - daemon.host_rss_bytes)
        if daemon_pid != daemon.pid:
            return HostReading(memory)
        engines = [
            HostProcess(
                pid=instance.pid,
                role=ProcessRole.ENGINE,
                name=ENGINE_NAME,
                resident_bytes=instance.model.size_bytes // 8,
                cpu_seconds=instance.cpu.seconds(daemon.clock.now_s),
                model_path=f"/simulated/models/{instance.model.path}",
            )
            for instance in daemon.instances
            if instance.pid is not None
        ]
        own = HostProcess(
            pid=daemon.pid,
            role=ProcessRole.DAEMON,
            name=DAEMON_NAME,
            resident_bytes=daemon.host_rss_bytes,
            cpu_seconds=_DAEMON_CORES * daemon.clock.now_s,
        )
        return HostReading(
            memory=memory,
            processes=(own, *engines),
            parents=tuple((engine.pid, daemon.pid) for engine in engines),
        )
