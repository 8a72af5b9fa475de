"""Reads hardware within a deadline: a driver that hangs costs a reading and never blocks a caller.

Does not depend on NVML or /proc. Each subject has one thread. While it is stuck, new reads fail at once; reads work
again when it has returned.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

from exporter.hardware.errors import DriverWedged, HardwareError
from exporter.hardware.gpus import GpuReading, GpuSource

log = logging.getLogger(__name__)

T = TypeVar("T")

DEADLINE_S: Final = 5.0
"""Half of Prometheus' default scrape timeout. Eight GPUs take less than a second, PCIe throughput included."""


class DeadlineReader(Generic[T]):
    """Runs one blocking read in its own thread, for any number of concurrent callers.

    The thread is a daemon thread: the process can always exit.
    """

    def __init__(
        self,
        read: Callable[[], T],
        *,
        subject: str,
        overdue: type[HardwareError],
        close: Callable[[], None] | None = None,
        deadline_s: float = DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._close = close
        self._subject = subject
        self._overdue = overdue
        self._deadline_s = deadline_s
        self._clock = clock
        self._questions: queue.SimpleQueue[Future[T] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._asked: Future[T] | None = None
        self._asked_at = 0.0
        self._closed = False

    async def read(self, *, within_s: float = DEADLINE_S) -> T:
        """Give a reading that began at or after this call, or one that another caller is waiting for already.

        Raises what the question raises, and the overdue error when the deadline or `within_s` passes; at once while
        an overdue question is still out.
        """
        answer = self._ask()
        left_s = self._deadline_s - (self._clock() - self._asked_at)
        wait_s = max(min(left_s, within_s), 0.0)
        try:
            async with asyncio.timeout(wait_s):
                return await asyncio.wrap_future(answer)
        except TimeoutError as error:
            raise self._overdue(f"{self._subject} has not answered within {wait_s:.2g} s") from error

    def close(self, *, wait_s: float = 1.0) -> bool:
        """End the thread and let it clean up; False when it is stuck and is left behind."""
        if not self._closed:
            self._closed = True
            self._questions.put(None)
        if self._thread is not None:
            self._thread.join(timeout=wait_s)
        return self._thread is None or not self._thread.is_alive()

    def _ask(self) -> Future[T]:
        if self._closed:
            raise HardwareError(f"{self._subject} is no longer read: the reader is closed")
        if self._asked is not None and not self._asked.done():
            overdue_s = self._clock() - self._asked_at - self._deadline_s
            if overdue_s >= 0:
                raise self._overdue(f"{self._subject} has not answered, {overdue_s:.0f} s overdue")
            return self._asked
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"reads {self._subject}", daemon=True)
            self._thread.start()
        question: Future[T] = Future()
        question.set_running_or_notify_cancel()  # a caller who gives up must not cancel it for the others
        self._asked, self._asked_at = question, self._clock()
        self._questions.put(question)
        return question

    def _work(self) -> None:
        while (question := self._questions.get()) is not None:
            try:
                reading = self._read()
            except Exception as error:  # noqa: BLE001 - raised in the caller, which counts it
                question.set_exception(error)
            else:
                question.set_result(reading)
        try:
            if self._close is not None:
                self._close()
        except HardwareError as error:
            log.debug("not closed cleanly", extra={"subject": self._subject, "problem": str(error)})


class GpuReader(DeadlineReader[GpuReading]):
    """Reads a GpuSource; DriverWedged when it does not answer in time, GpuError for what the source raises."""

    def __init__(
        self,
        source: GpuSource,
        *,
        subject: str = "the NVIDIA driver",
        deadline_s: float = DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            source.read,
            subject=subject,
            overdue=DriverWedged,
            close=source.close,
            deadline_s=deadline_s,
            clock=clock,
        )
        self._source = source

    def xid_counts(self) -> Mapping[tuple[str, int], int] | None:
        """Count XID errors by (gpu uuid, xid); None when no GPU can be watched. Never blocks."""
        return self._source.xid_counts()
