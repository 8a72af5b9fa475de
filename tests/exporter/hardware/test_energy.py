"""Energy between two readings of a GPU: by its counter, else by integrating what it draws."""

import pytest

from exporter.hardware.energy import MOST_GAP_S, EnergyMeter, Interval, Method, Total
from exporter.hardware.gpus import Device


def counted(joules: float | None, *, uuid: str = "GPU-1") -> Device:
    return Device(0, uuid=uuid, energy_joules=joules)


def drawing(watts: float | None) -> Device:
    return Device(0, power_watts=watts)


def test_a_counter_is_believed_over_any_time() -> None:
    meter = EnergyMeter()

    assert meter.advance([counted(5000)], 100) == []
    assert meter.advance([counted(65000)], 7300) == [Interval(0, 100, 7300, 60000)]
    assert meter.total(counted(65000)) == Total(65000, Method.COUNTER)


def test_power_is_integrated_where_there_is_no_counter() -> None:
    meter = EnergyMeter()
    meter.advance([drawing(100)], 100)

    assert meter.advance([drawing(300)], 110) == [Interval(0, 100, 110, 2000)]
    assert meter.total(drawing(300)) == Total(2000, Method.INTEGRATED)


def test_power_is_not_integrated_over_a_gap_but_goes_on_behind_it() -> None:
    meter = EnergyMeter()
    meter.advance([drawing(100)], 100)
    meter.advance([drawing(100)], 110)

    assert meter.advance([drawing(100)], 111 + MOST_GAP_S) == []
    assert meter.advance([drawing(100)], 121 + MOST_GAP_S) == [
        Interval(0, 111 + MOST_GAP_S, 121 + MOST_GAP_S, 1000)
    ]
    assert meter.total(drawing(100)) == Total(2000, Method.INTEGRATED)


@pytest.mark.parametrize(
    ("device", "at_s"),
    [
        (counted(10), 110),  # the driver was loaded again
        (counted(6000, uuid="GPU-2"), 110),  # another GPU has the number now
        (counted(6000), 100),  # no time has passed
        (counted(6000), 50),  # the clock was set back
        (counted(None), 110),
        (Device(0, uuid="GPU-1", lost=True), 110),
    ],
)
def test_what_cannot_be_compared_gives_nothing(device: Device, at_s: float) -> None:
    meter = EnergyMeter()
    meter.advance([counted(5000)], 100)

    assert meter.advance([device], at_s) == []


def test_a_gpu_that_tells_neither_has_no_energy() -> None:
    meter = EnergyMeter()
    meter.advance([Device(0)], 100)

    assert meter.advance([Device(0)], 110) == []
    assert meter.total(Device(0)) is None
