"""Readings on demand: shared, fresh enough, never waited for too long, and never stale ones dressed as fresh."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from exporter.llmster import local_files
from exporter.llmster.client import STALLED_AFTER_S, DaemonClient, DaemonState, Health
from exporter.llmster.errors import (
    AuthenticationRefused,
    CallFailed,
    DaemonStalled,
    DaemonUnreachable,
    LlmsterError,
)
from exporter.llmster.local_files import LocalPosture
from exporter.llmster.session import Session
from exporter.llmster.state import Snapshot
from exporter.pipeline import snapshots
from exporter.pipeline.snapshots import DaemonWatch
from tests.exporter.readings import home_with, instance, snapshot


class FakeClient(DaemonClient):
    """A client without sockets: its snapshots come when the test says so."""

    def __init__(self) -> None:
        super().__init__(name="d", url="http://127.0.0.1:1")
        self.sessions = 1
        self.asked = 0
        self.state = Health(DaemonState.RUNNING, None)
        self.answers = asyncio.Event()
        self.answers.set()
        self.error: LlmsterError | None = None
        self._session = create_autospec(Session, instance=True)

    async def run(self) -> None:  # type: ignore[override]
        await asyncio.Event().wait()

    def health(self) -> Health:
        return self.state

    async def snapshot(self) -> Snapshot:
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return snapshot(instance(f"r{self.asked}"))


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client() -> FakeClient:
    return FakeClient()


@contextlib.asynccontextmanager
async def watching(
    client: DaemonClient,
    clock: Callable[[], float] = time.monotonic,
    *,
    home: Path | None = None,
    max_age_s: float = 1.0,
) -> AsyncIterator[DaemonWatch]:
    watch = DaemonWatch(client, local_home=home, max_age_s=max_age_s, clock=clock)
    run = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    try:
        yield watch
    finally:
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run


async def test_many_readers_at_once_cost_one_fetch(client: FakeClient) -> None:
    client.answers.clear()
    async with watching(client) as watch:
        readers = [asyncio.create_task(watch.read(within_s=10)) for _ in range(20)]
        while client.asked == 0:  # noqa: ASYNC110 - the readers are on their way
            await asyncio.sleep(0)
        client.answers.set()
        readings = await asyncio.gather(*readers)

    assert client.asked == 1
    assert len({id(reading.snapshot) for reading in readings}) == 1
    assert {reading.health.problem for reading in readings} == {None}


async def test_a_reading_is_used_again_until_it_is_too_old(client: FakeClient, clock: Clock) -> None:
    async with watching(client, clock, max_age_s=1.0) as watch:
        await watch.read(within_s=10)
        clock.now_s += 0.9
        again = await watch.read(within_s=10)
        assert client.asked == 1
        assert again.age_s == pytest.approx(0.9)

        clock.now_s += 0.1
        fresh = await watch.read(within_s=10)
        assert client.asked == 2
        assert fresh.age_s == 0


async def test_a_maximum_age_of_zero_reads_every_time(client: FakeClient, clock: Clock) -> None:
    async with watching(client, clock, max_age_s=0) as watch:
        for expected in (1, 2, 3):
            await watch.read(within_s=10)
            assert client.asked == expected
    assert clock.now_s == 1000


async def test_a_reading_of_a_former_session_is_not_used_again(client: FakeClient, clock: Clock) -> None:
    async with watching(client, clock, max_age_s=60) as watch:
        await watch.read(within_s=10)
        client.sessions += 1
        await watch.read(within_s=10)

    assert client.asked == 2
    assert clock.now_s == 1000


@pytest.mark.parametrize(
    "health",
    [
        Health(DaemonState.DOWN, DaemonUnreachable("refused")),
        Health(DaemonState.REFUSED, AuthenticationRefused("no")),
        Health(DaemonState.STALLED, DaemonStalled("keepAlive")),
    ],
)
async def test_a_problem_hides_even_a_fresh_snapshot(client: FakeClient, health: Health) -> None:
    async with watching(client, max_age_s=60) as watch:
        assert (await watch.read(within_s=10)).snapshot is not None
        client.state = health
        reading = await watch.read(within_s=10)

    assert reading.snapshot is None
    assert reading.health == health
    assert client.asked == 1


async def test_a_failed_fetch_is_a_reading_with_its_reason(client: FakeClient) -> None:
    client.error = CallFailed("internal error")
    async with watching(client) as watch:
        reading = await watch.read(within_s=10)
        assert (reading.snapshot, str(reading.health.problem)) == (None, "internal error")
        assert reading.health.state is DaemonState.RUNNING

        client.error = None
        assert (await watch.read(within_s=10)).snapshot is not None


async def test_a_fetch_that_ends_with_the_connection_tells_how_the_daemon_is_now(client: FakeClient) -> None:
    client.answers.clear()
    client.error = CallFailed("socket closed")
    async with watching(client) as watch:
        reader = asyncio.create_task(watch.read(within_s=10))
        while client.asked == 0:  # noqa: ASYNC110 - the reader is on its way
            await asyncio.sleep(0)
        client.state = Health(DaemonState.DOWN, DaemonUnreachable("refused"))
        client.answers.set()
        reading = await reader

    assert reading.health == client.state


async def test_a_reader_waits_no_longer_than_it_said_and_the_fetch_goes_on(client: FakeClient) -> None:
    client.answers.clear()
    async with watching(client) as watch:
        reading = await watch.read(within_s=0.01)
        assert isinstance(reading.health.problem, DaemonStalled)
        assert reading.health.state is DaemonState.RUNNING  # too early to call it stalled
        assert reading.snapshot is None

        client.answers.set()
        assert (await watch.read(within_s=10)).snapshot is not None
    assert client.asked == 1


async def test_a_daemon_that_leaves_a_fetch_unanswered_for_five_seconds_is_stalled(
    client: FakeClient, clock: Clock
) -> None:
    client.answers.clear()
    async with watching(client, clock) as watch:
        await watch.read(within_s=0.01)
        clock.now_s += STALLED_AFTER_S
        reading = await watch.read(within_s=10)  # does not wait: the five seconds are over

    assert STALLED_AFTER_S == 5
    assert reading.health.state is DaemonState.STALLED
    assert isinstance(reading.health.problem, DaemonStalled)
    assert "5.0 s" in str(reading.health.problem)
    assert client.asked == 1


async def test_no_reader_waits_longer_than_a_stalled_daemon_deserves(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "STALLED_AFTER_S", 0.02)
    client.answers.clear()
    async with watching(client) as watch:
        reading = await watch.read(within_s=1_000_000)

    assert reading.health.state is DaemonState.STALLED


async def test_an_observer_that_fails_costs_no_reading_and_is_logged_once(
    client: FakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Snapshot] = []

    def fail(_: Snapshot) -> None:
        raise ZeroDivisionError

    async with watching(client, max_age_s=0) as watch:
        watch.observers += [fail, seen.append]
        readings = [await watch.read(within_s=10) for _ in range(3)]

    assert [reading.snapshot for reading in readings] == seen
    assert [record.message for record in caplog.records] == ["internal error: ZeroDivisionError"]
    assert watch.errors.counts["observer"] == 3


async def test_a_reader_that_gives_up_does_not_take_the_fetch_from_the_others(client: FakeClient) -> None:
    client.answers.clear()
    async with watching(client) as watch:
        first, second = (asyncio.create_task(watch.read(within_s=10)) for _ in range(2))
        while client.asked == 0:  # noqa: ASYNC110 - the readers are on their way
            await asyncio.sleep(0)
        first.cancel()
        client.answers.set()

        assert (await second).snapshot is not None
        with pytest.raises(asyncio.CancelledError):
            await first
    assert client.asked == 1


async def test_a_daemon_nobody_ever_reached_is_told_within_the_time_of_a_first_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshots, "FIRST_ATTEMPT_S", 0.01)
    watch = DaemonWatch(DaemonClient(name="d", url="http://127.0.0.1:1"), local_home=None)

    reading = await watch.read(within_s=1_000_000)

    assert reading.health.state is DaemonState.DOWN
    assert reading.snapshot is None


async def test_loads_and_unloads_are_counted_once_per_fetch(client: FakeClient, clock: Clock) -> None:
    async with watching(client, clock) as watch:
        for _ in range(3):
            await asyncio.gather(*(watch.read(within_s=10) for _ in range(4)))
            clock.now_s += 2

    assert watch.changes.loads.total() == 2  # each fetch found another reference
    assert watch.changes.unloads.total() == 2


async def test_the_posture_of_a_local_home_is_read_once_a_minute(
    client: FakeClient, clock: Clock, tmp_path: Path
) -> None:
    home_with(tmp_path, **{".internal__http-server-config_json": json.dumps({"logSensitiveData": True})})
    async with watching(client, clock, home=tmp_path, max_age_s=0) as watch:
        first = await watch.read(within_s=10)
        home_with(tmp_path, **{".internal__http-server-config_json": json.dumps({"logSensitiveData": False})})
        clock.now_s += 59
        remembered = await watch.read(within_s=10)
        clock.now_s += 1
        later = await watch.read(within_s=10)

    told = [reading.posture and reading.posture.sensitive_logging for reading in (first, remembered, later)]
    assert told == [True, True, False]


async def test_without_a_local_home_there_is_no_posture(client: FakeClient) -> None:
    async with watching(client) as watch:
        assert (await watch.read(within_s=10)).posture is None
        assert watch.name == "d"


async def test_a_connection_that_came_late_leaves_the_fetch_only_what_is_left(
    client: FakeClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def settle(*, within_s: float, **_: float) -> None:
        clock.now_s += within_s

    monkeypatch.setattr(client, "settled", settle)
    monkeypatch.setattr(snapshots, "FIRST_ATTEMPT_S", 1000)
    client.answers.clear()
    async with watching(client, clock) as watch, asyncio.timeout(3):
        reading = await watch.read(within_s=1000)
    assert isinstance(reading.health.problem, DaemonStalled)


class Home:
    """An LM Studio home that answers when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = threading.Event()
        self.asked = 0
        monkeypatch.setattr(local_files, "read_posture", self._read)

    def _read(self, _: Path) -> LocalPosture:
        self.asked += 1
        assert self.answers.wait(20)
        return LocalPosture(False, True, None, None, None)


