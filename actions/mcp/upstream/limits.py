"""Rate limits and circuit breaker of one server, and the memory of calls. Pure; the clock is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from actions.domain.rate_limit import Buckets, FairShares
from actions.mcp.upstream.spec import LOOK_PLACES, Limits

ROOM_BYTES: Final = 192 * 1024 * 1024
"""For the arguments of all large calls, those that wait for an approval too; one token gets two thirds."""
_SMALL_BYTES: Final = 128 * 1024
_CHAR_BYTES: Final = 4
_VALUE_BYTES: Final = 250
"""What a call takes for each character and value of its arguments until it has ended: measured, with all copies."""


def memory_of(chars: int, values: int) -> int:
    """Return the memory that the arguments of a call take, in bytes; 0 for little."""
    size = chars * _CHAR_BYTES + values * _VALUE_BYTES
    return size if size > _SMALL_BYTES else 0


class Usage:
    """The use of one server's limits. Rate and concurrency are counted per token, so that none starves the others."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = Buckets(limits.calls_per_minute, 60 / limits.calls_per_minute, clock)
        self.looks = Buckets(limits.calls_per_minute, 60 / limits.calls_per_minute, clock)
        """Lists and completions: as many again, so that they leave calls theirs."""
        self.looking = FairShares(LOOK_PLACES)
        self.running = FairShares(limits.places, limits.concurrent_calls)
        self.breaker = Breaker(limits.breaker_failures, limits.breaker_open_s, clock)


class Breaker:
    """Opens after `threshold` failures in a row; after `open_s` one trial call closes or reopens it."""

    def __init__(self, threshold: int, open_s: float, clock: Callable[[], float]) -> None:
        self._threshold = threshold
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, except for a trial call."""
        return self._open_until is not None

    def wait_s(self) -> float:
        """Return 0 if this call may be sent, else the seconds to wait.

        A call that is sent must end in `succeeded`, `failed` or `abandoned`.
        """
        if self._open_until is None:
            return 0.0
        left = self._open_until - self._clock()
        if left > 0:
            return left
        if self._trying:
            return self._open_s
        self._trying = True
        return 0.0

    def succeeded(self) -> None:
        """Note a response of the server, a tool error included."""
        self._failures, self._open_until, self._trying = 0, None, False

    def failed(self) -> None:
        """Note a missing or malformed response."""
        self._failures += 1
        self._trying = False
        if self._failures >= self._threshold:
            self._open_until = self._clock() + self._open_s

    def abandoned(self) -> None:
        """Note a call that the caller ended."""
        self._trying = False
