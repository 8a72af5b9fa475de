"""Slow facts: read when due and in the background, remembered when they failed, never asked for too often."""

import asyncio
from collections.abc import Callable

import pytest

from exporter.llmster.cached_value import CachedValue
from exporter.llmster.errors import CallFailed, DaemonStalled, LlmsterError


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Source:
    """Answers with a running number, or fails while `error` is set; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: BaseException | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def __call__(self) -> int:
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return self.asked


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def source() -> Source:
    return Source()


def make(source: Source, clock: Callable[[], float], max_age_s: float | None = 60.0) -> CachedValue[int]:
    return CachedValue(source, tolerate=LlmsterError, max_age_s=max_age_s, retry_s=10.0, clock=clock)


async def test_a_young_value_costs_no_reading(clock: Clock, source: Source) -> None:
    fact = make(source, clock)

    assert await fact.get() == 1
    clock.now_s += 59.9
    assert await fact.get() == 1
    clock.now_s += 0.1
    assert await fact.get() == 2
    assert source.asked == 2


async def test_a_value_without_a_maximum_age_is_read_once(clock: Clock, source: Source) -> None:
    fact = make(source, clock, max_age_s=None)

    for _ in range(3):
        assert await fact.get() == 1
        clock.now_s += 1e9


async def test_a_failed_reading_is_remembered_until_its_retry_is_due(clock: Clock, source: Source) -> None:
    fact = make(source, clock, max_age_s=None)
    source.error = DaemonStalled("slow")

    assert await fact.get() is None
    source.error = None
    clock.now_s += 9.9
    assert await fact.get() is None
    assert source.asked == 1
    clock.now_s += 0.1
    assert await fact.get() == 2


async def test_a_reading_that_fails_later_makes_the_old_value_vanish(clock: Clock, source: Source) -> None:
    fact = make(source, clock)
    await fact.get()
    clock.now_s += 60
    source.error = CallFailed("no")

    assert await fact.get() is None


async def test_a_slow_reading_holds_nobody_up_and_serves_who_asks_later(clock: Clock, source: Source) -> None:
    fact = make(source, clock)
    source.answers.clear()

    assert await fact.get(within_s=0) is None
    assert fact.refresh() is fact.refresh()
    source.answers.set()
    assert await fact.get() == 1
    assert source.asked == 1


async def test_the_old_value_stands_while_a_new_one_is_read(clock: Clock, source: Source) -> None:
    fact = make(source, clock)
    await fact.get()
    clock.now_s += 60
    source.answers.clear()

    assert await fact.get(within_s=0) == 1
    source.answers.set()
    assert await fact.get() == 2


async def test_a_defect_in_reading_costs_the_value_and_is_logged(
    clock: Clock, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    source.error = ZeroDivisionError()

    assert await make(source, clock).get() is None
    assert [record.message for record in caplog.records] == ["background reading failed"]


async def test_a_reading_that_was_given_up_is_still_due(clock: Clock, source: Source) -> None:
    fact = make(source, clock)
    source.answers.clear()
    reading = fact.refresh()
    await asyncio.sleep(0)
    fact.close()
    assert reading is not None
    await asyncio.wait({reading})
    assert reading.cancelled()

    source.answers.set()
    assert await fact.get() == 2
