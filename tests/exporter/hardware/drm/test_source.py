"""What holds for every vendor: which GPUs are found, how they keep their numbers, sleep and get lost."""

from exporter.hardware.drm.discovery import Driver, count_nvidia
from exporter.hardware.drm.source import DISCOVERY_S, DrmSource
from tests.exporter.hardware.drm.conftest import Clock, Deny
from tests.fake_drm.gpus import ARC_I915, MI300X, RX_7900, add_arc_i915, add_mi300x, add_nvidia, add_rx_7900
from tests.fake_drm.kernel import amd_client
from tests.fake_drm.tree import GIB, FakeHost, write


def test_a_container_without_drm_has_no_gpus_and_fails_nothing(host: FakeHost, source: DrmSource) -> None:
    host.add_process(1)

    assert source.read().devices == ()
    assert source.xid_counts() is None


def test_nvidia_gpus_are_left_to_nvml_and_counted_whether_driven_or_not(
    host: FakeHost, source: DrmSource
) -> None:
    add_nvidia(host)
    add_rx_7900(host)

    (found,) = source.read().devices

    assert (found.index, found.pci_bus_id) == (0, RX_7900)
    assert count_nvidia(str(host.sysfs)) == 1


def test_a_source_of_one_vendor_leaves_the_others_alone(host: FakeHost) -> None:
    add_rx_7900(host, number=1)
    add_arc_i915(host, number=2)
    intel = DrmSource({Driver.I915}, sysfs=str(host.sysfs), procfs=str(host.procfs), share=str(host.share))

    assert [device.vendor for device in intel.read().devices] == ["intel"]


def test_gpus_of_several_vendors_are_read_together(host: FakeHost, source: DrmSource) -> None:
    add_rx_7900(host, number=1)
    add_arc_i915(host, number=2)

    assert [device.pci_bus_id for device in source.read().devices] == [RX_7900, ARC_I915]


def test_a_gpu_that_vanishes_is_lost_and_keeps_its_number_when_it_returns(
    host: FakeHost, source: DrmSource
) -> None:
    add_mi300x(host, partitions=1)
    add_rx_7900(host)
    before = source.read().devices
    listed = host.sysfs / "class/drm/card1"
    node = listed.readlink()
    listed.unlink()

    (gone, other) = source.read().devices
    assert gone.lost
    assert (gone.index, gone.uuid, gone.name) == (before[0].index, before[0].uuid, before[0].name)
    assert gone.memory is None
    assert gone.processes is None
    assert not other.lost

    listed.symlink_to(node)
    assert source.read().devices == before


def test_a_gpu_that_has_fallen_off_the_bus_is_lost(host: FakeHost, source: DrmSource) -> None:
    device = add_rx_7900(host)
    source.read()
    write(device, {"config": b"\xff" * 64})

    assert source.read().devices[0].lost


def test_a_gpu_that_sleeps_is_not_woken(host: FakeHost, source: DrmSource) -> None:
    device = add_rx_7900(host)
    write(device, {"power/runtime_status": "suspended", "config": b"\xff" * 64})

    (found,) = source.read().devices

    assert not found.lost
    assert found.memory is None
    assert found.temperatures_celsius == {}
    assert found.name == "AMD Radeon RX 7900 XTX"
    assert found.pcie.width == 16


def test_a_gpu_that_is_plugged_in_later_is_found(host: FakeHost, source: DrmSource, clock: Clock) -> None:
    add_mi300x(host, partitions=1)
    assert len(source.read().devices) == 1
    add_arc_i915(host)
    clock.now += DISCOVERY_S

    assert [device.pci_bus_id for device in source.read().devices] == [MI300X, ARC_I915]


def test_processes_nobody_may_look_into_make_the_list_unknown_not_empty(
    host: FakeHost, source: DrmSource, deny: Deny
) -> None:
    add_rx_7900(host)
    host.add_process(50, amd_client(RX_7900, 1, vram_kib=1024))
    deny(50)

    assert source.read().devices[0].processes is None


def test_threads_of_the_kernel_hide_nothing(host: FakeHost, source: DrmSource, deny: Deny) -> None:
    add_rx_7900(host)
    host.add_process(2)
    (host.procfs / "2/cmdline").write_bytes(b"")
    deny(2)

    assert source.read().devices[0].processes == ()


def test_a_model_that_grows_shows_at_the_next_reading(host: FakeHost, source: DrmSource) -> None:
    add_rx_7900(host)
    host.add_process(50)
    assert source.read().devices[0].processes == ()

    host.add_files(50, amd_client(RX_7900, 1, vram_kib=GIB // 1024))

    (process,) = source.read().devices[0].processes or ()
    assert (process.pid, process.memory_bytes) == (50, GIB)
