"""Run due callbacks in order on a virtual clock, driven by real time or by hand.

Does not depend on daemons, sockets or models: only on instants, callbacks and their order.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# 2026-11-22 12:51:12 UTC: any fixed instant does; this one keeps generated samples comparable.
DEFAULT_START_MS = 1_795_351_872_000


class Timer:
    """A scheduled callback; `cancel()` makes it never run."""

    __slots__ = ("action", "at_s", "cancelled")

    def __init__(self, *, at_s: float, action: Callable[[], None]) -> None:
        self.at_s = at_s
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the callback; harmless when it already ran."""
        self.cancelled = True


class Clock:
    """Virtual seconds since start, and a queue of callbacks due at such instants.

    Live: virtual time = real time * speed, and one loop timer waits for the next due callback, so an
    idle simulator uses no CPU. Manual: time stands still until `advance()`. Either way a callback sees
    exactly its own due time, so its output does not depend on how late the host was.
    """

    def __init__(self, *, start_ms: int = DEFAULT_START_MS, speed: float = 1.0, manual: bool = False) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be greater than 0, got {speed}")
        self.start_ms = start_ms
        self.speed = speed
        self.manual = manual
        self._now_s = 0.0
        self._attached_at = (
            0.0,
            0.0,
        )  # seconds on the wall, and virtual ones; the speed is the same since then
        self._queue: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_origin_s = 0.0
        self._wake: asyncio.TimerHandle | None = None
        self._running = False
        self._pinned = False

    @property
    def now_s(self) -> float:
        """Virtual seconds since the clock was made."""
        if self._loop is not None and not self._running and not self._pinned:
            real_s = (self._loop.time() - self._loop_origin_s) * self.speed
            # Never past a callback that is due but has not run yet: it must see its own instant.
            due_s = self._queue[0][0] if self._queue else real_s
            self._now_s = max(self._now_s, min(real_s, due_s))
        return self._now_s

    @property
    def now_ms(self) -> int:
        """Virtual wall-clock time in epoch milliseconds, the unit of every daemon timestamp."""
        return self.start_ms + round(self.now_s * 1000)

    @property
    def wall_ms(self) -> int:
        """What the clock on the wall shows, whatever the speed: TTLs are counted by it, and so do observers."""
        wall_s, now_s = self._attached_at
        return self.start_ms + round((wall_s + (self.now_s - now_s) / self.speed) * 1000)

    def call_later(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """Run `action` after `delay_s` virtual seconds; equal instants run in the order of these calls."""
        timer = Timer(at_s=self.now_s + max(0.0, delay_s), action=action)
        heapq.heappush(self._queue, (timer.at_s, next(self._order), timer))
        if not self._running:
            self._arm()
        return timer

    def advance(self, seconds: float) -> None:
        """Move a manual clock forward, running everything that falls due on the way, in order."""
        if not self.manual:
            raise RuntimeError("advance() needs manual_clock=True: this clock follows real time")
        if seconds < 0:
            raise ValueError(f"time cannot go back, got {seconds}")
        self._run_until(self._now_s + seconds)

    def catch_up(self) -> None:
        """Run what real time has already made due, then hold time still until the loop's next turn.

        Called before every answer: whatever one request sets in motion then begins at one instant.
        """
        if self._loop is None or self._running or self._pinned:
            return
        real_s = (self._loop.time() - self._loop_origin_s) * self.speed
        if self._queue and self._queue[0][0] <= real_s:
            self._run_until(real_s)
            self._arm()
        self._now_s = max(self._now_s, real_s)
        self._pinned = True
        self._loop.call_soon(self._unpin)

    def _unpin(self) -> None:
        self._pinned = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start following real time on `loop`; a manual clock ignores this."""
        if self.manual or self._loop is not None:
            return
        self._loop = loop
        self._loop_origin_s = loop.time() - self._now_s / self.speed
        self._arm()

    def detach(self) -> None:
        """Stop following real time; pending callbacks stay queued for the next `attach`."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if self._loop is not None:
            self._now_s = self.now_s
            self._attached_at = ((self.wall_ms - self.start_ms) / 1000, self._now_s)
            self._loop = None

    def _run_until(self, until_s: float) -> None:
        if self._running:
            raise RuntimeError("the clock is already running callbacks; do not advance it from one of them")
        self._running = True
        try:
            while self._queue and self._queue[0][0] <= until_s:
                at_s, _, timer = heapq.heappop(self._queue)
                if timer.cancelled:
                    continue
                self._now_s = max(self._now_s, at_s)
                timer.action()
            self._now_s = max(self._now_s, until_s)
        finally:
            self._running = False

    def _fire(self) -> None:
        self._wake = None
        try:
            if self._loop is not None:
                self._run_until((self._loop.time() - self._loop_origin_s) * self.speed)
        finally:
            # A callback that fails is reported by the loop; it must not stop the clock.
            self._arm()

    def _arm(self) -> None:
        if self._loop is None:
            return
        while self._queue and self._queue[0][2].cancelled:
            heapq.heappop(self._queue)
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if self._queue:
            self._wake = self._loop.call_at(self._loop_origin_s + self._queue[0][0] / self.speed, self._fire)
