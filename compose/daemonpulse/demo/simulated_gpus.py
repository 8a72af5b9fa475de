"""Describes a simulated GPU in the exporter's terms: what each vendor's driver would report, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exporter.hardware.gpus import (
    Device,
    GpuProcess,
    Memory,
    MigInstance,
    NvLink,
    PcieLink,
    RemappedRows,
)
from llmster_sim.host.gpus import GpuState

FOREIGN_NAME: Final = "blender (simulated)"
_MEGA: Final = 1e6
_FIRST_GPU_INSTANCE: Final = 1


def uuid_of(index: int) -> str:
    """Name a simulated GPU."""
    return f"GPU-simulated-{index}"


def device_of(gpu: GpuState, names: Mapping[int, str]) -> Device:
    """Describe one GPU. `names` are those of the engines' processes; all others are foreign."""
    spec = gpu.spec
    is_nvidia = spec.vendor == "nvidia"
    partitions = _partitions(gpu)
    return Device(
        index=gpu.index,
        uuid=uuid_of(gpu.index),
        name=f"{spec.name} (simulated)",
        pci_bus_id=f"0000:{gpu.index + 1:02x}:00.0",
        vendor=spec.vendor,
        memory=_memory(spec.total_bytes, gpu.used_bytes),
        utilization_ratio=None if partitions else gpu.utilization,  # NVML has none for a partitioned GPU
        memory_busy_ratio=None if partitions else gpu.memory_busy,
        activity_ratios=_activity_ratios(gpu) if spec.has_ecc and not partitions else {},
        encoder_ratio=0.0 if spec.has_video_units and not partitions else None,
        decoder_ratio=0.0 if spec.has_video_units and not partitions else None,
        temperatures_celsius={"gpu": gpu.temperature_c, "memory": gpu.memory_temperature_c},
        temperature_limits_celsius={"slowdown": spec.slow_c, "shutdown": spec.slow_c + 25},
        power_watts=gpu.power_w,
        power_limit_watts=spec.max_w,
        energy_joules=gpu.energy_j if spec.has_energy_counter else None,
        clocks_hertz=_clocks(gpu, "sm" if is_nvidia else None),
        clocks_max_hertz={
            "graphics": spec.clock_mhz * _MEGA,
            "memory": spec.memory_clock_mhz * _MEGA,
            **({"sm": spec.clock_mhz * _MEGA} if is_nvidia else {}),
        },
        throttle_reasons=_throttle_reasons(gpu, is_nvidia=is_nvidia),
        fan_ratios=dict.fromkeys(range(spec.fans), gpu.fan),
        pcie=PcieLink(
            generation=spec.pcie_generation if gpu.utilization else 1,
            generation_max=spec.pcie_generation,
            width=spec.pcie_width,
            width_max=spec.pcie_width,
            transmit_bytes_per_second=gpu.sent_bytes if is_nvidia else None,
            receive_bytes_per_second=gpu.received_bytes if is_nvidia else None,
        ),
        ecc_errors=_ecc_errors(gpu) if spec.has_ecc else {},
        remapped_rows=RemappedRows(0, gpu.ecc_uncorrected, pending=gpu.ecc_uncorrected > 0, failed=False)
        if spec.has_ecc
        else None,
        nvlink=_nvlink(gpu) if spec.nvlinks else None,
        mig_enabled=bool(spec.mig) if spec.has_ecc else None,
        mig_instances=tuple(instance for instance, _ in partitions),
        processes=_processes(gpu, names, partitions),
    )


Partition = tuple[MigInstance, frozenset[int]]
"""With the pids of the processes in it."""


def _partitions(gpu: GpuState) -> list[Partition]:
    """Put each process into the first partition with room for it."""
    left = dict(gpu.processes)
    partitions: list[Partition] = []
    for index, size in enumerate(gpu.spec.mig):
        inside: dict[int, int] = {}
        for pid, held in list(left.items()):
            if sum(inside.values()) + held <= size:
                inside[pid] = left.pop(pid)
        instance = MigInstance(
            index=index,
            uuid=f"MIG-simulated-{gpu.index}-{index}",
            name=f"{gpu.spec.name} MIG {size >> 30}gb (simulated)",
            gpu_instance_id=_FIRST_GPU_INSTANCE + index,
            compute_instance_id=0,
            memory=_memory(size, sum(inside.values())),
        )
        partitions.append((instance, frozenset(inside)))
    return partitions


def _processes(
    gpu: GpuState, names: Mapping[int, str], partitions: list[Partition]
) -> tuple[GpuProcess, ...]:
    where = {pid: instance.gpu_instance_id for instance, pids in partitions for pid in pids}
    return tuple(
        GpuProcess(pid, size, gpu_instance_id=where.get(pid), name=names.get(pid, FOREIGN_NAME))
        for pid, size in gpu.processes
    )


def _activity_ratios(gpu: GpuState) -> dict[str, float]:
    """Tell what Hopper would count while it generates: memory is busy, arithmetic much less."""
    load = gpu.utilization
    return {
        "graphics": load,
        "sm": 0.8 * load,
        "sm_occupancy": 0.3 * load,
        "tensor": 0.12 * load,
        "dram": gpu.memory_busy,
        "fp64": 0.0,
        "fp32": 0.05 * load,
        "fp16": 0.1 * load,
    }


def _throttle_reasons(gpu: GpuState, *, is_nvidia: bool) -> dict[str, bool]:
    reasons = {
        "sw_power_cap": gpu.power_capped,
        "hw_thermal_slowdown": gpu.hot,
        "hw_power_brake_slowdown": False,
    }
    if is_nvidia:
        reasons |= {"gpu_idle": gpu.utilization == 0, "sw_thermal_slowdown": False, "hw_slowdown": gpu.hot}
    return reasons


def _clocks(gpu: GpuState, further: str | None) -> dict[str, float]:
    clocks = {"graphics": gpu.clock_mhz * _MEGA, "memory": gpu.spec.memory_clock_mhz * _MEGA}
    return clocks if further is None else {**clocks, further: gpu.clock_mhz * _MEGA}


def _ecc_errors(gpu: GpuState) -> dict[tuple[str, str], int]:
    return {
        ("corrected", "dram"): gpu.ecc_corrected,
        ("uncorrected", "dram"): gpu.ecc_uncorrected,
        ("corrected", "sram"): 0,
        ("uncorrected", "sram"): 0,
    }


def _nvlink(gpu: GpuState) -> NvLink:
    bytes_ = int(gpu.nvlink_bytes)
    return NvLink(
        active=dict.fromkeys(range(gpu.spec.nvlinks), True),
        errors={"crc_flit": 0, "replay": 0, "recovery": 0},
        transmitted_bytes=bytes_,
        received_bytes=bytes_,
    )


def _memory(total_bytes: int, used_bytes: int) -> Memory:
    return Memory(total_bytes, used_bytes, total_bytes - used_bytes)
