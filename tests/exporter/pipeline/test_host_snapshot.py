"""The machine as a scrape sees it: read gently, and never a reason to wait or to fail."""

import logging
import threading

import pytest

from exporter.hardware.errors import DriverWedged, HardwareError, HostStalled, NvmlNotFound
from exporter.hardware.gpus import Device, GpuReading
from exporter.hardware.host import HostReading
from exporter.pipeline.host_snapshot import MachineWatch
from tests.exporter.readings import snapshot, watched
from tests.machines import CARDS, FULL_CARD, HELPER, Gpus, Host

SOON_S = 20.0
AT_ONCE_S = 0.01


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class StuckHost(Host):
    """A host whose /proc does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()

    def name_of(self, pid: int) -> str | None:
        assert self.answers.wait(SOON_S)
        return self.names.get(pid)


async def test_cards_are_not_read_again_within_the_maximum_age() -> None:
    gpus, clock = Gpus(CARDS), Clock()
    machine = MachineWatch(gpus, Host(), local=(), max_age_s=1.0, clock=clock)
    for clock.now in (0.0, 0.5, 0.9):
        assert await machine.read_gpus(within_s=SOON_S) is CARDS
    assert gpus.reads == 1
    clock.now = 1.0
    await machine.read_gpus(within_s=SOON_S)
    assert gpus.reads == 2
    await machine.close()


async def test_a_failure_is_not_kept() -> None:
    gpus = Gpus()
    machine = MachineWatch(gpus, Host(), local=(), max_age_s=60)
    assert isinstance(await machine.read_gpus(within_s=SOON_S), NvmlNotFound)
    gpus.reading = CARDS
    assert await machine.read_gpus(within_s=SOON_S) is CARDS
    await machine.close()


async def test_xids_keep_the_cards_number_after_the_card_is_gone() -> None:
    gpus = Gpus(CARDS, xids={("GPU-0001", 79): 1, ("GPU-never-seen", 48): 2})
    machine = MachineWatch(gpus, Host(), local=(), max_age_s=0)
    await machine.read(CARDS, [], within_s=SOON_S)
    seen = await machine.read(DriverWedged("stuck"), [], within_s=SOON_S)
    assert seen.gpus is None
    assert seen.xids == {("1", 79): 1, ("GPU-never-seen", 48): 2}
    await machine.close()


async def test_cards_that_were_numbered_anew_do_not_share_a_number() -> None:
    gpus = Gpus(CARDS, xids={("GPU-old", 79): 5, ("GPU-new", 79): 1})
    machine = MachineWatch(gpus, Host(), local=(), max_age_s=0)
    old, new = (GpuReading(None, None, (Device(0, uuid=uuid),)) for uuid in ("GPU-old", "GPU-new"))
    await machine.read(old, [], within_s=SOON_S)
    seen = await machine.read(new, [], within_s=SOON_S)
    assert seen.xids == {("GPU-old", 79): 5, ("0", 79): 1}
    await machine.close()


class BrokenGpus(Gpus):
    """Cards that are read with a bug of ours."""

    def read(self) -> GpuReading:
        raise ZeroDivisionError


class BrokenHost(Host):
    """A host that is read with a bug of ours."""

    def read(self, _daemon_pid: int | None) -> HostReading:
        raise ZeroDivisionError


async def test_an_error_of_ours_costs_its_part_of_the_reading_only(caplog: pytest.LogCaptureFixture) -> None:
    machine = MachineWatch(BrokenGpus(), BrokenHost(), local=["here"])
    problem = await machine.read_gpus(within_s=SOON_S)
    assert isinstance(problem, HardwareError)
    assert str(problem) == "an error of ours: ZeroDivisionError"
    seen = await machine.read(CARDS, [watched(snapshot(), name="here").reading], within_s=SOON_S)
    assert seen.gpus is CARDS
    assert seen.hosts is None
    assert str(seen.host_problem) == "an error of ours: ZeroDivisionError"
    told = [record.message for record in caplog.records if record.exc_info]
    assert told == ["reading the machine failed"] * 2
    await machine.close()


async def test_processes_on_the_cards_are_named_by_the_host() -> None:
    reading = GpuReading(None, None, (FULL_CARD,))
    machine = MachineWatch(Gpus(), Host(names={9000: "Xorg", HELPER: "node"}), local=())
    seen = await machine.read(reading, [], within_s=SOON_S)
    assert {share.pid: share.name for share in seen.vram.foreign}[9000] == "Xorg"
    await machine.close()


async def test_a_stuck_host_costs_its_own_values_only() -> None:
    host = StuckHost()
    machine = MachineWatch(Gpus(), host, local=())
    seen = await machine.read(CARDS, [], within_s=AT_ONCE_S)
    assert isinstance(seen.host_problem, HostStalled)
    assert seen.hosts is None
    assert seen.gpus is CARDS
    assert seen.vram.foreign
    host.answers.set()
    await machine.close()


async def test_only_daemons_of_this_machine_are_looked_for() -> None:
    machine = MachineWatch(Gpus(), Host(HostReading()), local=["here"])
    assert set(machine.engines) == {"here"}
    seen = await machine.read(NvmlNotFound("none"), [], within_s=SOON_S)
    assert seen.hosts == {}
    await machine.close()


async def test_closing_lets_go_of_the_driver() -> None:
    gpus = Gpus(CARDS)
    machine = MachineWatch(gpus, Host(), local=())
    await machine.read_gpus(within_s=SOON_S)
    await machine.close()
    assert gpus.closed


async def test_a_driver_that_stays_wedged_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    gpus = Gpus(problem=DriverWedged("stuck"))
    machine = MachineWatch(gpus, Host(), local=(), max_age_s=0)
    with caplog.at_level(logging.INFO, logger="exporter.pipeline.host_snapshot"):
        for _ in range(3):
            await machine.read_gpus(within_s=SOON_S)
        gpus.reading = CARDS
        for _ in range(3):
            await machine.read_gpus(within_s=SOON_S)
    assert [record.message for record in caplog.records] == ["GPUs not readable", "GPUs readable again"]
    await machine.close()


async def test_a_machine_without_a_card_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    machine = MachineWatch(Gpus(), Host(), local=())
    with caplog.at_level(logging.INFO, logger="exporter.pipeline.host_snapshot"):
        await machine.read_gpus(within_s=SOON_S)
    assert not caplog.records
    await machine.close()
