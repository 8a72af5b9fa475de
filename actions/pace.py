"""How fast one token may act: a bucket each, full at first. Pure, and without a clock of its own.

Knows no token and no command; routes ask, and leave the kill switch out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_MAX_BUCKETS: Final = 4096
"""Owners remembered; the one not seen for longest is forgotten first, and starts full again."""


class Pace:
    """So many acts a minute for each owner, all of them at once if need be; `per_minute` 0 means no limit."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, owner: str) -> float:
        """Take one act out of the owner's bucket; tell how long it must wait if there is none, 0 if it was taken."""
        if self._per_minute == 0:
            return 0.0
        now, rate = self._clock(), self._per_minute / 60
        left, at = self._buckets.get(owner, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - at) * rate)
        taken = left >= 1
        self._buckets[owner] = (left - taken, now)
        self._buckets.move_to_end(owner)
        while len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1 - left) / rate
