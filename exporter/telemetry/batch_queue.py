"""A bounded queue with one worker thread: put() never blocks and never raises, and every loss is counted.

A receiver that is down costs its own data only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from exporter.telemetry import export_errors

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH: Final = 512
"""Items handed over at once; the receivers' usual batch."""

LINGER_S: Final = 0.2
"""How long a single item waits for others, so that low traffic does not cost a request per item."""


@dataclass(slots=True)
class Delivered:
    """What became of everything put in, by weight: put = exported + failed + dropped + still waiting."""

    exported: int = 0
    """Accepted by the receiver."""
    failed: int = 0
    """Handed over and not accepted."""
    dropped: int = 0
    """Never handed over: the queue was full, or time was up at the end."""


class BatchQueue(Generic[T]):
    """Queue and worker for one kind of item. `deliver` returns whether the receiver took the batch.

    `rejected` is asked after each delivery how much of it, by weight, the receiver did not take all the same.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Sequence[T]], bool],
        *,
        batch: int = BATCH,
        rejected: Callable[[], int] = lambda: 0,
        max_items: int = 8192,
        max_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self.name = name
        self.counts = Delivered()
        self._deliver = deliver
        self._rejected = rejected
        self._batch = batch
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._queue: deque[tuple[T, int, int]] = deque()
        self._queued_bytes = 0
        self._in_flight = 0
        self._stopping = False
        self._is_taken = True
        """Whether the receiver took the latest batch."""
        self._wake = threading.Condition()
        # A daemon thread: an exit never waits for a receiver that does not answer.
        self._worker = threading.Thread(target=self._work, name=f"otlp {name}", daemon=True)
        self._worker.start()

    def put(self, item: T, *, weight: int = 1, size_bytes: int = 0) -> bool:
        """Queue an item that counts as `weight`; False, and that count, when there is no room for it."""
        with self._wake:
            full = len(self._queue) >= self._max_items or self._queued_bytes + size_bytes > self._max_bytes
            if full or self._stopping:
                self.counts.dropped += weight
                return False
            self._queue.append((item, weight, size_bytes))
            self._queued_bytes += size_bytes
            if len(self._queue) == 1 or len(self._queue) == self._batch:
                self._wake.notify()
            return True

    def wait_until_empty(self, *, within_s: float) -> bool:
        """Wait until everything put in was delivered or lost; False if time was up first."""
        deadline = time.monotonic() + within_s
        with self._wake:
            while self._queue or self._in_flight:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self._wake.wait(left_s)
        return True

    def close(self, *, within_s: float) -> None:
        """Deliver what can still be delivered, then count the rest as lost. Always returns in time.

        A receiver that is away is not waited for.
        """
        self.wait_until_empty(within_s=within_s if self._is_taken else 0.0)
        with self._wake:
            self._stopping = True
            self.counts.dropped += sum(weight for _, weight, _ in self._queue)
            self.counts.failed += self._in_flight
            self._in_flight = 0
            self._queue.clear()
            self._queued_bytes = 0
            self._wake.notify_all()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._stopping:
                    self._wake.wait()
                if not self._stopping and len(self._queue) < self._batch:
                    self._wake.wait(LINGER_S)
                if self._stopping:
                    return
                entries = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
                self._queued_bytes -= sum(size for _, _, size in entries)
                self._in_flight = sum(weight for _, weight, _ in entries)
            accepted = self._hand_over([item for item, _, _ in entries])
            rejected = self._rejected()
            with self._wake:
                failed = min(rejected, self._in_flight) if accepted else self._in_flight
                self.counts.failed += failed
                self.counts.exported += self._in_flight - failed
                self._in_flight = 0
                self._wake.notify_all()

    def _hand_over(self, items: Sequence[T]) -> bool:
        """Deliver a batch. Failures are logged when they begin and end, not for every batch."""
        with export_errors.heard() as words:
            try:
                taken = self._deliver(items)
            except Exception as error:
                taken = False
                words.insert(0, f"internal error: {type(error).__name__}")
                if self._is_taken:
                    log.exception("OTLP export failed", extra={"signal": self.name})
        if taken != self._is_taken:
            self._is_taken = taken
            if taken:
                log.info("OTLP export recovered", extra={"signal": self.name})
            else:
                log.warning(
                    "OTLP export failed, retrying; losses are counted",
                    extra={"signal": self.name, "problem": export_errors.gist(words)},
                )
        return taken
