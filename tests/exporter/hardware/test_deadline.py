"""A driver that hangs: what callers see, and that nothing piles up behind it."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping

import pytest

from exporter.hardware.deadline import GpuReader
from exporter.hardware.errors import DriverUnavailable, DriverWedged, HardwareError
from exporter.hardware.gpus import GpuReading
from exporter.hardware.nvml.source import NvmlSource
from tests.fake_nvml import FakeHost

READING = GpuReading(driver_version="1", cuda_version=None, devices=())
SHORT_S = 0.01
LIMIT_S = 20.0


class Driver:
    """A source whose reads wait for `answers`, as a driver does that is stuck."""

    def __init__(self, *, stuck: bool = False, error: Exception | None = None) -> None:
        self.answers = threading.Event()
        self.error = error
        self.reads = 0
        self.closed = threading.Event()
        self.reading_threads: set[int] = set()
        if not stuck:
            self.answers.set()

    def read(self) -> GpuReading:
        self.reads += 1
        self.reading_threads.add(threading.get_ident())
        assert self.answers.wait(LIMIT_S)
        if self.error is not None:
            raise self.error
        return READING

    def xid_counts(self) -> Mapping[tuple[str, int], int] | None:
        return {("GPU-1", 79): 1}

    def close(self) -> None:
        self.closed.set()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_reading_comes_from_another_thread() -> None:
    driver = Driver()
    reader = GpuReader(driver)
    assert await reader.read() is READING
    assert driver.reading_threads.isdisjoint({threading.get_ident()})
    assert reader.close()
    assert driver.closed.is_set()


async def test_a_wedged_driver_costs_the_reading_and_not_the_caller() -> None:
    driver = Driver(stuck=True)
    reader = GpuReader(driver, deadline_s=SHORT_S)
    with pytest.raises(DriverWedged, match="has not answered"):
        await reader.read()
    driver.answers.set()
    assert reader.close(wait_s=LIMIT_S)


async def test_a_second_question_to_a_wedged_driver_fails_at_once_and_starts_nothing() -> None:
    driver, clock = Driver(stuck=True), Clock()
    reader = GpuReader(driver, deadline_s=SHORT_S, clock=clock)
    with pytest.raises(DriverWedged):
        await reader.read()
    clock.now = 60.0
    for _ in range(5):
        with pytest.raises(DriverWedged, match="60 s overdue"):
            await reader.read()
    assert driver.reads == 1
    assert len(driver.reading_threads) == 1
    driver.answers.set()
    assert reader.close(wait_s=LIMIT_S)


async def test_a_driver_that_comes_back_is_asked_anew() -> None:
    driver, clock = Driver(stuck=True), Clock()
    reader = GpuReader(driver, deadline_s=SHORT_S, clock=clock)
    with pytest.raises(DriverWedged):
        await reader.read()
    overdue = reader._asked
    assert overdue is not None
    driver.answers.set()
    assert overdue.result(timeout=LIMIT_S) is READING
    reader._deadline_s = LIMIT_S
    assert await reader.read() is READING
    assert driver.reads == 2
    assert len(driver.reading_threads) == 1
    assert reader.close(wait_s=LIMIT_S)


async def test_callers_at_the_same_time_share_one_reading() -> None:
    driver = Driver(stuck=True)
    reader = GpuReader(driver, deadline_s=LIMIT_S)
    callers = [asyncio.create_task(reader.read()) for _ in range(5)]
    await asyncio.sleep(0)
    driver.answers.set()
    assert await asyncio.gather(*callers) == [READING] * 5
    assert driver.reads == 1
    assert reader.close()


async def test_a_caller_who_gives_up_does_not_take_the_reading_from_the_others() -> None:
    driver = Driver(stuck=True)
    reader = GpuReader(driver, deadline_s=LIMIT_S)
    hasty, patient = (asyncio.create_task(reader.read()) for _ in range(2))
    await asyncio.sleep(0)
    hasty.cancel()
    driver.answers.set()
    assert await patient is READING
    with pytest.raises(asyncio.CancelledError):
        await hasty
    assert reader.close()


@pytest.mark.parametrize("error", [DriverUnavailable("gone"), RuntimeError("a bug")])
async def test_a_failed_read_reaches_the_caller_and_the_next_one_is_tried(error: Exception) -> None:
    driver = Driver(error=error)
    reader = GpuReader(driver)
    with pytest.raises(type(error), match=str(error)):
        await reader.read()
    driver.error = None
    assert await reader.read() is READING
    assert reader.close()


async def test_a_closed_reader_says_so() -> None:
    reader = GpuReader(Driver())
    assert reader.close()
    with pytest.raises(HardwareError, match="closed"):
        await reader.read()


async def test_closing_does_not_wait_for_a_wedged_driver() -> None:
    driver = Driver(stuck=True)
    reader = GpuReader(driver, deadline_s=SHORT_S)
    with pytest.raises(DriverWedged):
        await reader.read()
    assert not reader.close(wait_s=SHORT_S)
    driver.answers.set()
    assert driver.closed.wait(LIMIT_S)


def test_xid_counts_are_those_of_the_source() -> None:
    assert GpuReader(Driver()).xid_counts() == {("GPU-1", 79): 1}


async def test_a_driver_wedged_inside_nvml_recovers_when_it_answers_again(host: FakeHost) -> None:
    wedged = "wedge nvmlDeviceGetPowerUsage"
    host.describe("count 2", wedged)
    reader = GpuReader(NvmlSource(), deadline_s=SHORT_S)
    with pytest.raises(DriverWedged):
        await reader.read()
    stuck = reader._asked
    assert stuck is not None
    host.without(wedged)
    assert len(stuck.result(timeout=LIMIT_S).devices) == 2
    reader._deadline_s = LIMIT_S
    assert len((await reader.read()).devices) == 2
    assert host.calls("nvmlInitWithFlags") == 1
    assert reader.close(wait_s=LIMIT_S)


def test_a_process_can_exit_while_its_driver_is_wedged(host: FakeHost) -> None:
    host.describe("wedge nvmlDeviceGetPowerUsage")
    script = (
        "import asyncio\n"
        "from exporter.hardware.deadline import GpuReader\n"
        "from exporter.hardware.errors import DriverWedged\n"
        "from exporter.hardware.nvml.source import NvmlSource\n"
        "try:\n"
        "    asyncio.run(GpuReader(NvmlSource(), deadline_s=0.2).read())\n"
        "except DriverWedged as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=host.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "has not answered within 0.2 s" in ran.stdout
