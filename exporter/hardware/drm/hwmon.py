"""Reads a GPU's sensors: temperatures, power, energy, fans, clocks.

Source: Documentation/hwmon/sysfs-interface.rst (units: millidegrees, microwatts, microjoules, hertz) and the drivers'
own lists: Documentation/gpu/amdgpu/thermal.rst, Documentation/ABI/testing/sysfs-driver-intel-{xe,i915}-hwmon.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from exporter.hardware.drm.files import entries, read_int, read_text, scaled

_MILLI: Final = 1000
_MICRO: Final = 1_000_000
_PWM_FULL: Final = 255

_SENSORS: Final = {"edge": "gpu", "pkg": "gpu", "junction": "hotspot", "mem": "memory", "vram": "memory"}
"""amdgpu labels its sensors edge, junction and mem; xe labels them pkg and vram."""
_CLOCKS: Final = {"sclk": "graphics", "mclk": "memory"}
_LIMITS: Final = {
    ("gpu", "crit"): "slowdown",
    ("gpu", "emergency"): "shutdown",
    ("memory", "crit"): "memory_max",
}


@dataclass(frozen=True, slots=True)
class Sensors:
    """The attributes that one hwmon directory has, sorted out once."""

    path: str
    temperatures: Mapping[str, str]
    """Attribute by sensor: gpu, hotspot, memory."""
    temperature_limits_celsius: Mapping[str, float]
    power: str | None
    power_limits: tuple[str, ...]
    energy: str | None
    fans: Mapping[int, tuple[str, float]]
    """By fan number from 0: the attribute, and its value at full speed."""
    clocks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SensorValues:
    """One reading of them."""

    temperatures_celsius: Mapping[str, float] = field(default_factory=dict)
    power_watts: float | None = None
    power_limit_watts: float | None = None
    energy_joules: float | None = None
    fan_ratios: Mapping[int, float] = field(default_factory=dict)
    clocks_hertz: Mapping[str, float] = field(default_factory=dict)


def find_sensors(path: str) -> Sensors:
    """Sort out what a hwmon directory offers."""
    names = frozenset(entries(path))
    temperatures = _by_label(path, names, "temp", _SENSORS)
    if "gpu" not in temperatures and "hotspot" in temperatures:  # data-centre GPUs have no edge sensor
        temperatures["gpu"] = temperatures["hotspot"]
    limits = {
        limit: celsius
        for (sensor, suffix), limit in _LIMITS.items()
        if sensor in temperatures
        and (celsius := scaled(f"{path}/{temperatures[sensor].removesuffix('input')}{suffix}", _MILLI))
    }
    return Sensors(
        path=path,
        temperatures=temperatures,
        temperature_limits_celsius=limits,
        power=_first(names, "power1_average", "power1_input"),
        power_limits=tuple(name for name in ("power1_cap", "power1_max", "power2_max") if name in names),
        energy=_first(names, "energy1_input", "energy2_input"),
        fans=_fans(path, names),
        clocks=_by_label(path, names, "freq", _CLOCKS),
    )


def read_sensors(sensors: Sensors) -> SensorValues:
    """Read everything that changes."""
    path = sensors.path
    power = None if sensors.power is None else scaled(f"{path}/{sensors.power}", _MICRO)
    energy = None if sensors.energy is None else scaled(f"{path}/{sensors.energy}", _MICRO)
    # A limit of 0 is one that is switched off.
    limits = [limit for name in sensors.power_limits if (limit := scaled(f"{path}/{name}", _MICRO))]
    return SensorValues(
        temperatures_celsius={
            sensor: celsius
            for sensor, name in sensors.temperatures.items()
            if (celsius := scaled(f"{path}/{name}", _MILLI)) is not None
        },
        power_watts=power,
        power_limit_watts=min(limits, default=None),
        energy_joules=energy,
        fan_ratios={
            fan: speed / full
            for fan, (name, full) in sensors.fans.items()
            if (speed := read_int(f"{path}/{name}")) is not None
        },
        clocks_hertz={
            clock: float(hertz)
            for clock, name in sensors.clocks.items()
            if (hertz := read_int(f"{path}/{name}")) is not None
        },
    )


def _by_label(path: str, names: frozenset[str], kind: str, meanings: Mapping[str, str]) -> dict[str, str]:
    """Find the inputs whose label has a meaning: {"memory": "temp3_input"}."""
    found: dict[str, str] = {}
    for name in sorted(names):
        if name.startswith(kind) and name.endswith("_label"):
            meaning = meanings.get(read_text(f"{path}/{name}") or "")
            attribute = f"{name.removesuffix('label')}input"
            if meaning is not None and attribute in names:
                found.setdefault(meaning, attribute)
    return found


def _fans(path: str, names: frozenset[str]) -> dict[int, tuple[str, float]]:
    """Find the fans whose full speed is known: revolutions of fanN_max, else the duty cycle of pwmN.

    xe reports revolutions without a maximum, which gives no ratio.
    """
    fans: dict[int, tuple[str, float]] = {}
    for name in sorted(names):
        if not (name.startswith("fan") and name.endswith("_input")):
            continue
        number = name.removeprefix("fan").removesuffix("_input")
        full = read_int(f"{path}/fan{number}_max")
        if number.isdigit() and full:
            fans[int(number) - 1] = name, float(full)
        elif number.isdigit() and f"pwm{number}" in names:
            fans[int(number) - 1] = f"pwm{number}", float(_PWM_FULL)
    return fans


def _first(names: frozenset[str], *wanted: str) -> str | None:
    return next((name for name in wanted if name in names), None)
