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
from llmster_sim.host.gpus import CardReading

FOREIGN_NAME: Final = "blender (simulated)"
_MEGA: Final = 1e6
_FIRST_GPU_INSTANCE: Final = 1


def uuid_of(index: int) -> str:
    """Name a simulated GPU."""
    return f"GPU-simulated-{index}"


def device_of(card: CardReading, names: Mapping[int, str]) -> Device:
    """Describe one GPU. `names` are those of the engines' processes; all others are foreign."""
    spec = card.spec
    is_nvidia = spec.vendor == "nvidia"
    partitions = _partitions(card)
    return Device(
        index=card.index,
        uuid=uuid_of(card.index),
        name=f"{spec.name} (simulated)",
        pci_bus_id=f"0000:{card.index + 1:02x}:00.0",
        vendor=spec.vendor,
        memory=_memory(spec.total_bytes, card.used_bytes),
        utilization_ratio=None if partitions else card.utilization,  # NVML has none for a partitioned GPU
        memory_busy_ratio=None if partitions else card.memory_busy,
        activity_ratios=_activity_ratios(card) if spec.has_ecc and not partitions else {},
        encoder_ratio=0.0 if spec.has_video_units and not partitions else None,
        decoder_ratio=0.0 if spec.has_video_units and not partitions else None,
        temperatures_celsius={"gpu": card.temperature_c, "memory": card.memory_temperature_c},
        temperature_limits_celsius={"slowdown": spec.slow_c, "shutdown": spec.slow_c + 25},
        power_watts=card.power_w,
        power_limit_watts=spec.max_w,
        energy_joules=card.energy_j if spec.has_energy_counter else None,
        clocks_hertz=_clocks(card, "sm" if is_nvidia else None),
        clocks_max_hertz={
            "graphics": spec.clock_mhz * _MEGA,
            "memory": spec.memory_clock_mhz * _MEGA,
            **({"sm": spec.clock_mhz * _MEGA} if is_nvidia else {}),
        },
        throttle_reasons=_throttle_reasons(card, is_nvidia=is_nvidia),
        fan_ratios=dict.fromkeys(range(spec.fans), card.fan),
        pcie=PcieLink(
            generation=spec.pcie_generation if card.utilization else 1,
            generation_max=spec.pcie_generation,
            width=spec.pcie_width,
            width_max=spec.pcie_width,
            transmit_bytes_per_second=card.sent_bytes if is_nvidia else None,
            receive_bytes_per_second=card.received_bytes if is_nvidia else None,
        ),
        ecc_errors=_ecc_errors(card) if spec.has_ecc else {},
        remapped_rows=RemappedRows(0, card.ecc_uncorrected, pending=card.ecc_uncorrected > 0, failed=False)
        if spec.has_ecc
        else None,
        nvlink=_nvlink(card) if spec.nvlinks else None,
        mig_enabled=bool(spec.mig) if spec.has_ecc else None,
        mig_instances=tuple(instance for instance, _ in partitions),
        processes=_processes(card, names, partitions),
    )


Partition = tuple[MigInstance, frozenset[int]]
"""With the pids of the processes in it."""


def _partitions(card: CardReading) -> list[Partition]:
    """Put each process into the first partition with room for it."""
    left = dict(card.processes)
    partitions: list[Partition] = []
    for index, size in enumerate(card.spec.mig):
        inside: dict[int, int] = {}
        for pid, held in list(left.items()):
            if sum(inside.values()) + held <= size:
                inside[pid] = left.pop(pid)
        instance = MigInstance(
            index=index,
            uuid=f"MIG-simulated-{card.index}-{index}",
            name=f"{card.spec.name} MIG {size >> 30}gb (simulated)",
            gpu_instance_id=_FIRST_GPU_INSTANCE + index,
            compute_instance_id=0,
            memory=_memory(size, sum(inside.values())),
        )
        partitions.append((instance, frozenset(inside)))
    return partitions


def _processes(
    card: CardReading, names: Mapping[int, str], partitions: list[Partition]
) -> tuple[GpuProcess, ...]:
    where = {pid: instance.gpu_instance_id for instance, pids in partitions for pid in pids}
    return tuple(
        GpuProcess(pid, size, gpu_instance_id=where.get(pid), name=names.get(pid, FOREIGN_NAME))
        for pid, size in card.processes
    )


def _activity_ratios(card: CardReading) -> dict[str, float]:
    """Tell what Hopper would count while it generates: memory is busy, arithmetic much less."""
    load = card.utilization
    return {
        "graphics": load,
        "sm": 0.8 * load,
        "sm_occupancy": 0.3 * load,
        "tensor": 0.12 * load,
        "dram": card.memory_busy,
        "fp64": 0.0,
        "fp32": 0.05 * load,
        "fp16": 0.1 * load,
    }


def _throttle_reasons(card: CardReading, *, is_nvidia: bool) -> dict[str, bool]:
    reasons = {
        "sw_power_cap": card.power_capped,
        "hw_thermal_slowdown": card.hot,
        "hw_power_brake_slowdown": False,
    }
    if is_nvidia:
        reasons |= {"gpu_idle": card.utilization == 0, "sw_thermal_slowdown": False, "hw_slowdown": card.hot}
    return reasons


def _clocks(card: CardReading, further: str | None) -> dict[str, float]:
    clocks = {"graphics": card.clock_mhz * _MEGA, "memory": card.spec.memory_clock_mhz * _MEGA}
    return clocks if further is None else {**clocks, further: card.clock_mhz * _MEGA}


def _ecc_errors(card: CardReading) -> dict[tuple[str, str], int]:
    return {
        ("corrected", "dram"): card.ecc_corrected,
        ("uncorrected", "dram"): card.ecc_uncorrected,
        ("corrected", "sram"): 0,
        ("uncorrected", "sram"): 0,
    }


def _nvlink(card: CardReading) -> NvLink:
    bytes_ = int(card.nvlink_bytes)
    return NvLink(
        active=dict.fromkeys(range(card.spec.nvlinks), True),
        errors={"crc_flit": 0, "replay": 0, "recovery": 0},
        transmitted_bytes=bytes_,
        received_bytes=bytes_,
    )


def _memory(total_bytes: int, used_bytes: int) -> Memory:
    return Memory(total_bytes, used_bytes, total_bytes - used_bytes)
