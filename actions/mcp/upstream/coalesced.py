"""Coalesces concurrent requests for the same work: one run at a time, one more for all that came meanwhile.

Every caller gets the outcome of a run that started after the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Coalesced(Generic[T]):
    """One kind of work. `pace_s` is the minimum time between the starts of runs requested with `paced`, seconds."""

    def __init__(self, work: Callable[[], Awaitable[T]], *, pace_s: float) -> None:
        self._work = work
        self._pace_s = pace_s
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None
        self._not_before = 0.0
        self.runs = 0

    async def run(self, *, paced: bool = False) -> T:
        """Run the work, or wait for the next run. Raises what the work raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running, paced=paced))
            self._next.add_done_callback(_retrieve_exception)
        return await asyncio.shield(self._next)

    async def _after(self, before: asyncio.Task[T] | None, *, paced: bool) -> T:
        loop = asyncio.get_running_loop()
        if before is not None:
            await asyncio.wait([before])
        if paced and (wait_s := self._not_before - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        self._running, self._next = self._next, None
        self._not_before = loop.time() + self._pace_s
        self.runs += 1
        return await self._work()

    def close(self) -> None:
        """Cancel the runs."""
        for task in (self._running, self._next):
            if task is not None:
                task.cancel()


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Retrieve an exception, so that asyncio does not log it as never retrieved."""
    if not task.cancelled():
        task.exception()
