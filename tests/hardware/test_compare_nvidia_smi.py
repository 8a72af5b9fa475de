"""The comparison itself, which has to be able to disagree: no GPU needed."""

import os
from dataclasses import replace

import pytest

from exporter.hardware.gpus import GpuProcess, GpuReading
from tests.hardware.compare_nvidia_smi import FIELDS, GPU_COLUMNS, compare_gpus, compare_processes
from tests.hosts import FULL_GPU

READING = GpuReading("580.65.06", "13.0", (FULL_GPU,))


def row(**changed: str) -> list[str]:
    """What nvidia-smi would print of the GPU when it agrees, but for what is changed."""
    cells = {"uuid": FULL_GPU.uuid or "", "name": FULL_GPU.name or "", "driver_version": "580.65.06"}
    for field in FIELDS:
        ours = field.ours(FULL_GPU)
        cells[field.name] = "[N/A]" if ours is None else f"{ours:g}"
    cells |= {name.replace("_", "."): value for name, value in changed.items()}
    return [cells[name] for name in GPU_COLUMNS]


def differing(rows: list[list[str]], reading: GpuReading = READING) -> list[str]:
    return [line.what for line in compare_gpus(reading, rows) if not line.agrees]


def test_equal_readings_agree() -> None:
    assert differing([row()]) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory.used", "19000"),
        ("memory.used", "[N/A]"),
        ("temperature.gpu", "70"),
        ("clocks.max.sm", "2400"),
        ("power.draw", "[N/A]"),
    ],
)
def test_a_value_that_differs_or_is_reported_by_one_alone_is_told(field: str, value: str) -> None:
    assert differing([row(**{field: value})]) == [field]


def test_a_value_that_we_lack_is_told() -> None:
    reading = GpuReading("580.65.06", "13.0", (replace(FULL_GPU, power_watts=None),))
    assert differing([row()], reading) == ["power.draw"]


def test_a_gpu_that_only_one_of_the_two_lists_is_told() -> None:
    assert differing([]) == ["uuid"]
    assert differing([row(), ["GPU-9999", *row()[1:]]]) == ["uuid"]


def test_a_process_is_compared_by_gpu_and_pid() -> None:
    gpu = replace(FULL_GPU, processes=(GpuProcess(7, 512 * 2**20), GpuProcess(8, None)))
    reading = GpuReading(None, None, (gpu,))
    agreeing = [["GPU-0000", "7", "512"], ["GPU-0000", "8", "[N/A]"], ["GPU-0001", "7", "1"]]
    assert [line.agrees for line in compare_processes(reading, agreeing)] == [True, True]
    differing = [["GPU-0000", "7", "500"], ["GPU-0000", "8", "3"]]
    assert [line.agrees for line in compare_processes(reading, differing)] == [False, False]


def test_our_own_process_must_not_be_missing_from_our_list() -> None:
    reading = GpuReading(None, None, (replace(FULL_GPU, processes=()),))
    lines = list(compare_processes(reading, [["GPU-0000", str(os.getpid()), "512"], ["GPU-0000", "1", "2"]]))
    assert [line.agrees for line in lines] == [False]
