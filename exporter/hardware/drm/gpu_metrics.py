"""Pure: reads energy and throttle reasons out of amdgpu's binary metrics table.

Source: drivers/gpu/drm/amd/include/kgd_pp_interface.h (struct gpu_metrics_v1_*) and the SMU_THROTTLER_* bits of
drivers/gpu/drm/amd/pm/swsmu/inc/amdgpu_smu.h. Only versions whose layout and units that header states are read; of any
other the values are absent.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct("<HBB")
_U64: Final = struct.Struct("<Q")
_NOT_SET: Final = 0xFFFF_FFFF_FFFF_FFFF
"""The driver fills the table with ones before it writes what the GPU reports."""

_ENERGY_AT: Final = {(1, 4): 24, (1, 5): 88, (1, 6): 88, (1, 7): 24, (1, 8): 24}
_JOULES_PER_UNIT: Final = 2**-16
"""15.259 uJ. Versions before 1.4 have the field, too, in a unit that depends on the chip."""
_THROTTLE_AT: Final = {(1, 3): 112}

_POWER_BITS: Final = range(24)
"""PPT (power), then TDC and EDC (current)."""
_THERMAL_BITS: Final = range(32, 46)
"""Chip, memory, voltage regulators, liquid, VRHOT."""
_PROCHOT_BITS: Final = range(46, 48)


@dataclass(frozen=True, slots=True)
class Metrics:
    """What is used of the table."""

    energy_joules: float | None = None
    """Since the driver was loaded."""
    throttle_reasons: Mapping[str, bool] | None = None
    """By the reasons that NVML has: sw_power_cap, hw_thermal_slowdown, hw_power_brake_slowdown."""


def parse(table: bytes | None) -> Metrics:
    """Read one table; nothing of one that is too short or of an unknown version."""
    if table is None or len(table) < _HEADER.size:
        return Metrics()
    _, *version = _HEADER.unpack_from(table)
    energy = _field(table, _ENERGY_AT.get((version[0], version[1])))
    throttle = _field(table, _THROTTLE_AT.get((version[0], version[1])))
    return Metrics(
        energy_joules=None if energy is None else energy * _JOULES_PER_UNIT,
        throttle_reasons=None
        if throttle is None
        else {
            "sw_power_cap": _any(throttle, _POWER_BITS),
            "hw_thermal_slowdown": _any(throttle, _THERMAL_BITS),
            "hw_power_brake_slowdown": _any(throttle, _PROCHOT_BITS),
        },
    )


def _field(table: bytes, offset: int | None) -> int | None:
    if offset is None or len(table) < offset + _U64.size:
        return None
    value = int(_U64.unpack_from(table, offset)[0])
    return None if value == _NOT_SET else value


def _any(status: int, bits: range) -> bool:
    return any(status >> bit & 1 for bit in bits)
