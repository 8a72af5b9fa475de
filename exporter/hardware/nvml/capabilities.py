"""Reads, once per session with the driver, the constant properties of a GPU and the queries that it supports.

What changes from one reading to the next is in readings.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pynvml

from exporter.hardware.nvml.query import ask, ask_fields, refuses, within

Handle = Any  # pynvml has no types; a handle is an opaque ctypes pointer

HERTZ_PER_MEGAHERTZ: Final = 1_000_000

CLOCKS: Final = {
    "graphics": pynvml.NVML_CLOCK_GRAPHICS,
    "sm": pynvml.NVML_CLOCK_SM,
    "memory": pynvml.NVML_CLOCK_MEM,
    "video": pynvml.NVML_CLOCK_VIDEO,
}
ECC_KINDS: Final = {
    "corrected": pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
    "uncorrected": pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
}
EVERYWHERE: Final = "all"
"""The location of an ECC count that the GPU gives only as a total."""

INTEGRATED: Final = ("gb10", "orin", "thor", "xavier", "tegra")
"""In the names of parts whose GPU and CPU share one memory: DGX Spark and Jetson. Source: NVIDIA's product pages."""
MAX_CELSIUS: Final = 300.0
MAX_HERTZ: Final = 1e11
MAX_PCIE_GENERATION: Final = 16
MAX_PCIE_LANES: Final = 64
MAX_FANS: Final = 64

_LIMITS: Final = {
    "slowdown": pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
    "shutdown": pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN,
    "gpu_max": pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX,
    "memory_max": pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX,
}
_ECC_LOCATIONS: Final = {
    "dram": pynvml.NVML_MEMORY_LOCATION_DRAM,
    "sram": pynvml.NVML_MEMORY_LOCATION_SRAM,
}
_ECC_LOCATIONS_BEFORE_AMPERE: Final = {
    "dram": pynvml.NVML_MEMORY_LOCATION_DRAM,
    "l1_cache": pynvml.NVML_MEMORY_LOCATION_L1_CACHE,
    "l2_cache": pynvml.NVML_MEMORY_LOCATION_L2_CACHE,
    "register_file": pynvml.NVML_MEMORY_LOCATION_REGISTER_FILE,
    "texture_memory": pynvml.NVML_MEMORY_LOCATION_TEXTURE_MEMORY,
}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The constant properties of one GPU in one session with the driver."""

    index: int
    handle: Handle
    uuid: str | None
    name: str | None
    pci_bus_id: str | None
    temperature_limits_celsius: Mapping[str, float]
    clocks_max_hertz: Mapping[str, float]
    pcie_generation_max: int | None
    pcie_width_max: int | None
    fans: int
    nvlinks: int
    ecc_counters: tuple[tuple[str, str], ...]
    """The (kind, location) pairs this GPU counts."""
    temperature_v: bool
    """Whether the driver has nvmlDeviceGetTemperatureV; the older call leaves with CUDA 14."""
    memory_v2: bool
    """Whether the driver reports reserved memory separately."""
    unified: bool
    """Whether the GPU has no memory of its own and shares the host's.

    Observed: DGX Spark (GB10, drivers 580 and 595, by published reports) answers NOT_SUPPORTED to both memory calls;
    some parts answer a total of 0. A discrete GPU may do so too, so the name decides: the parts are few and known.
    """


def learn(index: int, handle: Handle) -> Capabilities:
    """Ask one GPU everything that does not change. Raises NVMLError when the GPU is lost."""
    name = ask(pynvml.nvmlDeviceGetName, handle)
    pci = ask(pynvml.nvmlDeviceGetPciInfo, handle)
    limits = {
        name: ask(pynvml.nvmlDeviceGetTemperatureThreshold, handle, limit) for name, limit in _LIMITS.items()
    }
    clocks = {name: ask(pynvml.nvmlDeviceGetMaxClockInfo, handle, clock) for name, clock in CLOCKS.items()}
    memory_v2 = refuses(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    memory_v1 = None if memory_v2 is None else refuses(pynvml.nvmlDeviceGetMemoryInfo, handle)
    links = ask_fields(handle, [(pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT, 0)])
    return Capabilities(
        index=index,
        handle=handle,
        uuid=uuid_of(handle),
        name=name,
        pci_bus_id=None if pci is None else str(pci.busId),
        temperature_limits_celsius={
            name: celsius
            for name, limit in limits.items()
            if (celsius := within(limit, MAX_CELSIUS)) is not None
        },
        clocks_max_hertz={
            name: hertz for name, mhz in clocks.items() if (hertz := hertz_of(mhz)) is not None
        },
        pcie_generation_max=whole(
            ask(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, handle), MAX_PCIE_GENERATION
        ),
        pcie_width_max=whole(ask(pynvml.nvmlDeviceGetMaxPcieLinkWidth, handle), MAX_PCIE_LANES),
        fans=whole(ask(pynvml.nvmlDeviceGetNumFans, handle), MAX_FANS) or 0,
        nvlinks=min(int(next(iter(links.values()), 0)), pynvml.NVML_NVLINK_MAX_LINKS),
        ecc_counters=_ecc_counters(handle),
        temperature_v=ask(pynvml.nvmlDeviceGetTemperatureV, handle, pynvml.NVML_TEMPERATURE_GPU) is not None,
        memory_v2=memory_v2 is None,
        unified=_is_integrated(name)
        and (memory_v1 == pynvml.NVML_ERROR_NOT_SUPPORTED or _has_no_bytes(handle)),
    )


def uuid_of(handle: Handle) -> str | None:
    """Ask who a GPU is, which every GPU that works answers. Raises NVMLError when it does not work.

    A refusal that is about the question (not supported, not permitted) gives None.
    """
    try:
        return str(pynvml.nvmlDeviceGetUUID(handle))
    except pynvml.NVMLError as error:
        if error.value in {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION}:
            return None
        raise


def _is_integrated(name: str | None) -> bool:
    return name is not None and any(part in name.lower() for part in INTEGRATED)


def whole(value: int | None, most: int) -> int | None:
    """Return a whole number in its possible range, else None."""
    return value if within(value, most) is not None else None


def hertz_of(megahertz: int | None) -> float | None:
    """Turn NVML's MHz into Hz; None for what no clock can be."""
    return within(None if megahertz is None else float(megahertz * HERTZ_PER_MEGAHERTZ), MAX_HERTZ)


