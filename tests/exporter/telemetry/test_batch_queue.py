"""The queue: put = exported + failed + dropped, whatever the receiver does, and nobody ever waits for it."""

import logging
import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.telemetry import export_errors
from exporter.telemetry.batch_queue import BatchQueue


@pytest.fixture
def printed() -> Iterator[list[logging.LogRecord]]:
    """What reaches the root logger. Not caplog, which also hears loggers that pass nothing on."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler, root = Keep(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield records
    root.removeHandler(handler)
    root.setLevel(level)


def test_everything_put_in_is_delivered_in_order() -> None:
    seen: list[int] = []

    def deliver(batch: Sequence[int]) -> bool:
        seen.extend(batch)
        return True

    queue = BatchQueue("test", deliver, batch=3)
    for number in range(10):
        assert queue.put(number)
    assert queue.wait_until_empty(within_s=10)
    assert seen == list(range(10))
    assert queue.counts.exported == 10
    queue.close(within_s=1)
    assert (queue.counts.failed, queue.counts.dropped) == (0, 0)


def test_a_refusing_and_a_raising_receiver_cost_their_batches_and_are_counted() -> None:
    answers: list[bool | Exception] = [False, RuntimeError("no"), True]

    def deliver(_batch: Sequence[int]) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    queue = BatchQueue("test", deliver, batch=1)
    for number in range(3):
        queue.put(number, weight=2)
        assert queue.wait_until_empty(within_s=10)
    assert (queue.counts.exported, queue.counts.failed, queue.counts.dropped) == (2, 4, 0)
    queue.close(within_s=1)


def test_an_outage_is_told_when_it_begins_and_when_it_is_over_and_not_for_every_batch(
    printed: list[logging.LogRecord],
) -> None:
    sdk = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    answers = [True, False, False, False, True, True]

    def deliver(_batch: Sequence[int]) -> bool:
        if not answers[0]:
            sdk.warning("Transient error refused encountered while exporting spans batch, retrying in 1.0s.")
            sdk.error("Failed to export spans batch due to timeout, max retries or shutdown.")
        return answers.pop(0)

    queue = BatchQueue("spans", deliver, batch=1)
    for number in range(6):
        queue.put(number)
        assert queue.wait_until_empty(within_s=10)
    queue.close(within_s=1)
    told = [(record.levelname, record.__dict__.get("problem")) for record in printed]
    assert told == [("WARNING", "refused"), ("INFO", None)]


def test_a_bug_of_ours_in_delivering_is_told_once_with_its_trace(printed: list[logging.LogRecord]) -> None:
    def deliver(_batch: Sequence[int]) -> bool:
        raise RuntimeError("a bug")

    queue = BatchQueue("spans", deliver, batch=1)
    for number in range(3):
        queue.put(number)
        assert queue.wait_until_empty(within_s=10)
    queue.close(within_s=1)
    assert [record.levelname for record in printed] == ["ERROR", "WARNING"]


def test_what_the_sdk_says_to_nobody_in_particular_is_still_printed(printed: list[logging.LogRecord]) -> None:
    with export_errors.heard():
        pass
    logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter").warning("from another thread")
    assert [record.getMessage() for record in printed] == ["from another thread"]


def test_the_end_does_not_wait_for_a_receiver_that_is_away() -> None:
    refused, entered = threading.Event(), threading.Event()

    def deliver(_batch: Sequence[int]) -> bool:
        if not refused.is_set():
            refused.set()
            return False
        entered.set()
        return threading.Event().wait(60)

    queue = BatchQueue("test", deliver, batch=1)
    queue.put(1)
    queue.put(2)
    assert entered.wait(10)
    queue.close(within_s=3_600)  # it would take the hour, were the receiver waited for
    assert queue.counts.failed == 2


def test_a_receiver_that_never_answers_blocks_neither_put_nor_close() -> None:
    entered, release = threading.Event(), threading.Event()

    def deliver(_batch: Sequence[int]) -> bool:
        entered.set()
        return release.wait(30)

    queue = BatchQueue("test", deliver, batch=1, max_items=5)
    queue.put(0)
    assert entered.wait(10)
    results = [queue.put(number) for number in range(1, 11)]
    assert results == [True] * 5 + [False] * 5
    queue.close(within_s=0.05)
    assert queue.counts.exported + queue.counts.failed + queue.counts.dropped == 11
    assert not queue.put(99), "a closed queue takes nothing"
    release.set()


def test_the_queue_is_bounded_by_bytes_too() -> None:
    release = threading.Event()
    queue: BatchQueue[int] = BatchQueue("test", lambda _batch: release.wait(30), batch=1, max_bytes=100)
    taken = [queue.put(number, size_bytes=40) for number in range(6)]
    assert taken.count(False) >= 3
    release.set()
    assert queue.wait_until_empty(within_s=10)
    assert queue.put(7, size_bytes=100), "what was delivered makes room"
    queue.close(within_s=5)


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
    queue: BatchQueue[int] = BatchQueue("test", lambda _batch: next(calls), batch=batch, max_items=max_items)
    for weight in weights:
        queue.put(weight, weight=weight)
    queue.close(within_s=10)
    counts = queue.counts
    assert counts.exported + counts.failed + counts.dropped == sum(weights)
