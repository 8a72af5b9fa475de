"""Computes the energy that each GPU used between two readings, from its counter or by integrating its power. Pure.

A counter is exact whatever the time between two readings. Power is integrated by the trapezoidal rule, and only while
readings are close enough.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exporter.hardware.gpus import Device

MOST_GAP_S: Final = 60.0
"""Power is not integrated over a longer time without a reading."""


class Method(StrEnum):
    """The source of joules, the label `method`."""

    COUNTER = "counter"
    INTEGRATED = "integrated"


@dataclass(frozen=True, slots=True)
class Interval:
    """Energy that one GPU used between two readings."""

    gpu: int
    from_s: float
    until_s: float
    joules: float


@dataclass(frozen=True, slots=True)
class Total:
    """Energy of one GPU: by its counter, since the driver was loaded; else integrated since the first reading."""

    joules: float
    method: Method


@dataclass(slots=True)
class _Last:
    uuid: str | None
    at_s: float
    counter_joules: float | None
    power_watts: float | None
    integrated_joules: float


class EnergyMeter:
    """Remembers the last reading of every GPU."""

    def __init__(self) -> None:
        self._last: dict[int, _Last] = {}

    def advance(self, devices: Iterable[Device], at_s: float) -> list[Interval]:
        """Take a reading and return the energy since the last one, for each GPU in both.

        `at_s` are Unix seconds; a clock that was set back begins anew. So does a counter that went back (the driver was
        loaded again), a GPU that was lost, and a number that another GPU has now.
        """
        intervals: list[Interval] = []
        for device in devices:
            before = self._last.pop(device.index, None)
            if device.lost:
                continue
            joules = None
            if before is not None and before.uuid == device.uuid and at_s > before.at_s:
                joules = _joules(before, device, at_s)
            if before is not None and joules is not None:
                intervals.append(Interval(device.index, before.at_s, at_s, joules))
            integrated = 0.0 if before is None else before.integrated_joules
            self._last[device.index] = _Last(
                device.uuid, at_s, device.energy_joules, device.power_watts, integrated + (joules or 0.0)
            )
        return intervals

    def total(self, device: Device) -> Total | None:
        """Tell a GPU's energy as of the last reading; None where neither counter nor power is known."""
        if device.energy_joules is not None:
            return Total(device.energy_joules, Method.COUNTER)
        last = self._last.get(device.index)
        if last is None or last.power_watts is None:
            return None
        return Total(last.integrated_joules, Method.INTEGRATED)


def _joules(before: _Last, device: Device, at_s: float) -> float | None:
    if before.counter_joules is not None and device.energy_joules is not None:
        used = device.energy_joules - before.counter_joules
        return used if used >= 0 else None
    if before.power_watts is None or device.power_watts is None or at_s - before.at_s > MOST_GAP_S:
        return None
    return (before.power_watts + device.power_watts) / 2 * (at_s - before.at_s)
