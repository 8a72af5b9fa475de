"""Intel GPUs on a tree of files: Arc by xe and by i915, and an integrated one."""

import pytest

from exporter.hardware.drm.source import DrmSource
from exporter.hardware.gpus import Device, GpuProcess, Memory, PcieLink
from tests.exporter.hardware.drm.conftest import Clock
from tests.fake_drm.gpus import ARC, INTEL_IGPU, add_arc, add_arc_i915, add_intel_igpu
from tests.fake_drm.kernel import xe_client
from tests.fake_drm.tree import GIB, MIB, FakeHost, write


def only(source: DrmSource) -> Device:
    (device,) = source.read().devices
    return device


def test_arc_shows_what_xe_tells_and_nothing_else(host: FakeHost, source: DrmSource) -> None:
    add_arc(host)

    assert only(source) == Device(
        index=0,
        name="Intel DG2 [Arc A770]",
        pci_bus_id=ARC,
        vendor="intel",
        temperatures_celsius={"gpu": 58, "memory": 60},
        power_limit_watts=190,
        energy_joules=5000,
        clocks_hertz={"graphics": 2.4e9},
        clocks_max_hertz={"graphics": 2.45e9},
        throttle_reasons={
            "sw_power_cap": True,
            "hw_thermal_slowdown": False,
            "hw_power_brake_slowdown": False,
        },
        pcie=PcieLink(generation=4, generation_max=4, width=8, width_max=16),
        processes=(),
    )


def test_utilization_and_power_come_from_what_two_readings_differ_by(
    host: FakeHost, source: DrmSource, clock: Clock
) -> None:
    device = add_arc(host)
    source.read()
    clock.now += 10
    write(
        device,
        {
            "tile0/gt0/gtidle/idle_residency_ms": "102500",
            "tile0/gt1/gtidle/idle_residency_ms": "210000",
            "hwmon/hwmon4/energy1_input": "6500000000",
        },
    )

    found = only(source)

    assert found.utilization_ratio == pytest.approx(0.75)  # the media GT slept all the time
    assert found.power_watts == pytest.approx(150)


def test_counters_that_went_back_give_no_value(host: FakeHost, source: DrmSource, clock: Clock) -> None:
    device = add_arc(host)
    source.read()
    clock.now += 10
    write(device, {"tile0/gt0/gtidle/idle_residency_ms": "5", "hwmon/hwmon4/energy1_input": "5"})

    found = only(source)

    assert found.utilization_ratio is None
    assert found.power_watts is None


def test_i915_has_its_attributes_at_the_node(host: FakeHost, source: DrmSource) -> None:
    add_arc_i915(host)

    found = only(source)

    assert found.clocks_hertz == {"graphics": 1.55e9}
    assert found.throttle_reasons == {"sw_power_cap": False, "hw_thermal_slowdown": True}
    assert found.power_limit_watts is None  # 0 is a limit that is switched off
    assert found.name == "Intel 8086:56a5"


def test_device_memory_of_processes_is_counted(host: FakeHost, source: DrmSource) -> None:
    add_arc(host)
    host.add_process(9, xe_client(ARC, 3, vram_kib=8 * 1024))

    assert only(source).processes == (GpuProcess(9, 8 * MIB),)


def test_an_integrated_gpu_shares_the_memory_of_the_host(host: FakeHost, source: DrmSource) -> None:
    add_intel_igpu(host)
    host.add_process(9, xe_client(INTEL_IGPU, 3, vram_kib=0, gtt_kib=2048))

    found = only(source)

    assert found.unified
    assert found.memory == Memory(128 * GIB, 98 * GIB, 30 * GIB)
    assert found.processes == (GpuProcess(9, 2 * MIB),)
