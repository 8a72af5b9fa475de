"""AMD GPUs on a tree of files: a discrete one, a partitioned one, one that shares the host's memory."""

from exporter.hardware.drm.source import DrmSource
from exporter.hardware.gpus import Device, GpuProcess, Memory, PcieLink
from tests.exporter.hardware.drm.conftest import Deny
from tests.fake_drm.gpus import (
    MI300X,
    RX_7900,
    STRIX_HALO,
    add_compute_process,
    add_mi300x,
    add_rx_7900,
    add_strix_halo,
)
from tests.fake_drm.kernel import amd_client, old_amd_client
from tests.fake_drm.tree import GIB, MIB, FakeHost, write


def only(source: DrmSource) -> Device:
    (device,) = source.read().devices
    return device


def test_a_discrete_gpu_shows_everything_its_driver_tells(host: FakeHost, source: DrmSource) -> None:
    add_rx_7900(host)

    assert only(source) == Device(
        index=0,
        uuid="3f2a6c1b7d9e0a55",
        name="AMD Radeon RX 7900 XTX",
        pci_bus_id=RX_7900,
        vendor="amd",
        memory=Memory(total_bytes=24 * GIB, used_bytes=10 * GIB, free_bytes=14 * GIB),
        utilization_ratio=0.97,
        memory_busy_ratio=0.61,
        temperatures_celsius={"gpu": 61, "hotspot": 84, "memory": 78},
        temperature_limits_celsius={"slowdown": 100, "shutdown": 105, "memory_max": 108},
        power_watts=303,
        power_limit_watts=339,
        clocks_hertz={"graphics": 2.298e9, "memory": 1.249e9, "video": 0.4e9},
        clocks_max_hertz={"graphics": 2.526e9, "memory": 1.249e9, "video": 2.15e9},
        throttle_reasons={
            "sw_power_cap": True,
            "hw_thermal_slowdown": True,
            "hw_power_brake_slowdown": False,
        },
        fan_ratios={0: 0.5},
        pcie=PcieLink(generation=4, generation_max=4, width=16, width_max=16),
        processes=(),
    )


def test_the_link_is_that_of_the_slot_not_the_one_inside_the_gpu(host: FakeHost, source: DrmSource) -> None:
    add_rx_7900(host)
    write(host.sysfs / "bus/pci/devices/0000:01:00.0", {"current_link_width": "4"})

    assert only(source).pcie.width == 4


def test_attributes_that_a_driver_refuses_or_garbles_are_absent(host: FakeHost, source: DrmSource) -> None:
    device = add_rx_7900(host)
    for name in ("gpu_busy_percent", "mem_info_vram_total", "gpu_metrics", "hwmon/hwmon4/power1_average"):
        (device / name).unlink()
    write(device, {"mem_busy_percent": "n/a", "pp_dpm_sclk": "", "hwmon/hwmon4/temp1_input": ""})

    found = only(source)

    assert found.memory is None
    assert found.utilization_ratio is None
    assert found.memory_busy_ratio is None
    assert found.power_watts is None
    assert found.throttle_reasons is None
    assert "gpu" not in found.temperatures_celsius
    assert "graphics" not in found.clocks_max_hertz
    assert found.clocks_hertz["graphics"] == 2.298e9


def test_eight_partitions_are_one_gpu_with_eight_instances(host: FakeHost, source: DrmSource) -> None:
    add_mi300x(host, partitions=8)
    host.add_process(50, amd_client(MI300X, 1, vram_kib=1024), amd_client(MI300X, 2, vram_kib=2048))

    found = only(source)

    assert found.name == "AMD Instinct MI300X OAM"
    assert found.memory == Memory(192 * GIB, 96 * GIB, 96 * GIB)
    assert found.mig_enabled is True
    assert [instance.name for instance in found.mig_instances] == [f"CPX {index}" for index in range(8)]
    assert found.mig_instances[7].memory == Memory(24 * GIB, 12 * GIB, 12 * GIB)
    assert found.energy_joules == 100_000
    assert found.temperatures_celsius == {"gpu": 55, "hotspot": 55, "memory": 49}
    assert found.power_watts == 410
    assert found.ecc_errors == {
        ("uncorrected", "dram"): 1,
        ("corrected", "dram"): 7,
        ("uncorrected", "gfx"): 0,
        ("corrected", "gfx"): 0,
    }
    assert found.clocks_hertz["graphics"] == 0.132e9
    assert found.clocks_max_hertz["graphics"] == 2.1e9
    assert found.processes == (GpuProcess(50, 3072 * 1024),)


def test_a_whole_gpu_that_could_be_partitioned_has_no_instances(host: FakeHost, source: DrmSource) -> None:
    add_mi300x(host, partitions=1)

    found = only(source)

    assert found.mig_enabled is False
    assert found.mig_instances == ()


def test_an_apu_has_its_carve_out_and_what_it_may_map_but_no_more_than_the_host_has_left(
    host: FakeHost, source: DrmSource
) -> None:
    add_strix_halo(host)
    host.add_process(
        7, amd_client(STRIX_HALO, 1, vram_kib=100 * 1024, gtt_kib=20 * 1024 * 1024, shared_gtt_kib=512)
    )

    found = only(source)

    assert found.unified
    assert found.memory is not None
    assert found.memory.total_bytes == 96 * GIB + 512 * MIB
    assert found.memory.used_bytes == 40 * GIB + 256 * MIB
    assert found.memory.free_bytes == 30 * GIB + 256 * MIB  # 56 GiB may be mapped, and the host has 30 left
    assert found.processes == (GpuProcess(7, 20 * GIB + 100 * MIB),)
    assert found.pcie == PcieLink()


def test_mapped_host_memory_is_none_of_a_discrete_gpu(host: FakeHost, source: DrmSource) -> None:
    add_rx_7900(host)
    host.add_process(7, amd_client(RX_7900, 1, vram_kib=1024, gtt_kib=4096))

    assert only(source).processes == (GpuProcess(7, MIB),)


def test_kernels_before_6_13_are_read_too(host: FakeHost, source: DrmSource) -> None:
    add_rx_7900(host)
    host.add_process(7, old_amd_client(RX_7900, 1, vram_kib=2048))

    assert only(source).processes == (GpuProcess(7, 2 * MIB),)


def test_compute_processes_of_other_users_show_through_amdkfd(
    host: FakeHost, source: DrmSource, deny: Deny
) -> None:
    add_mi300x(host, partitions=2)
    host.add_process(50, amd_client(MI300X, 1, vram_kib=1024))
    host.add_process(60, amd_client(MI300X, 2, vram_kib=4096))
    add_compute_process(host, 50, {5000: 999})
    add_compute_process(host, 60, {5000: 3 * MIB, 5001: MIB})
    deny(60)

    assert only(source).processes == (GpuProcess(50, MIB), GpuProcess(60, 4 * MIB))
