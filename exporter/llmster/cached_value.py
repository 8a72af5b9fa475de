"""Remembers answers that change rarely, so that a scrape costs only what really moves.

Knows nothing of what it remembers. A failed reading is remembered too (as None): asking again at once would spend
the very budget this is here to keep.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Fact(Generic[T]):
    """One slow-changing value, read again when it is older than `max_age_s` (None: kept for good)."""

    def __init__(
        self,
        *,
        max_age_s: float | None,
        retry_s: float | None = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`retry_s`: how long a failed reading stands; None: for good."""
        self._max_age_s = max_age_s
        self._retry_s = retry_s
        self._clock = clock
        self._value: T | None = None
        self._read_at: float | None = None

    async def get(self, read: Callable[[], Awaitable[T]], *, tolerate: type[Exception]) -> T | None:
        """Return the value, reading it first if it is due; None if the reading failed with `tolerate`."""
        if self._is_due():
            due_at = self._clock()
            try:
                value = await read()
            except tolerate:
                value = None
            self._value, self._read_at = value, due_at  # not when cancelled: then it is still due
        return self._value

    def _is_due(self) -> bool:
        if self._read_at is None:
            return True
        limit_s = self._retry_s if self._value is None else self._max_age_s
        return limit_s is not None and self._clock() - self._read_at >= limit_s
