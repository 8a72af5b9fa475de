"""Reads one AMD GPU at one moment from the attributes that amdgpu gives it.

Source: Documentation/gpu/amdgpu/{driver-misc,thermal,ras}.rst. pcie_bw is not read: that takes the driver a second.
Nothing here is read while the GPU sleeps (see source.py).
"""

import re
from collections.abc import Mapping
from typing import Final

from exporter.hardware.drm.discovery import DrmGpu
from exporter.hardware.drm.files import read_bytes, read_int, read_text
from exporter.hardware.drm.gpu_metrics import parse
from exporter.hardware.drm.hwmon import SensorValues
from exporter.hardware.gpus import Memory

HERTZ_PER_MEGAHERTZ: Final = 1_000_000

_PERCENT: Final = 100
_LEVEL: Final = re.compile(r"^\w+:\s*(\d+)\s*Mhz\s*(\*?)", re.IGNORECASE | re.MULTILINE)
"""A line of pp_dpm_*: `1: 2304Mhz *`; the star marks the level in use, and deep sleep is level S."""
_LEVELS: Final = {"graphics": "pp_dpm_sclk", "memory": "pp_dpm_mclk", "video": "pp_dpm_vclk"}
_RAS_BLOCKS: Final = {"umc": "dram", "gfx": "gfx", "sdma": "sdma"}
"""The memory controller's errors are those of the device memory."""
_RAS_KINDS: Final = {"ue": "uncorrected", "ce": "corrected"}


def read_memory(gpu: DrmGpu, host_available_bytes: int | None) -> Memory | None:
    """Read device memory; of an APU its carve-out and the host memory it may map (GTT) together.

    An APU can only map what the host has left, so no more than that is free.
    """
    vram = _pool(gpu.device, "vram")
    if vram is None or not gpu.integrated:
        return vram
    gtt = _pool(gpu.device, "gtt")
    if gtt is None:
        return vram
    mappable = gtt.free_bytes if host_available_bytes is None else min(gtt.free_bytes, host_available_bytes)
    return Memory(
        total_bytes=vram.total_bytes + gtt.total_bytes,
        used_bytes=(vram.used_bytes or 0) + (gtt.used_bytes or 0),
        free_bytes=vram.free_bytes + mappable,
    )


def busy_ratio(gpu: DrmGpu, what: str) -> float | None:
    """Read gpu_busy_percent or mem_busy_percent. The first is absent on some APUs, the second on all."""
    percent = read_int(f"{gpu.device}/{what}_busy_percent")
    return None if percent is None else percent / _PERCENT


def clocks(gpu: DrmGpu, sensors: SensorValues) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Read clocks now and at most: now from the sensors where there are some, else from the level in use."""
    now = dict(sensors.clocks_hertz)
    highest: dict[str, float] = {}
    for clock, name in _LEVELS.items():
        levels = _LEVEL.findall(read_text(f"{gpu.device}/{name}") or "")
        if levels:
            highest[clock] = max(float(megahertz) for megahertz, _ in levels) * HERTZ_PER_MEGAHERTZ
        for megahertz, star in levels:
            if star:
                now.setdefault(clock, float(megahertz) * HERTZ_PER_MEGAHERTZ)
    return now, highest


def metrics(gpu: DrmGpu) -> tuple[float | None, Mapping[str, bool] | None]:
    """Read energy in joules and throttle reasons from the metrics table."""
    found = parse(read_bytes(f"{gpu.device}/gpu_metrics"))
    return found.energy_joules, found.throttle_reasons


def ecc_errors(gpu: DrmGpu) -> dict[tuple[str, str], int]:
    """Count ECC errors since the driver was loaded, where the GPU has RAS."""
    counts: dict[tuple[str, str], int] = {}
    for block, location in _RAS_BLOCKS.items():
        for line in (read_text(f"{gpu.device}/ras/{block}_err_count") or "").splitlines():
            kind, _, count = line.partition(":")
            if kind.strip() in _RAS_KINDS and count.strip().isdigit():
                counts[_RAS_KINDS[kind.strip()], location] = int(count)
    return counts


def partition_mode(gpu: DrmGpu) -> str | None:
    """Read the compute partitioning: SPX (whole), DPX, TPX, QPX or CPX; None where the GPU cannot be partitioned."""
    return read_text(f"{gpu.device}/current_compute_partition")


def _pool(device: str, name: str) -> Memory | None:
    total, used = (
        read_int(f"{device}/mem_info_{name}_total"),
        read_int(f"{device}/mem_info_{name}_used"),
    )
    if not total or used is None:
        return None
    return Memory(total_bytes=total, used_bytes=used, free_bytes=max(total - used, 0))
