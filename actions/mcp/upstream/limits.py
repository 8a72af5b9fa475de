"""How often a server may be called, and when it is left alone because it fails. Pure, with the clock handed in.

Knows no connection and no call; calls.py asks before each call and tells afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from actions.auth.rate_limit import Bucket
from actions.mcp.upstream.spec import Limits


class Usage:
    """How much of its limits one server has used."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = Bucket(limits.calls_per_minute, 60 / limits.calls_per_minute, clock)
        self.breaker = Breaker(limits.breaker_failures, limits.breaker_open_s, clock)
        self.running = 0


class Breaker:
    """Opens after `threshold` failures in a row; after `open_s` one call may try, and closes it or opens it again."""

    def __init__(self, threshold: int, open_s: float, clock: Callable[[], float]) -> None:
        self._threshold = threshold
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for one that tries."""
        return self._open_until is not None

    def wait_s(self) -> float:
        """Return 0 and let this call through, or the seconds to wait.

        A call let through must end in `succeeded`, `failed` or `abandoned`.
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
        """Take note that the server answered, be it with an error of the tool."""
        self._failures, self._open_until, self._trying = 0, None, False

    def failed(self) -> None:
        """Take note that the server did not answer, or not as it must."""
        self._failures += 1
        self._trying = False
        if self._failures >= self._threshold:
            self._open_until = self._clock() + self._open_s

    def abandoned(self) -> None:
        """Take note that a call ended without an answer for a reason of the caller's."""
        self._trying = False
