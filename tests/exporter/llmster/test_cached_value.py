"""Slow facts: read when due, remembered when they failed, never asked for more often than allowed."""

import asyncio
from collections.abc import Callable

import pytest

from exporter.llmster.cached_value import Fact
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

    async def __call__(self) -> int:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.asked


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source() -> Source:
    return Source()


def make(clock: Callable[[], float], max_age_s: float | None = 60.0) -> Fact[int]:
    return Fact(max_age_s=max_age_s, retry_s=10.0, clock=clock)


async def test_a_young_fact_costs_no_reading(clock: Clock, source: Source) -> None:
    fact = make(clock)

    assert await fact.get(source, tolerate=LlmsterError) == 1
    clock.now_s += 59.9
    assert await fact.get(source, tolerate=LlmsterError) == 1
    clock.now_s += 0.1
    assert await fact.get(source, tolerate=LlmsterError) == 2
    assert source.asked == 2


async def test_a_fact_without_a_maximum_age_is_read_once(clock: Clock, source: Source) -> None:
    fact = make(clock, max_age_s=None)

    for _ in range(3):
        assert await fact.get(source, tolerate=LlmsterError) == 1
        clock.now_s += 1e9


async def test_a_failed_reading_is_remembered_until_its_retry_is_due(clock: Clock, source: Source) -> None:
    fact = make(clock, max_age_s=None)
    source.error = DaemonStalled("slow")

    assert await fact.get(source, tolerate=LlmsterError) is None
    source.error = None
    clock.now_s += 9.9
    assert await fact.get(source, tolerate=LlmsterError) is None
    assert source.asked == 1
    clock.now_s += 0.1
    assert await fact.get(source, tolerate=LlmsterError) == 2


async def test_a_reading_that_fails_later_makes_the_old_value_vanish(clock: Clock, source: Source) -> None:
    fact = make(clock)
    await fact.get(source, tolerate=LlmsterError)
    clock.now_s += 60
    source.error = CallFailed("no")

    assert await fact.get(source, tolerate=LlmsterError) is None


async def test_an_error_that_is_not_tolerated_is_raised(clock: Clock, source: Source) -> None:
    source.error = ZeroDivisionError()

    with pytest.raises(ZeroDivisionError):
        await make(clock).get(source, tolerate=LlmsterError)


async def test_a_reading_that_was_cancelled_is_still_due(clock: Clock, source: Source) -> None:
    fact = make(clock)
    source.error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await fact.get(source, tolerate=LlmsterError)
    source.error = None

    assert await fact.get(source, tolerate=LlmsterError) == 2
