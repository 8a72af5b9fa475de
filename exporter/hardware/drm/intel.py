"""Reads one Intel GPU at one moment from the attributes that xe and i915 give it.

Source: drivers/gpu/drm/xe/xe_gt_{freq,idle,throttle}.c, drivers/gpu/drm/i915/gt/intel_gt_sysfs_pm.c. Neither reports
the size of device memory: that takes an ioctl on the render node.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from exporter.hardware.drm.discovery import Driver, DrmGpu
from exporter.hardware.drm.files import numbered, read_int

HERTZ_PER_MEGAHERTZ: Final = 1_000_000

_POWER: Final = ("pl1", "pl2", "pl4", "vr_tdc", "iccmax", "psys_pl1", "psys_pl2", "fastvmode")
_THERMAL: Final = (
    "thermal",
    "ratl",
    "vr_thermalert",
    "vr_thermal",
    "soc_thermal",
    "soc_avg_thermal",
    "mem_thermal",
)
_REASONS: Final = {
    "sw_power_cap": _POWER,
    "hw_thermal_slowdown": _THERMAL,
    "hw_power_brake_slowdown": ("prochot",),
}
"""The drivers' reasons by what NVML calls them."""


@dataclass(frozen=True, slots=True)
class Gt:
    """Where one GT of a GPU has its attributes; the media GT of newer chips is one of its own."""

    actual: str
    highest: str
    idle_ms: str
    """How long the GT has slept (C6, RC6) since the driver was loaded."""
    throttle: str
    """What the names of the throttle reasons are appended to."""


def find_gts(gpu: DrmGpu) -> list[Gt]:
    """Find the GTs, the one that computes first."""
    if gpu.driver is Driver.XE:
        return [_xe_gt(path) for tile in numbered(gpu.device, "tile") for path in numbered(tile, "gt")]
    return [_i915_gt(path) for path in numbered(f"{gpu.node}/gt", "gt")]


def clocks(gts: list[Gt]) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Read the clock of the GT that computes, now and at most; 0 while it sleeps."""
    now = {"graphics": read_int(gts[0].actual)} if gts else {}
    highest = {"graphics": read_int(gts[0].highest)} if gts else {}
    return _in_hertz(now), _in_hertz(highest)


def idle_residencies_ms(gts: list[Gt]) -> dict[str, int]:
    """Read how long each GT has slept, by the attribute's path."""
    return {gt.idle_ms: idle for gt in gts if (idle := read_int(gt.idle_ms)) is not None}


def awake_ratio(before: Mapping[str, int], now: Mapping[str, int], elapsed_s: float) -> float | None:
    """Tell the share of time in which the busiest GT did not sleep; None without two readings to compare.

    The drivers give no busy time that counts for all processes. A GT sleeps within milliseconds of its last job.
    """
    elapsed_ms = elapsed_s * 1000
    idle = [now[gt] - before[gt] for gt in now if gt in before]
    if not idle or elapsed_ms <= 0 or min(idle) < 0:
        return None
    return min(max(1 - min(idle) / elapsed_ms, 0.0), 1.0)


def throttle_reasons(gts: list[Gt]) -> dict[str, bool] | None:
    """Return the active throttle reasons of any GT; None where the driver does not report them."""
    found: dict[str, bool] = {}
    for gt in gts:
        for reason, names in _REASONS.items():
            flags = [flag for name in names if (flag := read_int(gt.throttle + name)) is not None]
            if flags:
                found[reason] = found.get(reason, False) or any(flags)
    return found or None


def _xe_gt(path: str) -> Gt:
    return Gt(
        actual=f"{path}/freq0/act_freq",
        highest=f"{path}/freq0/rp0_freq",
        idle_ms=f"{path}/gtidle/idle_residency_ms",
        throttle=f"{path}/freq0/throttle/reason_",
    )


def _i915_gt(path: str) -> Gt:
    return Gt(
        actual=f"{path}/rps_act_freq_mhz",
        highest=f"{path}/rps_RP0_freq_mhz",
        idle_ms=f"{path}/rc6_residency_ms",
        throttle=f"{path}/throttle_reason_",
    )


def _in_hertz(megahertz: Mapping[str, int | None]) -> dict[str, float]:
    return {
        name: float(value * HERTZ_PER_MEGAHERTZ) for name, value in megahertz.items() if value is not None
    }
