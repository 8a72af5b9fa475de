"""Caches values that change rarely, so that a scrape neither reads nor waits for them.

A failed reading is cached too (as None), so that failures stay within the polling budget.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class CachedValue(Generic[T]):
    """One slow-changing value, read again in the background when it is older than `max_age_s` (None: never)."""

    def __init__(
        self,
        read: Callable[[], Awaitable[T]],
        *,
        tolerate: type[Exception],
        max_age_s: float | None,
        retry_s: float | None = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`retry_s`: how long a reading that failed with `tolerate` stands; None: for good."""
        self._read = read
        self._tolerate = tolerate
        self._max_age_s = max_age_s
        self._retry_s = retry_s
        self._clock = clock
        self._value: T | None = None
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def value(self) -> T | None:
        """The latest value; None when the latest reading failed or none is complete."""
        return self._value

    def refresh(self) -> asyncio.Task[None] | None:
        """Start a reading if one is due and none is under way; return the one under way, for who wants to wait."""
        if self._reading is not None and self._reading.done():
            self._reading = None
        if self._reading is None and self._is_due():
            self._reading = asyncio.create_task(self._refresh())
        return self._reading

    async def get(self, *, within_s: float | None = None) -> T | None:
        """Return the value, waiting at most `within_s` for a reading that is due; it goes on after that."""
        reading = self.refresh()
        if reading is not None:
            await asyncio.wait({reading}, timeout=within_s)
        return self._value

    def close(self) -> None:
        """Give up the reading under way."""
        if self._reading is not None:
            self._reading.cancel()

    async def _refresh(self) -> None:
        due_at = self._clock()
        try:
            value = await self._read()
        except self._tolerate:
            value = None
        except Exception:
            log.exception("background reading failed")
            value = None
        self._value, self._read_at = value, due_at  # not when cancelled: then it is still due

    def _is_due(self) -> bool:
        if self._read_at is None:
            return True
        limit_s = self._retry_s if self._value is None else self._max_age_s
        return limit_s is not None and self._clock() - self._read_at >= limit_s
