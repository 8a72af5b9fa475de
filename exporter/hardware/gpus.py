"""Types of one reading of the host's GPUs, and the interface of its sources.

Does not depend on NVML: a simulated GPU fills the same types. A value that a GPU does not report is None (or missing
from its mapping), never a sentinel and never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process on one GPU; listed once even when it computes and draws.

    Source: nvmlDeviceGet{Compute,Graphics}RunningProcesses_v3.
    """

    pid: int
    """As seen from the driver: a process in another pid namespace carries the number it has on the host."""
    memory_bytes: int | None
    """None where the platform does not report it (Windows WDDM, some containers)."""
    gpu_instance_id: int | None = None
    """The MIG GPU instance it runs in; None on a GPU without MIG."""
    name: str | None = None
    """Only from a source that reports it itself."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Device memory in bytes; `used` does not contain `reserved` where the driver separates them.

    Source: nvmlDeviceGetMemoryInfo_v2, else nvmlDeviceGetMemoryInfo (then reserved is None and part of used).
    """

    total_bytes: int
    used_bytes: int | None
    """On unified memory the sum of the GPU's processes; None where it is unknown."""
    free_bytes: int
    reserved_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class MigInstance:
    """One MIG device (a compute instance) of a GPU. Source: nvmlDeviceGetMigDeviceHandleByIndex."""

    index: int
    uuid: str | None
    name: str | None
    gpu_instance_id: int | None
    compute_instance_id: int | None
    memory: Memory | None


@dataclass(frozen=True, slots=True)
class PcieLink:
    """The link to the host: generation and lanes, now and at best, and bytes per second over the last sample.

    Source: nvmlDeviceGetCurrPcieLink*, nvmlDeviceGetMaxPcieLink*, nvmlDeviceGetPcieThroughput.
    """

    generation: int | None = None
    generation_max: int | None = None
    width: int | None = None
    width_max: int | None = None
    transmit_bytes_per_second: float | None = None
    receive_bytes_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class RemappedRows:
    """Rows of device memory replaced for good, by the kind of error that condemned them.

    Source: nvmlDeviceGetRemappedRows.
    """

    correctable: int
    uncorrectable: int
    pending: bool
    """A remapping waits for a reset of the GPU."""
    failed: bool
    """A remapping has failed: the GPU is to be replaced."""


@dataclass(frozen=True, slots=True)
class NvLink:
    """The NVLinks of a GPU. Source: nvmlDeviceGetNvLinkState and field values summed over all links."""

    active: Mapping[int, bool] = field(default_factory=dict)
    """By link number."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Counts since the driver was loaded: crc_flit, crc_data, replay, recovery, ecc_data."""
    transmitted_bytes: int | None = None
    received_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU at one moment. A lost GPU is an index (and, when it was seen before, its identity) and `lost`."""

    index: int
    uuid: str | None = None
    name: str | None = None
    pci_bus_id: str | None = None
    vendor: str = "nvidia"
    """nvidia, amd or intel."""
    lost: bool = False
    """The GPU has fallen off the bus or requires a reset; it has no other values."""
    unified: bool = False
    """The GPU shares the host's memory: total and free of `memory` are the host's, used is what processes hold."""
    memory: Memory | None = None
    utilization_ratio: float | None = None
    """Share of the last sample (1/6 to 1 s, by product) in which at least one kernel ran."""
    memory_busy_ratio: float | None = None
    """Share of the same sample in which device memory was being read or written; not how full it is."""
    activity_ratios: Mapping[str, float] = field(default_factory=dict)
    """By part of the GPU (graphics, sm, sm_occupancy, tensor, dram, fp64, fp32, fp16): how busy it was since the last
    reading. Source: NVML's GPM."""
    encoder_ratio: float | None = None
    decoder_ratio: float | None = None
    temperatures_celsius: Mapping[str, float] = field(default_factory=dict)
    """By sensor: gpu, memory."""
    temperature_limits_celsius: Mapping[str, float] = field(default_factory=dict)
    """By limit: slowdown, shutdown, gpu_max, memory_max."""
    power_watts: float | None = None
    power_limit_watts: float | None = None
    """The limit in force, the smallest of all that apply."""
    energy_joules: float | None = None
    """Since the driver was loaded."""
    clocks_hertz: Mapping[str, float] = field(default_factory=dict)
    """By clock: graphics, sm, memory, video."""
    clocks_max_hertz: Mapping[str, float] = field(default_factory=dict)
    throttle_reasons: Mapping[str, bool] | None = None
    """Every reason that this driver has, active or not; None where the GPU does not report them."""
    fan_ratios: Mapping[int, float] = field(default_factory=dict)
    """By fan number, of its full speed; may exceed 1. Empty on a passively cooled GPU."""
    pcie: PcieLink = PcieLink()
    ecc_errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Lifetime counts by (kind, location): corrected or uncorrected; dram, sram, l1_cache... or all."""
    remapped_rows: RemappedRows | None = None
    nvlink: NvLink | None = None
    mig_enabled: bool | None = None
    """None on a GPU that cannot be partitioned."""
    mig_instances: tuple[MigInstance, ...] = ()
    processes: tuple[GpuProcess, ...] | None = None
    """By pid; None when the driver will not list them, () when there are none."""
    hidden_pids: frozenset[int] = frozenset()
    """Processes that may hold memory here and could not be looked into; NVML hides none."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One reading. `simulated` marks simulated GPUs in every output."""

    driver_version: str | None
    cuda_version: str | None
    """The newest CUDA the driver can run, as "13.0"."""
    devices: tuple[Device, ...]
    simulated: bool = False


class GpuSource(Protocol):
    """A source of readings: NVML, DRM, or simulated GPUs. Called from one thread at a time."""

    def read(self) -> GpuReading:
        """Ask every GPU now; may block for as long as the driver does. Raises GpuError."""
        ...

    def xid_counts(self) -> Mapping[tuple[str, int], int] | None:
        """Count XID errors since the source began to watch, by (gpu uuid, xid); None when nothing can be watched.

        Never blocks, and may be called from any thread.
        """
        ...

    def close(self) -> None:
        """Let go of the driver. May block like `read`; a closed source is not read again."""
        ...
