"""Hosts for tests of everything above the hardware: none at all, or GPUs and processes written down by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.hardware.errors import HardwareError, NvmlNotFound
from exporter.hardware.gpus import (
    Device,
    GpuProcess,
    GpuReading,
    Memory,
    MigInstance,
    NvLink,
    PcieLink,
    RemappedRows,
)
from exporter.hardware.host import HostMemory, HostProcess, HostReading, ProcessRole

GIB = 1024**3
MODELS = "/home/op/.lmstudio/models/"


@dataclass
class Gpus:
    """A GpuSource that says what it is told to say."""

    reading: GpuReading | None = None
    problem: HardwareError = field(default_factory=lambda: NvmlNotFound("no library on this host"))
    xids: Mapping[tuple[str, int], int] | None = None
    reads: int = 0
    closed: bool = False

    def read(self) -> GpuReading:
        self.reads += 1
        if self.reading is None:
            raise self.problem.with_traceback(
                None
            )  # one error raised again and again grows by a frame each time
        return self.reading

    def xid_counts(self) -> Mapping[tuple[str, int], int] | None:
        return self.xids

    def close(self) -> None:
        self.closed = True


@dataclass
class Host:
    """A HostSource that says what it is told to say, whatever the daemon's pid is."""

    reading: HostReading = field(default_factory=HostReading)
    names: Mapping[int, str] = field(default_factory=dict)
    asked: list[int | None] = field(default_factory=list)

    def read(self, daemon_pid: int | None) -> HostReading:
        self.asked.append(daemon_pid)
        return self.reading

    def name_of(self, pid: int) -> str | None:
        return self.names.get(pid)


DAEMON_PID, FIRST_ENGINE, SECOND_ENGINE, HELPER = 4100, 4201, 4202, 4300


def family(first_model: str, second_model: str) -> HostReading:
    """Describe a daemon with two engines, each with a model on its command line, and a helper that is no engine."""
    engines = {FIRST_ENGINE: first_model, SECOND_ENGINE: second_model}
    return HostReading(
        memory=HostMemory(total_bytes=128 * GIB, available_bytes=90 * GIB),
        processes=(
            HostProcess(DAEMON_PID, ProcessRole.DAEMON, "llmster", 300_000_000, 12.5),
            *(
                HostProcess(pid, ProcessRole.ENGINE, "llama-server", GIB, 100.25, MODELS + path)
                for pid, path in engines.items()
            ),
        ),
        parents=tuple((pid, DAEMON_PID) for pid in (*engines, HELPER)),
    )


FULL_GPU = Device(
    index=0,
    uuid="GPU-0000",
    name="NVIDIA RTX 6000",
    pci_bus_id="00000000:01:00.0",
    memory=Memory(48 * GIB, 20 * GIB, 27 * GIB, GIB),
    utilization_ratio=0.5,
    memory_busy_ratio=0.25,
    activity_ratios={"graphics": 0.5, "tensor": 0.125},
    encoder_ratio=0.0,
    decoder_ratio=0.125,
    temperatures_celsius={"gpu": 61.0, "memory": 70.0},
    temperature_limits_celsius={"slowdown": 93.0, "shutdown": 98.0},
    power_watts=250.5,
    power_limit_watts=300.0,
    energy_joules=1e6,
    clocks_hertz={"sm": 1.5e9},
    clocks_max_hertz={"sm": 2.5e9},
    throttle_reasons={"gpu_idle": False, "sw_power_cap": True},
    fan_ratios={0: 0.3, 1: 0.31},
    pcie=PcieLink(4, 5, 8, 16, 1e6, 2e6),
    ecc_errors={("corrected", "dram"): 3, ("uncorrected", "sram"): 0},
    remapped_rows=RemappedRows(1, 0, pending=True, failed=False),
    nvlink=NvLink({0: True, 1: False}, {"crc_flit": 4}, 1000, 2000),
    mig_enabled=False,
    processes=(
        GpuProcess(DAEMON_PID, 200_000_000),
        GpuProcess(FIRST_ENGINE, 8 * GIB),
        GpuProcess(9000, 3 * GIB),
    ),
)
PARTITIONED_GPU = Device(
    index=1,
    uuid="GPU-0001",
    name="NVIDIA A100",
    pci_bus_id="00000000:02:00.0",
    memory=Memory(80 * GIB, 10 * GIB, 70 * GIB),
    mig_enabled=True,
    mig_instances=(
        MigInstance(0, "MIG-0001", "NVIDIA A100 MIG 1g.10gb", 7, 0, Memory(10 * GIB, GIB, 9 * GIB)),
    ),
    processes=(
        GpuProcess(FIRST_ENGINE, 2 * GIB, gpu_instance_id=7),
        GpuProcess(SECOND_ENGINE, 5 * GIB, gpu_instance_id=7),
    ),
)
LOST_GPU = Device(index=2, uuid="GPU-0002", lost=True)
UNIFIED_GPU = Device(
    index=3, uuid="GPU-0003", name="NVIDIA GB10", unified=True, memory=Memory(GIB, GIB // 2, GIB // 2)
)
GPUS = GpuReading("580.65.06", "13.0", (FULL_GPU, PARTITIONED_GPU, LOST_GPU, UNIFIED_GPU))
