"""The GpuSource of AMD and Intel GPUs: reads the kernel's files of each GPU of amdgpu, xe and i915.

Does not depend on deadlines or threads (see deadline.py): a driver that hangs blocks the read of its file.
"""

import os
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final

from exporter.hardware.drm import amdgpu, intel, kfd
from exporter.hardware.drm.clients import ClientScan, ClientScanner
from exporter.hardware.drm.discovery import Driver, DrmGpu, find_gpus
from exporter.hardware.drm.files import read_bytes, read_text
from exporter.hardware.drm.hwmon import Sensors, SensorValues, find_sensors, read_sensors
from exporter.hardware.drm.pcie import read_link
from exporter.hardware.drm.processes import memory_by_process
from exporter.hardware.gpus import Device, GpuProcess, GpuReading, Memory, PcieLink
from exporter.hardware.host import HostMemory, read_memory

_OFF_THE_BUS: Final = b"\xff\xff"
"""The vendor id in the configuration space of a device that does not answer any more."""
DISCOVERY_S: Final = 30.0
"""How often GPUs are looked for that were not there before."""


@dataclass(slots=True)
class _Watched:
    """A GPU, and what its last reading left behind."""

    index: int
    gpu: DrmGpu
    sensors: Sensors | None
    gts: list[intel.Gt]
    idle_ms: Mapping[str, int] = field(default_factory=dict)
    energy_joules: float | None = None
    read_at: float = 0.0


