"""What the drivers write, read to the byte: sizes of clients, the metrics table, sensors, and each buffer once."""

from pathlib import Path

import pytest

from exporter.hardware.drm.fdinfo import Client, parse
from exporter.hardware.drm.gpu_metrics import Metrics
from exporter.hardware.drm.gpu_metrics import parse as parse_metrics
from exporter.hardware.drm.hwmon import SensorValues, find_sensors, read_sensors
from exporter.hardware.drm.processes import memory_by_process
from exporter.hardware.gpus import GpuProcess
from tests.fake_drm.kernel import metrics_table
from tests.fake_drm.tree import write

GPU = "0000:03:00.0"
IDENTITY = f"drm-driver:\tamdgpu\ndrm-pdev:\t{GPU}\ndrm-client-id:\t7\n"
MOST = 2**63


def sizes(*lines: str) -> tuple[int, int, int, int]:
    """Read sizes of a client: local, host, local shared, host shared."""
    found = parse((IDENTITY + "".join(f"{line}\n" for line in lines)).encode())
    assert found is not None
    assert (found.pci_address, found.client_id) == (GPU, 7)
    return found.local_bytes, found.host_bytes, found.local_shared_bytes, found.host_shared_bytes


def test_sizes_are_added_up_by_where_they_lie_and_in_their_units() -> None:
    assert sizes() == (0, 0, 0, 0)
    assert sizes(
        "drm-resident-vram:\t1 GiB",
        "drm-resident-vram1: 3",
        "drm-resident-stolen-local0: 2 KiB",
        "drm-resident-gtt: 5 MiB",
        "drm-resident-cpu:\t7",
    ) == (2**30 + 3 + 2**11, 5 * 2**20 + 7, 0, 0)
    assert sizes(
        *(f"drm-resident-{region}: 9" for region in ("vram0", "vram1", "gtt", "cpu")),
        *(f"drm-shared-{region}: {size}" for region, size in (("vram0", 1), ("vram1", 2), ("gtt", 3), ("cpu", 4))),
    ) == (18, 18, 3, 7)  # fmt: skip


def test_the_older_name_counts_where_there_is_no_newer_one() -> None:
    both = ("drm-memory-vram: 8 KiB", "drm-resident-vram: 4 KiB", "drm-total-vram: 9 KiB")
    assert sizes(*both)[0] == 4096
    assert sizes(both[0], both[2])[0] == 8192
    assert sizes(both[2])[0] == 9216


def test_more_is_not_shared_than_there_is_and_no_size_is_beyond_63_bits() -> None:
    assert sizes("drm-resident-vram: 5", "drm-shared-vram: 9", "drm-resident-gtt: 3", "drm-shared-gtt: 4") == (
        5, 3, 5, 3,
    )  # fmt: skip
    huge = [
        f"drm-{kind}-{region}: {MOST} KiB" for kind in ("resident", "shared") for region in ("vram", "gtt")
    ]
    assert sizes(*huge) == (MOST, MOST, MOST, MOST)


def test_a_gpu_without_an_ascii_address_is_read_all_the_same() -> None:
    found = parse(b"drm-driver:\txe\ndrm-pdev:\t\xff\ndrm-client-id:\t0\n")
    assert found is not None
    assert (found.pci_address, found.client_id) == ("\ufffd", 0)


@pytest.mark.parametrize(("minor", "offset"), [(4, 24), (5, 88), (6, 88), (7, 24), (8, 24)])
def test_energy_lies_where_the_version_says(minor: int, offset: int) -> None:
    table = metrics_table((1, minor), offset + 8, {offset: 5 * 2**15})
    assert parse_metrics(table) == Metrics(energy_joules=2.5)
    assert parse_metrics(table[:-1]) == Metrics()
    assert parse_metrics(metrics_table((1, minor), offset + 8, {offset: 0})) == Metrics(energy_joules=0)


@pytest.mark.parametrize("table", [None, b"", b"\x04\x00\x01"])
def test_a_table_without_a_header_tells_nothing(table: bytes | None) -> None:
    assert parse_metrics(table) == Metrics()
    assert parse_metrics(metrics_table((1, 4), 4, {})) == Metrics()


@pytest.mark.parametrize(
    ("bits", "reason"),
    [
        ((0, 23), "sw_power_cap"),
        ((32, 45), "hw_thermal_slowdown"),
        ((46, 47), "hw_power_brake_slowdown"),
        ((24, 31, 48, 63), None),
    ],
)
def test_each_bit_of_the_throttle_status_belongs_to_one_reason(
    bits: tuple[int, ...], reason: str | None
) -> None:
    reasons = ("sw_power_cap", "hw_thermal_slowdown", "hw_power_brake_slowdown")
    for bit in bits:
        found = parse_metrics(metrics_table((1, 3), 120, {112: 1 << bit}))
        assert found == Metrics(throttle_reasons={name: name == reason for name in reasons})
    assert parse_metrics(metrics_table((1, 3), 119, {})) == Metrics()


def client(number: int, local: int, *, shared: int = 0, host: int = 0, host_shared: int = 0) -> Client:
    return Client(GPU, number, local, host, shared, host_shared)