async def test_a_home_that_answers_late_holds_no_reading_up_and_serves_the_next_one(
    client: FakeClient, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(snapshots, "POSTURE_DEADLINE_S", 20)
    slow = Home(monkeypatch)
    async with watching(client, clock, home=tmp_path) as watch:
        async with asyncio.timeout(3):
            hurried = await watch.read(within_s=0.01)
        assert hurried.snapshot is not None
        assert hurried.posture is None

        waiting = [asyncio.create_task(watch.read(within_s=10)) for _ in range(2)]
        await asyncio.sleep(0.01)
        slow.answers.set()
        patient = await asyncio.gather(*waiting)
    assert [reading.posture and reading.posture.sensitive_logging for reading in patient] == [True, True]
    assert slow.asked == 1
    assert clock.now_s == 1000


async def test_a_home_that_does_not_answer_is_asked_again_after_a_minute(
    client: FakeClient, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(snapshots, "POSTURE_DEADLINE_S", 0.3)
    stuck = Home(monkeypatch)
    async with watching(client, clock, home=tmp_path) as watch:
        assert (await watch.read(within_s=10)).posture is None
        stuck.answers.set()
        await asyncio.sleep(0.1)
        assert (await watch.read(within_s=10)).posture is None
        clock.now_s += 60
        assert (await watch.read(within_s=10)).posture is not None
    assert stuck.asked == 2


async def test_a_bug_in_reading_a_home_costs_the_posture_only(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def divide(_: Path) -> LocalPosture:
        raise ZeroDivisionError

    monkeypatch.setattr(local_files, "read_posture", divide)
    async with watching(client, home=tmp_path) as watch:
        for _ in range(2):
            reading = await watch.read(within_s=10)
            assert reading.snapshot is not None
            assert reading.posture is None