def _has_no_bytes(handle: Handle) -> bool:
    memory = ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return memory is not None and memory.total == 0


def ecc_count(handle: Handle, kind: str, location: str) -> int | None:
    """Count lifetime ECC errors of one kind in one location; they survive reboots, so they only grow."""
    if location == EVERYWHERE:
        return ask(pynvml.nvmlDeviceGetTotalEccErrors, handle, ECC_KINDS[kind], pynvml.NVML_AGGREGATE_ECC)
    number = _ECC_LOCATIONS.get(location, _ECC_LOCATIONS_BEFORE_AMPERE.get(location))
    return ask(
        pynvml.nvmlDeviceGetMemoryErrorCounter, handle, ECC_KINDS[kind], pynvml.NVML_AGGREGATE_ECC, number
    )


def _ecc_counters(handle: Handle) -> tuple[tuple[str, str], ...]:
    """Choose locations that do not overlap, so that their sum is the GPU's total.

    SRAM contains the caches and the register file; a GPU that counts SRAM is asked for nothing finer.
    """
    counters: list[tuple[str, str]] = []
    for kind in ECC_KINDS:
        whole_sram = ecc_count(handle, kind, "sram") is not None
        locations = _ECC_LOCATIONS if whole_sram else _ECC_LOCATIONS_BEFORE_AMPERE
        counted = [location for location in locations if ecc_count(handle, kind, location) is not None]
        if not counted and ecc_count(handle, kind, EVERYWHERE) is not None:
            counted = [EVERYWHERE]
        counters += [(kind, location) for location in counted]
    return tuple(counters)
