"""One snapshot for many: shared, of a bounded age, of this session, and waited for no longer than said."""

import asyncio

import pytest

from exporter.llmster.errors import CallFailed, ConnectionLost, DaemonStalled, LlmsterError
from exporter.llmster.shared_snapshot import SharedSnapshot
from exporter.llmster.state import Snapshot
from tests.exporter.readings import instance, snapshot


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Client:
    """A daemon whose snapshots come when the test says so."""

    name = "d"

    def __init__(self) -> None:
        self.sessions = 1
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.error: Exception | None = None

    async def snapshot(self) -> Snapshot:
        self.asked += 1
        number = self.asked
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return snapshot(instance(f"r{number}"))


@pytest.fixture
async def client() -> Client:
    return Client()


async def test_callers_at_the_same_time_share_one_fetch(client: Client) -> None:
    shared = SharedSnapshot(client)

    got = await asyncio.gather(*(shared.get(max_age_s=0) for _ in range(5)))

    assert client.asked == 1
    assert all(one is shared.latest for one in got)


async def test_a_young_snapshot_costs_nothing_and_an_old_one_is_read_again(client: Client) -> None:
    clock = Clock()
    shared = SharedSnapshot(client, clock=clock)
    await shared.get(max_age_s=1)
    clock.now_s += 0.9
    await shared.get(max_age_s=1)
    assert client.asked == 1
    assert shared.age_s == pytest.approx(0.9)

    clock.now_s += 0.1
    await shared.get(max_age_s=1)
    assert (client.asked, shared.age_s) == (2, 0)


async def test_a_snapshot_of_an_earlier_session_is_not_given_out(client: Client) -> None:
    shared = SharedSnapshot(client)
    await shared.get(max_age_s=60)
    client.sessions += 1
    assert shared.age_s == float("inf")

    await shared.get(max_age_s=60)
    assert client.asked == 2


async def test_a_caller_waits_no_longer_than_it_says_and_the_fetch_goes_on(client: Client) -> None:
    shared = SharedSnapshot(client)
    client.answers.clear()
    with pytest.raises(DaemonStalled):
        await shared.get(max_age_s=0, within_s=0)
    client.answers.set()

    await shared.get(max_age_s=0)
    assert client.asked == 1


async def test_a_caller_that_gives_up_does_not_cancel_the_fetch_of_the_others(client: Client) -> None:
    shared = SharedSnapshot(client)
    client.answers.clear()
    first, second = (asyncio.create_task(shared.get(max_age_s=0)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    client.answers.set()

    assert await second is shared.latest
    assert client.asked == 1


async def test_a_fresh_snapshot_shares_nothing_and_serves_those_who_come_later(client: Client) -> None:
    shared = SharedSnapshot(client)
    client.answers.clear()
    earlier = asyncio.create_task(shared.get(max_age_s=0))
    await asyncio.sleep(0)
    now = asyncio.create_task(shared.fresh())
    await asyncio.sleep(0)
    client.answers.set()

    assert await now is not await earlier
    assert client.asked == 2
    await shared.get(max_age_s=60)
    assert client.asked == 2


@pytest.mark.parametrize(
    ("error", "told"),
    [(CallFailed("internal"), "internal"), (ZeroDivisionError("x"), "internal error: ZeroDivisionError")],
)
async def test_a_failed_fetch_is_told_to_everyone_and_not_kept(
    client: Client, error: Exception, told: str
) -> None:
    shared = SharedSnapshot(client)
    client.error = error
    outcomes = await asyncio.gather(*(shared.get(max_age_s=60) for _ in range(2)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == [told] * 2
    assert all(isinstance(outcome, LlmsterError) for outcome in outcomes)

    client.error = None
    assert await shared.get(max_age_s=60) is shared.latest


async def test_a_fetch_is_given_up_in_the_end_so_that_the_next_can_start(client: Client) -> None:
    shared = SharedSnapshot(client, limit_s=0.01)
    client.answers.clear()
    with pytest.raises(DaemonStalled, match=r"longer than 0\.01 s"):
        await shared.get(max_age_s=0)
    client.answers.set()

    await shared.get(max_age_s=0)
    assert client.asked == 2


async def test_every_snapshot_is_told_once(client: Client) -> None:
    told: list[Snapshot] = []
    shared = SharedSnapshot(client, on_new=told.append)
    await asyncio.gather(*(shared.get(max_age_s=0) for _ in range(3)))
    await shared.fresh()

    assert len(told) == 2


async def test_closing_ends_the_fetch_under_way(client: Client) -> None:
    shared = SharedSnapshot(client)
    client.answers.clear()
    waiting = asyncio.create_task(shared.get(max_age_s=0))
    await asyncio.sleep(0)
    await shared.close()

    with pytest.raises(ConnectionLost):
        await waiting
    assert shared.fetching_s == 0
