"""Reads one GPU at one moment through NVML.

Does not depend on sessions or other GPUs: a lost GPU raises, and the session marks that GPU alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

import pynvml

from exporter.hardware.gpus import (
    Device,
    GpuProcess,
    Memory,
    MigInstance,
    NvLink,
    PcieLink,
    RemappedRows,
)
from exporter.hardware.nvml.capabilities import (
    CLOCKS,
    MAX_CELSIUS,
    MAX_PCIE_GENERATION,
    MAX_PCIE_LANES,
    Capabilities,
    Handle,
    ecc_count,
    hertz_of,
    uuid_of,
    whole,
)
from exporter.hardware.nvml.query import ask, ask_fields, within

ALL_LINKS: Final = 0xFFFF_FFFF
"""Scope of an NVLink field value that is summed over all links (UINT_MAX, from nvml.h)."""

THROTTLE_REASONS: Final = {
    "gpu_idle": pynvml.nvmlClocksEventReasonGpuIdle,
    "applications_clocks_setting": pynvml.nvmlClocksEventReasonApplicationsClocksSetting,
    "sw_power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
    "hw_slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
    "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
    "sw_thermal_slowdown": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
    "hw_thermal_slowdown": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
    "hw_power_brake_slowdown": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    "display_clock_setting": pynvml.nvmlClocksEventReasonDisplayClockSetting,
}
_MEMORY_TEMPERATURE: Final = (pynvml.NVML_FI_DEV_MEMORY_TEMP, 0)
_NVLINK_ERRORS: Final = {
    "crc_flit": (pynvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, 0),
    "crc_data": (pynvml.NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL, 0),
    "replay": (pynvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL, 0),
    "recovery": (pynvml.NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL, 0),
    "ecc_data": (pynvml.NVML_FI_DEV_NVLINK_ECC_DATA_ERROR_COUNT_TOTAL, 0),
}
_NVLINK_SENT: Final = (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, ALL_LINKS)
_NVLINK_RECEIVED: Final = (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, ALL_LINKS)
_NVLINK_FIELDS: Final = [*_NVLINK_ERRORS.values(), _NVLINK_SENT, _NVLINK_RECEIVED]
_BYTES_PER_KIB: Final = 1024
_BYTES_PER_KB: Final = 1000
_PERCENT: Final = 100
_MILLI: Final = 1000
_MAX_WATTS: Final = 20_000.0
"""Ten times what any GPU draws; the same for the bounds below: they keep nonsense out, and judge nothing."""
_MAX_BYTES: Final = 2.0**50
_MAX_BYTES_PER_S: Final = 1e13
_MAX_ROWS: Final = 1_000_000
_NO_INSTANCE: Final = 0xFFFF_FFFF
"""gpuInstanceId of a process on a GPU without MIG."""


def observe(capabilities: Capabilities, *, host_memory: Callable[[], Memory | None]) -> Device:
    """Ask one GPU everything that changes. Raises NVMLError when the GPU is lost or the session is over.

    PCIe throughput costs 20 ms for each direction: NVML counts for that long before it answers.
    """
    handle = capabilities.handle
    uuid_of(handle)  # raises for a GPU that has stopped to work, with whatever error it has for everything
    utilization = ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    fields = ask_fields(handle, [_MEMORY_TEMPERATURE, *(_NVLINK_FIELDS if capabilities.nvlinks else ())])
    mig = ask(pynvml.nvmlDeviceGetMigMode, handle)
    mig_enabled = None if mig is None else mig[0] == 1
    partitions = _partitions(handle) if mig_enabled else []
    limit = ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    power = ask(pynvml.nvmlDeviceGetPowerUsage, handle)
    energy = ask(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    processes = _processes([handle, *(partition for partition, _ in partitions)])
    return Device(
        index=capabilities.index,
        uuid=capabilities.uuid,
        name=capabilities.name,
        pci_bus_id=capabilities.pci_bus_id,
        unified=capabilities.unified,
        memory=_shared_memory(host_memory(), processes)
        if capabilities.unified
        else _memory(handle, v2=capabilities.memory_v2),
        utilization_ratio=None if utilization is None else _ratio(utilization.gpu),
        memory_busy_ratio=None if utilization is None else _ratio(utilization.memory),
        encoder_ratio=_first_percent(ask(pynvml.nvmlDeviceGetEncoderUtilization, handle)),
        decoder_ratio=_first_percent(ask(pynvml.nvmlDeviceGetDecoderUtilization, handle)),
        temperatures_celsius=_temperatures(capabilities, fields.get(_MEMORY_TEMPERATURE)),
        temperature_limits_celsius=capabilities.temperature_limits_celsius,
        power_watts=_watts(power),
        power_limit_watts=_watts(limit),
        energy_joules=None if energy is None else energy / _MILLI,
        clocks_hertz=_clocks(handle),
        clocks_max_hertz=capabilities.clocks_max_hertz,
        throttle_reasons=_throttle_reasons(handle),
        fan_ratios=_fan_ratios(handle, capabilities.fans),
        pcie=_pcie(capabilities),
        ecc_errors={
            (kind, location): count
            for kind, location in capabilities.ecc_counters
            if (count := ecc_count(handle, kind, location)) is not None
        },
        remapped_rows=_remapped_rows(handle),
        nvlink=_nvlink(capabilities, fields) if capabilities.nvlinks else None,
        mig_enabled=mig_enabled,
        mig_instances=tuple(instance for _, instance in partitions),
        processes=processes,
    )


def _memory(handle: Handle, *, v2: bool) -> Memory | None:
    info = ask(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2 if v2 else None)
    if info is None or info.total == 0 or within(info.total, _MAX_BYTES) is None:
        return None
    if max(info.used, info.free) > info.total:
        return None  # a sentinel inside the struct makes all of it invalid
    return Memory(
        total_bytes=info.total,
        used_bytes=info.used,
        free_bytes=info.free,
        reserved_bytes=info.reserved if v2 and info.reserved <= info.total else None,
    )


def _temperatures(capabilities: Capabilities, memory: float | None) -> dict[str, float]:
    question = (
        pynvml.nvmlDeviceGetTemperatureV if capabilities.temperature_v else pynvml.nvmlDeviceGetTemperature
    )
    gpu = ask(question, capabilities.handle, pynvml.NVML_TEMPERATURE_GPU)
    sensors = {"gpu": gpu, "memory": memory}
    return {
        name: celsius
        for name, value in sensors.items()
        if (celsius := within(None if value is None else float(value), MAX_CELSIUS, least=-100.0)) is not None
    }


def _clocks(handle: Handle) -> dict[str, float]:
    clocks = {name: ask(pynvml.nvmlDeviceGetClockInfo, handle, clock) for name, clock in CLOCKS.items()}
    return {name: hertz for name, mhz in clocks.items() if (hertz := hertz_of(mhz)) is not None}


def _throttle_reasons(handle: Handle) -> dict[str, bool] | None:
    mask = ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if mask is None:  # drivers before R535 have the call under its older name only
        mask = ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
    if mask is None:
        return None
    return {name: bool(mask & bit) for name, bit in THROTTLE_REASONS.items()}


def _fan_ratios(handle: Handle, fans: int) -> dict[int, float]:
    speeds = {fan: ask(pynvml.nvmlDeviceGetFanSpeed_v2, handle, fan) for fan in range(fans)}
    return {fan: ratio for fan, speed in speeds.items() if (ratio := _ratio(speed, most=2.0)) is not None}


def _pcie(capabilities: Capabilities) -> PcieLink:
    sent = ask(pynvml.nvmlDeviceGetPcieThroughput, capabilities.handle, pynvml.NVML_PCIE_UTIL_TX_BYTES)
    received = ask(pynvml.nvmlDeviceGetPcieThroughput, capabilities.handle, pynvml.NVML_PCIE_UTIL_RX_BYTES)
    return PcieLink(
        generation=whole(
            ask(pynvml.nvmlDeviceGetCurrPcieLinkGeneration, capabilities.handle), MAX_PCIE_GENERATION
        ),
        generation_max=capabilities.pcie_generation_max,
        width=whole(ask(pynvml.nvmlDeviceGetCurrPcieLinkWidth, capabilities.handle), MAX_PCIE_LANES),
        width_max=capabilities.pcie_width_max,
        transmit_bytes_per_second=_bytes_per_second(sent),
        receive_bytes_per_second=_bytes_per_second(received),
    )


def _remapped_rows(handle: Handle) -> RemappedRows | None:
    rows = ask(pynvml.nvmlDeviceGetRemappedRows, handle)
    if rows is None:
        return None
    correctable, uncorrectable, pending, failed = rows
    if within(correctable, _MAX_ROWS) is None or within(uncorrectable, _MAX_ROWS) is None:
        return None
    return RemappedRows(correctable, uncorrectable, pending=bool(pending), failed=bool(failed))


def _nvlink(capabilities: Capabilities, fields: dict[tuple[int, int], int | float]) -> NvLink:
    states = {
        link: ask(pynvml.nvmlDeviceGetNvLinkState, capabilities.handle, link)
        for link in range(capabilities.nvlinks)
    }
    sent, received = fields.get(_NVLINK_SENT), fields.get(_NVLINK_RECEIVED)
    return NvLink(
        active={link: state == 1 for link, state in states.items() if state is not None},
        errors={name: int(fields[key]) for name, key in _NVLINK_ERRORS.items() if key in fields},
        transmitted_bytes=None if sent is None else int(sent) * _BYTES_PER_KIB,
        received_bytes=None if received is None else int(received) * _BYTES_PER_KIB,
    )


def _partitions(handle: Handle) -> list[tuple[Handle, MigInstance]]:
    """List the MIG devices; the slots are numbered with gaps, so all of them are tried."""
    found: list[tuple[Handle, MigInstance]] = []
    for index in range(ask(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        partition = ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if partition is None:
            continue
        instance = MigInstance(
            index=index,
            uuid=ask(pynvml.nvmlDeviceGetUUID, partition),
            name=ask(pynvml.nvmlDeviceGetName, partition),
            gpu_instance_id=ask(pynvml.nvmlDeviceGetGpuInstanceId, partition),
            compute_instance_id=ask(pynvml.nvmlDeviceGetComputeInstanceId, partition),
            memory=_memory(partition, v2=True) or _memory(partition, v2=False),
        )
        found.append((partition, instance))
    return found


def _processes(handles: Iterable[Handle]) -> tuple[GpuProcess, ...] | None:
    """List each (pid, GPU instance) once.

    A process that computes and draws is in both lists with the same memory, and one in a MIG instance is listed for
    the GPU (if it is visible there) and for the instance: the larger figure instead of the sum counts it once.
    """
    listed = False
    found: dict[tuple[int, int | None], GpuProcess] = {}
    for handle in handles:
        for question in (
            pynvml.nvmlDeviceGetComputeRunningProcesses,
            pynvml.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            processes = ask(question, handle)
            if processes is None:
                continue
            listed = True
            for process in processes:
                instance = None if process.gpuInstanceId == _NO_INSTANCE else process.gpuInstanceId
                seen = found.get((process.pid, instance))
                found[process.pid, instance] = GpuProcess(
                    pid=process.pid,
                    memory_bytes=_larger(process.usedGpuMemory, seen),
                    gpu_instance_id=instance,
                )
    if not listed:
        return None
    return tuple(
        found[key] for key in sorted(found, key=lambda key: (key[0], -1 if key[1] is None else key[1]))
    )


def _larger(memory_bytes: int | None, seen: GpuProcess | None) -> int | None:
    believable = memory_bytes if within(memory_bytes, _MAX_BYTES) is not None else None
    sizes = (believable, None if seen is None else seen.memory_bytes)
    return max((size for size in sizes if size is not None), default=None)


def _first_percent(answer: list[int] | None) -> float | None:
    return None if answer is None else _ratio(answer[0])


def _ratio(percent: int | None, *, most: float = 1.0) -> float | None:
    return within(None if percent is None else percent / _PERCENT, most)


def _watts(milliwatts: int | None) -> float | None:
    return within(None if milliwatts is None else milliwatts / _MILLI, _MAX_WATTS)


def _bytes_per_second(kilobytes: int | None) -> float | None:
    return within(None if kilobytes is None else float(kilobytes * _BYTES_PER_KB), _MAX_BYTES_PER_S)


def _shared_memory(host: Memory | None, processes: tuple[GpuProcess, ...] | None) -> Memory | None:
    """Tell of the host's memory, which a GPU without its own uses, what the processes on the GPU hold."""
    if host is None or processes is None:
        return host
    held = [process.memory_bytes for process in processes]
    return replace(host, used_bytes=None if None in held else sum(size for size in held if size is not None))
