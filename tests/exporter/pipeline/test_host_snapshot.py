"""The host as a scrape sees it: read gently, and never a reason to wait or to fail."""

import threading

import pytest

from exporter.hardware.errors import DriverWedged, HostStalled
from exporter.hardware.gpus import Device, GpuReading
from exporter.hardware.host import HostReading
from exporter.hardware.vendors import HostGpus
from exporter.pipeline.host_snapshot import HostWatch
from tests.exporter.readings import snapshot, watched
from tests.hosts import FULL_GPU, GPUS, HELPER, Gpus, Host

SOON_S = 20.0
READ = HostGpus({"nvidia": GPUS})
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


async def test_gpus_are_not_read_again_within_the_maximum_age() -> None:
    gpus, clock = Gpus(GPUS), Clock()
    host = HostWatch({"nvidia": gpus}, Host(), local=(), max_age_s=1.0, clock=clock)
    for clock.now in (0.0, 0.5, 0.9):
        assert await host.read_gpus(within_s=SOON_S) == READ
    assert gpus.reads == 1
    clock.now = 1.0
    await host.read_gpus(within_s=SOON_S)
    assert gpus.reads == 2
    await host.close()


async def test_a_failure_is_not_kept() -> None:
    gpus = Gpus(problem=DriverWedged("stuck"))
    host = HostWatch({"nvidia": gpus}, Host(), local=(), max_age_s=60)
    assert (await host.read_gpus(within_s=SOON_S)).problems
    gpus.reading = GPUS
    assert await host.read_gpus(within_s=SOON_S) == READ
    await host.close()


async def test_xids_keep_the_gpus_number_after_the_gpu_is_gone() -> None:
    gpus = Gpus(GPUS, xids={("GPU-0001", 79): 1, ("GPU-never-seen", 48): 2})
    host = HostWatch({"nvidia": gpus}, Host(), local=(), max_age_s=0)
    await host.read(READ, [], within_s=SOON_S)
    stuck = HostGpus(problems={"nvidia": DriverWedged("stuck")})
    seen = await host.read(stuck, [], within_s=SOON_S)
    assert seen.gpus is stuck
    assert seen.xids == {("1", 79): 1, ("GPU-never-seen", 48): 2}
    await host.close()


async def test_the_last_xid_of_a_gpu_is_the_one_whose_count_grew_last() -> None:
    gpus = Gpus(GPUS, xids={("GPU-0001", 79): 1})
    host = HostWatch({"nvidia": gpus}, Host(), local=(), max_age_s=0)
    assert (await host.read(READ, [], within_s=SOON_S)).last_xids == {"1": 79}
    gpus.xids = {("GPU-0001", 79): 1, ("GPU-0001", 31): 1}
    assert (await host.read(READ, [], within_s=SOON_S)).last_xids == {"1": 31}
    assert (await host.read(READ, [], within_s=SOON_S)).last_xids == {"1": 31}
    await host.close()


async def test_gpus_that_were_numbered_anew_do_not_share_a_number() -> None:
    gpus = Gpus(GPUS, xids={("GPU-old", 79): 5, ("GPU-new", 79): 1})
    host = HostWatch({"nvidia": gpus}, Host(), local=(), max_age_s=0)
    old, new = (
        HostGpus({"nvidia": GpuReading(None, None, (Device(0, uuid=uuid),))})
        for uuid in ("GPU-old", "GPU-new")
    )
    await host.read(old, [], within_s=SOON_S)
    seen = await host.read(new, [], within_s=SOON_S)
    assert seen.xids == {("GPU-old", 79): 5, ("0", 79): 1}
    await host.close()


class BrokenGpus(Gpus):
    """GPUs that are read with a bug of ours."""

    def read(self) -> GpuReading:
        raise ZeroDivisionError


class BrokenHost(Host):
    """A host that is read with a bug of ours."""

    def read(self, _daemon_pid: int | None) -> HostReading:
        raise ZeroDivisionError


async def test_an_error_of_ours_costs_its_part_of_the_reading_only(caplog: pytest.LogCaptureFixture) -> None:
    host = HostWatch({"nvidia": BrokenGpus()}, BrokenHost(), local=["here"])
    gpus = await host.read_gpus(within_s=SOON_S)
    assert str(gpus.problems["nvidia"]) == "internal error: ZeroDivisionError"
    seen = await host.read(READ, [watched(snapshot(), name="here").reading], within_s=SOON_S)
    assert seen.gpus is READ
    assert seen.hosts is None
    assert str(seen.host_problem) == "internal error: ZeroDivisionError"
    told = [record.message for record in caplog.records if record.exc_info]
    assert told == ["reading GPUs failed", "reading the host failed"]
    await host.close()


async def test_processes_on_the_gpus_are_named_by_the_host() -> None:
    reading = HostGpus({"nvidia": GpuReading(None, None, (FULL_GPU,))})
    host = HostWatch({"nvidia": Gpus()}, Host(names={9000: "Xorg", HELPER: "node"}), local=())
    seen = await host.read(reading, [], within_s=SOON_S)
    assert {share.pid: share.name for share in seen.vram.foreign}[9000] == "Xorg"
    await host.close()


async def test_a_stuck_host_costs_its_own_values_only() -> None:
    stuck = StuckHost()
    host = HostWatch({"nvidia": Gpus()}, stuck, local=())
    seen = await host.read(READ, [], within_s=AT_ONCE_S)
    assert isinstance(seen.host_problem, HostStalled)
    assert seen.hosts is None
    assert seen.gpus is READ
    assert seen.vram.foreign
    stuck.answers.set()
    await host.close()


async def test_only_daemons_of_this_host_are_looked_for() -> None:
    host = HostWatch({"nvidia": Gpus()}, Host(HostReading()), local=["here"])
    assert set(host.engines) == {"here"}
    seen = await host.read(HostGpus(), [], within_s=SOON_S)
    assert seen.hosts == {}
    await host.close()


async def test_closing_lets_go_of_the_driver() -> None:
    gpus = Gpus(GPUS)
    host = HostWatch({"nvidia": gpus}, Host(), local=())
    await host.read_gpus(within_s=SOON_S)
    await host.close()
    assert gpus.closed
