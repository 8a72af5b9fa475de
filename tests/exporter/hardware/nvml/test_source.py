"""Reading GPUs through the genuine pynvml, on a host that tests/fake_nvml describes."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from exporter.hardware.gpus import Device, GpuProcess, Memory, RemappedRows
from tests.exporter.hardware.conftest import GIB, HOST, OpenSource
from tests.fake_nvml import FakeHost


@pytest.mark.parametrize("count", [0, 1, 4, 8])
def test_every_gpu_is_read_once(host: FakeHost, open_source: OpenSource, count: int) -> None:
    host.describe(f"count {count}")
    reading = open_source().read()
    assert [device.index for device in reading.devices] == list(range(count))
    assert len({device.uuid for device in reading.devices}) == count
    assert not reading.simulated


def test_versions_are_those_of_the_driver(host: FakeHost, open_source: OpenSource) -> None:
    host.describe("driver 610.12.01", "cuda 13120")
    reading = open_source().read()
    assert (reading.driver_version, reading.cuda_version) == ("610.12.01", "13.12")


def test_values_arrive_in_base_units(host: FakeHost, open_source: OpenSource) -> None:
    host.describe("gpu 0 fans 2")
    device = open_source().read().devices[0]
    assert device.name == "NVIDIA Fake H100"
    assert device.pci_bus_id == "00000000:17:00.0"
    assert device.memory == Memory(80 * GIB, GIB, 80 * GIB - GIB - GIB // 2, GIB // 2)
    assert (device.utilization_ratio, device.memory_busy_ratio) == (0.37, 0.21)
    assert (device.encoder_ratio, device.decoder_ratio) == (0.03, 0.04)
    assert device.temperatures_celsius == {"gpu": 52.0, "memory": 61.0}
    assert device.temperature_limits_celsius == {
        "shutdown": 95.0,
        "slowdown": 94.0,
        "memory_max": 93.0,
        "gpu_max": 92.0,
    }
    assert (device.power_watts, device.power_limit_watts) == (215.5, 700.0)
    assert device.energy_joules == 123456.789
    assert device.clocks_hertz == {"graphics": 1.0e9, "sm": 1.1e9, "memory": 1.2e9, "video": 1.3e9}
    assert device.clocks_max_hertz == {"graphics": 2.0e9, "sm": 2.1e9, "memory": 2.2e9, "video": 2.3e9}
    assert device.fan_ratios == {0: 0.3, 1: 0.31}
    assert (device.pcie.generation, device.pcie.generation_max) == (4, 5)
    assert (device.pcie.transmit_bytes_per_second, device.pcie.receive_bytes_per_second) == (1.0e6, 1.001e6)
    assert device.remapped_rows == RemappedRows(correctable=2, uncorrectable=1, pending=True, failed=False)


def test_throttle_reasons_tell_active_from_inactive(host: FakeHost, open_source: OpenSource) -> None:
    host.describe("gpu 0 reasons 72")  # 0x48: hardware slowdown and its thermal cause
    reasons = open_source().read().devices[0].throttle_reasons
    assert reasons is not None
    assert {name for name, active in reasons.items() if active} == {"hw_slowdown", "hw_thermal_slowdown"}


def test_throttle_reasons_are_read_from_drivers_that_know_the_old_name(
    host: FakeHost, open_source: OpenSource
) -> None:
    host.describe("gpu 0 event_reasons error:13", "gpu 0 reasons 1")
    reasons = open_source().read().devices[0].throttle_reasons
    assert reasons is not None
    assert reasons["gpu_idle"]


def test_ecc_locations_of_one_gpu_do_not_overlap(host: FakeHost, open_source: OpenSource) -> None:
    host.describe("count 2", "gpu 1 ecc_old 1", "gpu 1 ecc_0_7 unsupported", "gpu 1 ecc_1_7 unsupported")
    modern, old = open_source().read().devices
    assert modern.ecc_errors == {
        ("corrected", "dram"): 20,
        ("corrected", "sram"): 70,
        ("uncorrected", "dram"): 21,
        ("uncorrected", "sram"): 71,
    }
    assert {location for _, location in old.ecc_errors} == {
        "dram",
        "l1_cache",
        "l2_cache",
        "register_file",
        "texture_memory",
    }


def test_ecc_counted_only_as_a_total_shows_everywhere_as_location(
    host: FakeHost, open_source: OpenSource
) -> None:
    host.describe(
        *(f"gpu 0 ecc_{kind}_{location} unsupported" for kind in (0, 1) for location in (2, 7)),
        "gpu 0 ecc_total_0 5",
        "gpu 0 ecc_total_1 unsupported",
    )
    assert open_source().read().devices[0].ecc_errors == {("corrected", "all"): 5}


def test_nvlinks_are_read_one_by_one_and_their_errors_together(
    host: FakeHost, open_source: OpenSource
) -> None:
    host.describe(
        "gpu 0 field_91 2",
        "gpu 0 nvlink_state_1 0",
        "gpu 0 field_38 7",
        "gpu 0 field_52 error:999",
        "gpu 0 field_138 10",
    )
    nvlink = open_source().read().devices[0].nvlink
    assert nvlink is not None
    assert nvlink.active == {0: True, 1: False}
    assert nvlink.errors == {"crc_flit": 7}
    assert (nvlink.transmitted_bytes, nvlink.received_bytes) == (10240, None)


def test_a_gpu_without_nvlink_has_none(host: FakeHost, open_source: OpenSource) -> None:
    host.describe()
    assert open_source().read().devices[0].nvlink is None


def test_a_gpu_that_supports_nothing_reports_only_where_it_is(
    host: FakeHost, open_source: OpenSource
) -> None:
    host.describe("count 2", "gpu 1 everything unsupported", "gpu 1 fields unsupported")
    known, mute = open_source().read().devices
    assert known.memory is not None
    assert mute.index == 1
    assert not mute.lost
    values = [
        getattr(mute, name)
        for name in mute.__slots__
        if name not in {"index", "vendor", "lost", "unified", "memory"}
    ]
    assert all(not value or not any(getattr(value, slot) for slot in value.__slots__) for value in values)
    assert mute.processes is None


@pytest.mark.parametrize("sentinel", [0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF])
def test_sentinels_are_absent(host: FakeHost, open_source: OpenSource, sentinel: int) -> None:
    host.describe(f"gpu 0 power {sentinel}", f"gpu 0 energy {sentinel}", f"gpu 0 field_82 {sentinel}")
    device = open_source().read().devices[0]
    assert device.power_watts is None
    assert device.energy_joules is None
    assert "memory" not in device.temperatures_celsius


@pytest.mark.parametrize("answer", ["unsupported", "0"])
def test_a_gpu_without_memory_of_its_own_shares_the_hosts_and_uses_what_its_processes_hold(
    host: FakeHost, open_source: OpenSource, answer: str
) -> None:
    host.describe(
        "gpu 0 name NVIDIA GB10",
        f"gpu 0 memory_v2 {answer}",
        f"gpu 0 memory_total {answer}",
        f"process 0 compute 100 {3 * GIB}",
        f"process 0 compute 200 {GIB}",
    )
    device = open_source().read().devices[0]
    assert device.unified
    assert device.memory == replace(HOST, used_bytes=4 * GIB)


def test_what_a_unified_gpu_uses_is_unknown_where_a_process_does_not_tell(
    host: FakeHost, open_source: OpenSource
) -> None:
    host.describe("gpu 0 name Orin", "gpu 0 memory_total unsupported", "process 0 compute 100 unknown")
    host.add("gpu 0 memory_v2 unsupported")
    memory = open_source().read().devices[0].memory
    assert memory is not None
    assert (memory.used_bytes, memory.total_bytes) == (None, HOST.total_bytes)


@pytest.mark.parametrize("answer", ["unsupported", "0"])
def test_a_discrete_gpu_that_does_not_tell_its_memory_is_not_a_unified_one(
    host: FakeHost, open_source: OpenSource, answer: str
) -> None:
    host.describe(f"gpu 0 memory_v2 {answer}", f"gpu 0 memory_total {answer}")
    device = open_source().read().devices[0]
    assert not device.unified
    assert device.memory is None


@pytest.mark.parametrize(
    ("key", "value", "left"),
    [
        ("utilization", 0xFFFFFFFF, lambda device: device.utilization_ratio),
        ("utilization", 101, lambda device: device.utilization_ratio),
        ("power", 3_700_000_000, lambda device: device.power_watts),
        ("memory_total", 0xFFFFFFFFFFFFFFFF, lambda device: device.memory),
        ("memory_used", 0xFFFFFFFFFFFFFFFE, lambda device: device.memory),
        ("fan_0", 4_000_000, lambda device: device.fan_ratios.get(0)),
        ("process", 2**60, lambda device: device.processes[0].memory_bytes),
    ],
)
def test_impossible_values_are_absent(
    host: FakeHost, open_source: OpenSource, key: str, value: int, left: Callable[[Device], object]
) -> None:
    line = f"process 0 compute 100 {value}" if key == "process" else f"gpu 0 {key} {value}"
    host.describe("gpu 0 fans 1", line)
    assert left(open_source().read().devices[0]) is None


def test_a_gpu_whose_memory_we_may_not_see_is_not_taken_for_a_unified_one(
    host: FakeHost, open_source: OpenSource
) -> None:
    host.describe("gpu 0 memory_v2 error:4", "gpu 0 memory_total error:4")
    device = open_source().read().devices[0]
    assert not device.unified
    assert device.memory is None


def test_a_driver_without_memory_v2_reports_reserved_as_part_of_used(
    host: FakeHost, open_source: OpenSource
) -> None:
    host.describe("gpu 0 memory_v2 error:13")
    memory = open_source().read().devices[0].memory
    assert memory == Memory(80 * GIB, GIB + GIB // 2, 80 * GIB - GIB - GIB // 2, None)


def test_a_driver_without_temperature_v_is_asked_the_old_way(host: FakeHost, open_source: OpenSource) -> None:
    host.describe("gpu 0 temperature_v error:13", "gpu 0 temperature 71")
    assert open_source().read().devices[0].temperatures_celsius["gpu"] == 71.0


def test_a_process_that_computes_and_draws_is_counted_once(host: FakeHost, open_source: OpenSource) -> None:
    host.describe(
        "process 0 compute 100 5000",
        "process 0 graphics 100 5000",
        "process 0 graphics 50 70",
        "process 0 compute 200 unknown",
        "process 0 compute 300 unknown",
        "process 0 graphics 300 90",
        "process 0 compute 400 8",
        "process 0 graphics 400 9",
    )
    assert open_source().read().devices[0].processes == (
        GpuProcess(50, 70),
        GpuProcess(100, 5000),
        GpuProcess(200, None),
        GpuProcess(300, 90),
        GpuProcess(400, 9),
    )


def test_a_fan_that_does_not_answer_leaves_the_others_their_numbers(
    host: FakeHost, open_source: OpenSource
) -> None:
    host.describe("gpu 0 fans 3", "gpu 0 fan_0 unsupported", "gpu 0 fan_2 error:999")
    assert open_source().read().devices[0].fan_ratios == {1: 0.31}


MIG = (
    f"mig 0 0 7 0 {10 * GIB} {3 * GIB}",
    f"mig 0 2 9 0 {20 * GIB} {5 * GIB}",
    "process 0 compute 100 3000 7",
    "process 0 compute 200 5000 9",
)


def test_mig_instances_carry_their_own_memory_and_processes(host: FakeHost, open_source: OpenSource) -> None:
    host.describe(*MIG)
    device = open_source().read().devices[0]
    assert device.mig_enabled
    assert [(one.index, one.gpu_instance_id, one.memory) for one in device.mig_instances] == [
        (0, 7, Memory(10 * GIB, 3 * GIB, 10 * GIB - 3 * GIB - GIB // 64, GIB // 64)),
        (2, 9, Memory(20 * GIB, 5 * GIB, 20 * GIB - 5 * GIB - GIB // 64, GIB // 64)),
    ]
    assert device.processes == (
        GpuProcess(100, 3000, gpu_instance_id=7),
        GpuProcess(200, 5000, gpu_instance_id=9),
    )


def test_mig_processes_are_found_when_the_gpu_will_not_list_them(
    host: FakeHost, open_source: OpenSource
) -> None:
    host.describe(*MIG, "gpu 0 processes error:4")
    processes = open_source().read().devices[0].processes
    assert processes is not None
    assert [process.pid for process in processes] == [100, 200]


def test_a_gpu_we_may_not_open_is_left_out(host: FakeHost, open_source: OpenSource) -> None:
    host.describe("count 2", "gpu 0 handle error:4")
    assert [device.index for device in open_source().read().devices] == [1]


def test_what_never_changes_is_asked_once(host: FakeHost, open_source: OpenSource) -> None:
    host.describe("count 2")
    source = open_source()
    source.read()
    asked = (
        "nvmlDeviceGetName",
        "nvmlDeviceGetTemperatureThreshold",
        "nvmlDeviceGetMaxPcieLinkWidth",
        "nvmlInitWithFlags",
    )
    before = [host.calls(function) for function in asked]
    source.read()
    assert [host.calls(function) for function in asked] == before


def test_the_fake_library_is_what_a_subprocess_loads_too(host: FakeHost) -> None:
    host.describe("count 4")
    script = "import pynvml; pynvml.nvmlInit(); print(pynvml.nvmlDeviceGetCount())"
    ran = subprocess.run(
        [sys.executable, "-c", script], env=host.environment(), capture_output=True, text=True, check=True
    )
    assert ran.stdout == "4\n"
