"""Several vendors in one host: each fails alone, every GPU has a number of its own, and nothing counts twice."""

import logging
import threading
from collections.abc import Callable

import pytest

from exporter.hardware.errors import DriverUnavailable, DriverWedged, NvmlNotFound
from exporter.hardware.gpus import Device, GpuReading, Memory
from exporter.hardware.vendors import GpuReaders, HostGpus, is_shadowed
from tests.hosts import GIB, Gpus

AT_ONCE_S = 0.05
SOON_S = 20.0
MEMORY = Memory(24 * GIB, GIB, 23 * GIB)


def reading(vendor: str, *numbers: int, unified: bool = False) -> GpuReading:
    return GpuReading(
        "1",
        None,
        tuple(
            Device(number, uuid=f"{vendor}-{number}", vendor=vendor, memory=MEMORY, unified=unified)
            for number in numbers
        ),
    )


def readers(nvidia_gpus: Callable[[], int] | None = None, **sources: Gpus) -> GpuReaders:
    return GpuReaders(sources, nvidia_gpus=nvidia_gpus)


async def numbers(readers: GpuReaders) -> dict[str | None, int]:
    return {device.uuid: device.index for device in (await readers.read(within_s=SOON_S)).devices}


async def test_gpus_of_all_vendors_are_read_and_numbered_one_after_the_other() -> None:
    all_of_them = readers(
        nvidia=Gpus(reading("nvidia", 0, 1)), amd=Gpus(reading("amd", 0)), intel=Gpus(reading("intel", 0, 1))
    )

    assert await numbers(all_of_them) == {
        "nvidia-0": 0,
        "nvidia-1": 1,
        "amd-0": 2,
        "intel-0": 3,
        "intel-1": 4,
    }
    all_of_them.close()


async def test_numbers_are_kept_free_for_nvidia_gpus_whose_driver_does_not_answer_yet() -> None:
    nvidia = Gpus(problem=DriverUnavailable("loading"))
    both = readers(lambda: 2, nvidia=nvidia, amd=Gpus(reading("amd", 0)))
    assert await numbers(both) == {"amd-0": 2}

    nvidia.reading = reading("nvidia", 0, 1)

    assert await numbers(both) == {"nvidia-0": 0, "nvidia-1": 1, "amd-0": 2}
    both.close()


async def test_gpus_that_come_late_do_not_take_a_number_that_another_has() -> None:
    nvidia, amd = Gpus(), Gpus(reading("amd", 0))
    both = readers(nvidia=nvidia, amd=amd)
    assert await numbers(both) == {"amd-0": 0}

    nvidia.reading = reading("nvidia", 0)
    amd.reading = reading("amd", 0, 1)

    assert await numbers(both) == {"amd-0": 0, "nvidia-0": 1, "amd-1": 2}
    both.close()


async def test_a_vendor_that_fails_costs_its_own_gpus_only() -> None:
    both = readers(nvidia=Gpus(problem=DriverUnavailable("unloaded")), amd=Gpus(reading("amd", 0)))

    found = await both.read(within_s=SOON_S)

    assert [device.vendor for device in found.devices] == ["amd"]
    assert {vendor: problem.kind for vendor, problem in found.problems.items()} == {"nvidia": "no_driver"}
    both.close()


class Stuck(Gpus):
    """A driver that does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__(reading("nvidia", 0))
        self.answers = threading.Event()

    def read(self) -> GpuReading:
        assert self.answers.wait(SOON_S)
        return super().read()


async def test_a_driver_that_is_stuck_delays_the_others_no_longer_than_its_deadline() -> None:
    stuck = Stuck()
    both = readers(nvidia=stuck, amd=Gpus(reading("amd", 0)))

    found = await both.read(within_s=AT_ONCE_S)

    assert [device.vendor for device in found.devices] == ["amd"]
    assert isinstance(found.problems["nvidia"], DriverWedged)
    stuck.answers.set()
    both.close()


async def test_a_vendor_without_driver_or_gpus_is_no_problem() -> None:
    host = readers(nvidia=Gpus(problem=NvmlNotFound("none")), amd=Gpus(reading("amd")))

    assert await host.read(within_s=SOON_S) == HostGpus()
    host.close()


async def test_an_integrated_gpu_beside_a_dedicated_one_adds_no_memory() -> None:
    both = readers(nvidia=Gpus(reading("nvidia", 0)), intel=Gpus(reading("intel", 0, unified=True)))

    dedicated, integrated = (await both.read(within_s=SOON_S)).devices

    assert dedicated.memory == MEMORY
    assert integrated.memory is None
    assert (is_shadowed(dedicated), is_shadowed(integrated)) == (False, True)
    both.close()


async def test_an_integrated_gpu_alone_keeps_its_memory() -> None:
    alone = readers(amd=Gpus(reading("amd", 0, unified=True)))

    assert (await alone.read(within_s=SOON_S)).devices[0].memory == MEMORY
    alone.close()


async def test_xids_of_all_sources_are_counted_together() -> None:
    assert readers(amd=Gpus()).xid_counts() is None
    both = readers(nvidia=Gpus(xids={("GPU-1", 79): 1}), amd=Gpus())
    assert both.xid_counts() == {("GPU-1", 79): 1}


async def test_a_driver_that_stays_wedged_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    gpus = Gpus(problem=DriverWedged("stuck"))
    host = readers(nvidia=gpus)
    with caplog.at_level(logging.INFO, logger="exporter.hardware.vendors"):
        for _ in range(3):
            await host.read(within_s=SOON_S)
        gpus.reading = reading("nvidia", 0)
        for _ in range(3):
            await host.read(within_s=SOON_S)
    assert [record.message for record in caplog.records] == ["GPUs not readable", "GPUs readable again"]
    host.close()


async def test_a_host_without_a_driver_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    host = readers(nvidia=Gpus())
    with caplog.at_level(logging.INFO, logger="exporter.hardware.vendors"):
        await host.read(within_s=SOON_S)
    assert not caplog.records
    host.close()
