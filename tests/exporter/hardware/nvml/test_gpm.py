"""How busy parts of a GPU are: from the second reading on, where the driver offers GPM, and nothing elsewhere."""

import ctypes

import pytest

from exporter.hardware.nvml.gpm import LEAST_S
from tests.exporter.hardware.conftest import Clock, OpenSource
from tests.fake_nvml import FakeHost

OFFERED = (
    "count 2",
    "gpu 0 gpm 1",
    "gpu 0 gpm_1 90",
    "gpu 0 gpm_2 70",
    "gpu 0 gpm_5 40",
    "gpu 0 gpm_11 unsupported",
)


def test_activity_is_known_from_the_second_reading_on(
    host: FakeHost, open_source: OpenSource, clock: Clock
) -> None:
    host.describe(*OFFERED)
    source = open_source()
    assert source.read().devices[0].activity_ratios == {}
    clock.now += 1

    hopper, older = source.read().devices

    assert hopper.activity_ratios == {
        "graphics": 0.9,
        "sm": 0.7,
        "sm_occupancy": 0.0,
        "tensor": 0.4,
        "dram": 0.0,
        "fp32": 0.0,
        "fp16": 0.0,
    }
    assert older.activity_ratios == {}


def test_readings_closer_together_than_samples_may_be_repeat_the_values_before(
    host: FakeHost, open_source: OpenSource, clock: Clock
) -> None:
    host.describe(*OFFERED)
    source = open_source()
    source.read()
    clock.now += 1
    before = source.read().devices[0].activity_ratios
    host.add("gpu 0 gpm_2 10")
    clock.now += LEAST_S / 2

    assert source.read().devices[0].activity_ratios == before
    clock.now += 1
    assert source.read().devices[0].activity_ratios["sm"] == pytest.approx(0.1)


def test_a_sample_that_fails_is_no_value_and_starts_anew(
    host: FakeHost, open_source: OpenSource, clock: Clock
) -> None:
    host.describe(*OFFERED)
    source = open_source()
    source.read()
    host.add("gpu 0 gpm_sample unsupported")
    clock.now += 1
    assert source.read().devices[0].activity_ratios == {}
    host.without("gpu 0 gpm_sample unsupported")
    clock.now += 1
    assert source.read().devices[0].activity_ratios == {}
    clock.now += 1
    assert source.read().devices[0].activity_ratios["sm"] == pytest.approx(0.7)


def test_samples_are_freed_with_their_session(host: FakeHost, open_source: OpenSource) -> None:
    host.describe(*OFFERED)
    source = open_source()
    source.read()
    held = ctypes.CDLL(str(host.library)).fake_nvml_gpm_samples
    assert held() == 2

    source.close()

    assert held() == 0