def held(*clients: tuple[int, Client], integrated: bool = False) -> dict[int, int | None]:
    found = memory_by_process(clients, integrated=frozenset({GPU} if integrated else ()))
    return {process.pid: process.memory_bytes for process in found[GPU]}


def test_a_client_belongs_to_the_lowest_pid_in_whatever_order_they_come() -> None:
    one = client(1, 100)
    assert held((30, one), (20, one), (25, one)) == {20: 100}
    assert list(held((30, client(1, 1)), (20, client(2, 2)), (20, client(3, 3)))) == [20, 30]
    assert memory_by_process([], integrated=frozenset()) == {}
    assert memory_by_process([(1, one)], integrated=frozenset()) == {GPU: (GpuProcess(1, memory_bytes=100),)}


def test_what_several_share_is_counted_for_the_one_that_shares_most_and_of_equals_the_first() -> None:
    shared = ((20, client(1, 100, shared=30)), (30, client(2, 60, shared=40)), (40, client(3, 50, shared=40)))
    assert held(*shared) == {20: 70, 30: 60, 40: 10}
    assert held((20, client(1, 10, shared=1))) == {20: 10}


def test_mapped_host_memory_counts_where_it_is_the_gpus() -> None:
    one = client(1, 100, shared=10, host=50, host_shared=5)
    two = client(2, 7, shared=7, host=20, host_shared=20)
    assert held((20, one), (30, two)) == {20: 100, 30: 0}
    assert held((20, one), (30, two), integrated=True) == {20: 135, 30: 27}


def sensors(path: Path, **files: str) -> tuple[SensorValues, dict[str, float]]:
    """Write a hwmon directory; return its values, and the limits of its temperatures."""
    write(path, files)
    found = find_sensors(str(path))
    return read_sensors(found), dict(found.temperature_limits_celsius)


def test_a_directory_without_sensors_has_no_values(tmp_path: Path) -> None:
    assert sensors(tmp_path, name="amdgpu") == (SensorValues(), {})
    assert read_sensors(find_sensors(str(tmp_path / "none"))) == SensorValues()


def test_temperatures_are_named_by_their_labels_and_without_an_edge_the_hotspot_is_the_gpus(
    tmp_path: Path,
) -> None:
    values, limits = sensors(
        tmp_path,
        temp1_label="junction", temp1_input="84500", temp1_crit="110000", temp1_emergency="0",
        temp2_label="vram", temp2_input="-5000", temp2_crit="108000",
        temp3_label="new", temp3_input="1000", temp4_label="mem", temp5_label="mem", temp5_input="60000",
    )  # fmt: skip
    assert values.temperatures_celsius == {"gpu": 84.5, "hotspot": 84.5, "memory": -5.0}
    assert limits == {"slowdown": 110.0, "memory_max": 108.0}


def test_of_an_edge_sensor_and_a_hotspot_each_is_itself(tmp_path: Path) -> None:
    values, limits = sensors(
        tmp_path,
        temp1_label="edge", temp1_input="61000", temp1_emergency="105000",
        temp2_label="junction", temp2_input="84000", temp2_crit="110000",
    )  # fmt: skip
    assert values.temperatures_celsius == {"gpu": 61.0, "hotspot": 84.0}
    assert limits == {"shutdown": 105.0}


def test_power_is_the_average_where_there_is_one_and_the_lowest_limit_holds(tmp_path: Path) -> None:
    values, _ = sensors(tmp_path, power1_input="90000000", power1_cap="0", energy2_input="7500000")
    assert (values.power_watts, values.power_limit_watts, values.energy_joules) == (90.0, None, 7.5)
    values, _ = sensors(
        tmp_path, power1_average="80500000", power1_max="250000000", power2_max="240000000", energy1_input="1000000"
    )  # fmt: skip
    assert (values.power_watts, values.power_limit_watts, values.energy_joules) == (80.5, 240.0, 1.0)
    values, _ = sensors(tmp_path, power1_max="200000000")
    assert values.power_limit_watts == 200.0
    values, _ = sensors(
        tmp_path, power1_cap="190000000", power1_max="", power1_average="", energy1_input="none"
    )
    assert (values.power_watts, values.power_limit_watts, values.energy_joules) == (None, 190.0, None)


def test_a_fans_share_is_of_its_full_speed_else_of_its_duty_cycle_else_it_is_absent(tmp_path: Path) -> None:
    values, _ = sensors(
        tmp_path,
        fan1_input="1500", fan1_max="3000", pwm1="255",
        fan2_input="1500", pwm2="51", fan3_input="1500", fan3_max="0",
        fan4_input="none", fan4_max="3000", fanx_input="5", fanx_max="5", pwmx="5", fan5_max="9", pwm5="9",
        fan6_input="0", fan6_max="2000",
    )  # fmt: skip
    assert values.fan_ratios == {0: 0.5, 1: 0.2, 5: 0.0}


def test_clocks_are_named_by_their_labels_in_hertz(tmp_path: Path) -> None:
    values, _ = sensors(
        tmp_path,
        freq1_label="sclk", freq1_input="2298000000", freq2_label="mclk", freq2_input="",
        freq3_label="vclk", freq3_input="5", temp1_label="sclk", temp1_input="7",
    )  # fmt: skip
    assert values.clocks_hertz == {"graphics": 2.298e9}
    assert values.temperatures_celsius == {}