class DrmSource:
    """Reads AMD and Intel GPUs. Not for more than one thread at a time.

    A GPU keeps its number, counted from 0 by PCI address, for as long as the source lives.
    """

    def __init__(
        self,
        drivers: AbstractSet[Driver] = frozenset(Driver),
        *,
        sysfs: str = "/sys",
        procfs: str = "/proc",
        share: str = "/usr/share",
        host_memory: Callable[[], HostMemory | None] = read_memory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._drivers = drivers
        self._sysfs = sysfs
        self._share = share
        self._host_memory = host_memory
        self._clock = clock
        self._scanner = ClientScanner(procfs)
        self._gpus: dict[str, _Watched] = {}
        self._found_at = float("-inf")

    def read(self) -> GpuReading:
        """Read every GPU now; a GPU that was seen before and has gone is marked as lost. Raises nothing."""
        self._discover()
        watched = list(self._gpus.values())
        scan = self._scanner.scan() if watched else ClientScan((), frozenset())
        held = memory_by_process(
            scan.clients, integrated={one.gpu.pci_address for one in watched if one.gpu.integrated}
        )
        nodes = kfd.find_nodes(self._sysfs) if any(one.gpu.driver is Driver.AMDGPU for one in watched) else []
        devices = tuple(self._read(one, held, nodes, scan.hidden_pids) for one in watched)
        return GpuReading(driver_version=_kernel_version(), cuda_version=None, devices=devices)

    def xid_counts(self) -> Mapping[tuple[str, int], int] | None:
        """Give None: XIDs are NVIDIA's."""
        return None

    def close(self) -> None:
        """Hold nothing, and let go of nothing."""

    def _discover(self) -> None:
        if self._clock() - self._found_at < DISCOVERY_S and all(
            _is_present(one) for one in self._gpus.values()
        ):
            return
        self._found_at = self._clock()
        for gpu in find_gpus(self._sysfs, self._share):
            known = self._gpus.get(gpu.pci_address)
            if gpu.driver not in self._drivers or (known is not None and known.gpu == gpu):
                continue
            self._gpus[gpu.pci_address] = _Watched(
                index=known.index if known is not None else len(self._gpus),
                gpu=gpu,
                sensors=find_sensors(gpu.hwmon) if gpu.hwmon is not None else None,
                gts=intel.find_gts(gpu) if gpu.driver is not Driver.AMDGPU else [],
            )

    def _read(
        self,
        one: _Watched,
        held: Mapping[str, tuple[GpuProcess, ...]],
        nodes: list[kfd.Node],
        hidden_pids: frozenset[int],
    ) -> Device:
        gpu = one.gpu
        device = Device(
            one.index,
            uuid=gpu.unique_id,
            name=gpu.name,
            pci_bus_id=gpu.pci_address,
            vendor=gpu.vendor,
            unified=gpu.integrated,
        )
        if not _is_present(one):
            return replace(device, lost=True)
        asleep = read_text(f"{gpu.device}/power/runtime_status") == "suspended"
        if not asleep and (read_bytes(f"{gpu.device}/config") or b"").startswith(_OFF_THE_BUS):
            return replace(device, lost=True)
        own_nodes = kfd.nodes_of(gpu.pci_address, nodes) if gpu.driver is Driver.AMDGPU else []
        device = replace(
            device,
            pcie=PcieLink() if gpu.integrated else read_link(gpu.link),
            processes=self._processes(held.get(gpu.pci_address, ()), own_nodes, hidden_pids),
            hidden_pids=hidden_pids,
        )
        if asleep:  # reading a sensor wakes the GPU
            one.idle_ms, one.energy_joules = {}, None
            return device
        sensors = SensorValues() if one.sensors is None else read_sensors(one.sensors)
        device = replace(
            device,
            temperatures_celsius=sensors.temperatures_celsius,
            temperature_limits_celsius={} if one.sensors is None else one.sensors.temperature_limits_celsius,
            power_watts=sensors.power_watts,
            power_limit_watts=sensors.power_limit_watts,
            energy_joules=sensors.energy_joules,
            fan_ratios=sensors.fan_ratios,
        )
        if gpu.driver is Driver.AMDGPU:
            return self._read_amd(device, gpu, sensors, own_nodes)
        return self._read_intel(device, one)

    def _read_amd(self, device: Device, gpu: DrmGpu, sensors: SensorValues, nodes: list[kfd.Node]) -> Device:
        host = self._host_memory() if gpu.integrated else None
        energy, throttle = amdgpu.metrics(gpu)
        now, highest = amdgpu.clocks(gpu, sensors)
        mode = amdgpu.partition_mode(gpu)
        partitioned = None if mode is None else mode != "SPX"
        return replace(
            device,
            memory=amdgpu.read_memory(gpu, None if host is None else host.available_bytes),
            utilization_ratio=amdgpu.busy_ratio(gpu, "gpu"),
            memory_busy_ratio=amdgpu.busy_ratio(gpu, "mem"),
            energy_joules=energy,
            clocks_hertz=now,
            clocks_max_hertz=highest,
            throttle_reasons=throttle,
            ecc_errors=amdgpu.ecc_errors(gpu),
            mig_enabled=partitioned,
            mig_instances=kfd.partitions(nodes, mode) if partitioned and mode is not None else (),
        )

    def _read_intel(self, device: Device, one: _Watched) -> Device:
        now_s, before_s = self._clock(), one.read_at
        idle_ms = intel.idle_residencies_ms(one.gts)
        ratio = intel.awake_ratio(one.idle_ms, idle_ms, now_s - before_s)
        power = device.power_watts
        if power is None and device.energy_joules is not None and one.energy_joules is not None:
            used_joules, elapsed_s = device.energy_joules - one.energy_joules, now_s - before_s
            power = used_joules / elapsed_s if elapsed_s > 0 and used_joules >= 0 else None
        one.read_at, one.idle_ms, one.energy_joules = now_s, idle_ms, device.energy_joules
        now, highest = intel.clocks(one.gts)
        return replace(
            device,
            memory=self._shared_memory() if one.gpu.integrated else None,
            utilization_ratio=ratio,
            power_watts=power,
            clocks_hertz=now,
            clocks_max_hertz=highest,
            throttle_reasons=intel.throttle_reasons(one.gts),
        )

    def _shared_memory(self) -> Memory | None:
        host = self._host_memory()
        if host is None:
            return None
        return Memory(host.total_bytes, host.total_bytes - host.available_bytes, host.available_bytes)

    def _processes(
        self, seen: tuple[GpuProcess, ...], nodes: list[kfd.Node], hidden_pids: frozenset[int]
    ) -> tuple[GpuProcess, ...] | None:
        """Add the compute processes that only amdkfd shows; None when nothing is seen and something may be hidden."""
        pids = {process.pid for process in seen}
        hidden = (
            [one for one in kfd.processes(self._sysfs, nodes) if one.pid not in pids] if hidden_pids else []
        )
        if not seen and not hidden and hidden_pids:
            return None
        return tuple(sorted([*seen, *hidden], key=lambda process: process.pid))


def _is_present(one: _Watched) -> bool:
    return os.path.isdir(f"{one.gpu.node}/device/")  # noqa: PTH112 - paths are strings here


def _kernel_version() -> str:
    """Name the driver: these come with the kernel and have no version of their own."""
    return os.uname().release
