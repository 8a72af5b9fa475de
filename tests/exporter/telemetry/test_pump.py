"""The pump: put = exported + failed + dropped, whatever the receiver does, and nobody ever waits for it."""

import threading
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.telemetry.pump import Pump


def test_everything_put_in_is_delivered_in_order() -> None:
    seen: list[int] = []

    def deliver(batch: Sequence[int]) -> bool:
        seen.extend(batch)
        return True

    pump = Pump("test", deliver, batch=3)
    for number in range(10):
        assert pump.put(number)
    assert pump.wait_until_empty(within_s=10)
    assert seen == list(range(10))
    assert pump.counts.exported == 10
    pump.close(within_s=1)
    assert (pump.counts.failed, pump.counts.dropped) == (0, 0)


def test_a_refusing_and_a_raising_receiver_cost_their_batches_and_are_counted() -> None:
    answers: list[bool | Exception] = [False, RuntimeError("no"), True]

    def deliver(_batch: Sequence[int]) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    pump = Pump("test", deliver, batch=1)
    for number in range(3):
        pump.put(number, weight=2)
        assert pump.wait_until_empty(within_s=10)
    assert (pump.counts.exported, pump.counts.failed, pump.counts.dropped) == (2, 4, 0)
    pump.close(within_s=1)


def test_a_receiver_that_never_answers_blocks_neither_put_nor_close() -> None:
    entered, release = threading.Event(), threading.Event()

    def deliver(_batch: Sequence[int]) -> bool:
        entered.set()
        return release.wait(30)

    pump = Pump("test", deliver, batch=1, max_items=5)
    pump.put(0)
    assert entered.wait(10)
    results = [pump.put(number) for number in range(1, 11)]
    assert results == [True] * 5 + [False] * 5
    pump.close(within_s=0.05)
    assert pump.counts.exported + pump.counts.failed + pump.counts.dropped == 11
    assert not pump.put(99), "a closed pump takes nothing"
    release.set()


def test_the_queue_is_bounded_by_bytes_too() -> None:
    release = threading.Event()
    pump: Pump[int] = Pump("test", lambda _batch: release.wait(30), batch=1, max_bytes=100)
    taken = [pump.put(number, size_bytes=40) for number in range(6)]
    assert taken.count(False) >= 3
    release.set()
    assert pump.wait_until_empty(within_s=10)
    assert pump.put(7, size_bytes=100), "what was delivered makes room"
    pump.close(within_s=5)


@settings(max_examples=25, deadline=None)
@given(
    weights=st.lists(st.integers(1, 5), max_size=60),
    answers=st.lists(st.booleans(), min_size=1, max_size=10),
    max_items=st.integers(1, 30),
    batch=st.integers(1, 7),
)
def test_nothing_put_in_is_ever_lost_uncounted(
    weights: list[int], answers: list[bool], max_items: int, batch: int
) -> None:
    calls = iter(answers * 100)
    pump: Pump[int] = Pump("test", lambda _batch: next(calls), batch=batch, max_items=max_items)
    for weight in weights:
        pump.put(weight, weight=weight)
    pump.close(within_s=10)
    counts = pump.counts
    assert counts.exported + counts.failed + counts.dropped == sum(weights)
