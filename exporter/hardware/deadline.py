"""Reads GPUs without ever waiting longer than allowed: a wedged driver costs a reading, never a caller.

Knows no NVML. One thread asks, and never more than one: while it is stuck in the driver, every new question fails at
once, and the first one after it has come back is asked as usual.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final

from exporter.hardware.errors import DriverWedged, GpuError
from exporter.hardware.gpus import GpuReading, GpuSource

log = logging.getLogger(__name__)

DEADLINE_S: Final = 5.0
"""Half of Prometheus' default scrape timeout. Eight cards take well under a second, PCIe throughput included."""


class GpuReader:
    """Asks a GpuSource from a thread of its own, for any number of concurrent callers.

    The thread is a daemon: a process can always exit, even when its driver never answers.
    """

    def __init__(
        self,
        source: GpuSource,
        *,
        deadline_s: float = DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._deadline_s = deadline_s
        self._clock = clock
        self._questions: queue.SimpleQueue[Future[GpuReading] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._asked: Future[GpuReading] | None = None
        self._asked_at = 0.0
        self._closed = False

    async def read(self) -> GpuReading:
        """Give a reading that began at or after this call, or one that another caller is waiting for already.

        Raises GpuError; DriverWedged when the deadline passes, and at once while an overdue read is still out.
        """
        answer = self._ask()
        left_s = self._deadline_s - (self._clock() - self._asked_at)
        try:
            async with asyncio.timeout(max(left_s, 0.0)):
                return await asyncio.wrap_future(answer)
        except TimeoutError as error:
            raise DriverWedged(f"the NVIDIA driver has not answered within {self._deadline_s:g} s") from error

    def xid_counts(self) -> Mapping[tuple[str, int], int] | None:
        """Count XID errors by (gpu uuid, xid); None when no card can be watched."""
        return self._source.xid_counts()

    def close(self, *, patience_s: float = 1.0) -> bool:
        """End the thread and let it close the source; False when it is stuck in the driver and is left behind."""
        if not self._closed:
            self._closed = True
            self._questions.put(None)
        if self._thread is not None:
            self._thread.join(timeout=patience_s)
        return self._thread is None or not self._thread.is_alive()

    def _ask(self) -> Future[GpuReading]:
        if self._closed:
            raise GpuError("the GPU reader is closed")
        if self._asked is not None and not self._asked.done():
            overdue_s = self._clock() - self._asked_at - self._deadline_s
            if overdue_s >= 0:
                raise DriverWedged(f"the NVIDIA driver still owes an answer, {overdue_s:.0f} s overdue")
            return self._asked
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="gpu-reader", daemon=True)
            self._thread.start()
        question: Future[GpuReading] = Future()
        question.set_running_or_notify_cancel()  # a caller who gives up must not cancel it for the others
        self._asked, self._asked_at = question, self._clock()
        self._questions.put(question)
        return question

    def _work(self) -> None:
        while (question := self._questions.get()) is not None:
            try:
                reading = self._source.read()
            except Exception as error:  # noqa: BLE001 - handed to whoever asked, who counts it
                question.set_exception(error)
            else:
                question.set_result(reading)
        try:
            self._source.close()
        except GpuError as error:
            log.debug("the GPU source did not close cleanly: %s", error)
