"""Finds the largest context that fits now, and the evictions that a larger one needs. Pure.

Assumed: a longer context never takes less memory. Only contexts that were estimated are ever called fitting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

MAX_ESTIMATES: Final = 8
"""Estimates that one question costs the daemon at most; each is costly for it."""
LEAST_CONTEXT: Final = 2048
STEP: Final = 256
"""Contexts are multiples of so many tokens."""
CLOSE_ENOUGH: Final = 0.02
"""The search ends when less than this share of the context is left open."""
MAX_SUBSETS: Final = 20_000
"""Combinations of evictions that are tried; beyond it the plan is irreducible and marked as not proved minimal."""


class ContextSearch:
    """Finds the longest context that fits. Call `next()`, estimate it, `tell()` its need and whether it fits."""

    def __init__(self, *, least: int, most: int, budget: int = MAX_ESTIMATES) -> None:
        self.least, self.most = min(least, most), most
        self.asked = 0
        self.fitting: int | None = None
        self._budget = budget
        self._excess: dict[int, float] = {}
        """Needed minus available bytes by context; at most 0 fits."""

    def next(self) -> int | None:
        """Choose the context to estimate next; None when the search is over."""
        if self.asked >= self._budget:
            return None
        if self.most not in self._excess:
            return self.most
        if self._excess[self.most] > 0 and self.least not in self._excess:
            return self.least
        if self._excess[self.most] <= 0 or self._excess[self.least] > 0:
            return None  # the longest fits, or not even the shortest
        return self._between(*self._bracket())

    def _between(self, low: int, high: int) -> int | None:
        """Choose a context in the bracket by interpolation, and every third time by halves; None when it is narrow."""
        if high - low <= max(STEP, CLOSE_ENOUGH * low):
            return None
        middle = (low + high) / 2
        slope = self._excess[high] - self._excess[low]
        if self.asked % 3 and slope > 0:
            middle = low - self._excess[low] * (high - low) / slope
        return min(max(int(middle) // STEP * STEP, low + STEP), high - 1)

    def tell(self, context: int, excess: float) -> None:
        """Note what a context needs beyond what is available, in bytes; at most 0 fits."""
        self.asked += 1
        self._excess[context] = excess
        if excess <= 0:
            self.fitting = max(context, self.fitting or 0)

    def _bracket(self) -> tuple[int, int]:
        high = min(context for context, excess in self._excess.items() if excess > 0)
        low = max(context for context, excess in self._excess.items() if excess <= 0)
        return low, high


@dataclass(frozen=True, slots=True)
class Evictable:
    """An instance that may go, with what it would free, in bytes by GPU."""

    instance_id: str
    frees: Mapping[int, int]

    @property
    def total(self) -> int:
        """Bytes on all GPUs."""
        return sum(self.frees.values())


@dataclass(frozen=True, slots=True)
class Eviction:
    """What has to go: as few instances as possible, and of those the least memory."""

    instances: tuple[str, ...]
    is_minimal: bool
    """False where there were too many combinations to try; then no single instance can be left out all the same."""


def evict(candidates: Sequence[Evictable], fits: Callable[[Mapping[int, int]], bool]) -> Eviction | None:
    """Choose what to evict so that `fits`, which is given the bytes freed by GPU. None when nothing helps."""
    helpful = sorted(
        (one for one in candidates if one.total > 0), key=lambda one: (one.total, one.instance_id)
    )
    if not fits(freed_by(helpful)):
        return None
    tried = 0
    for size in range(len(helpful) + 1):
        best: tuple[int, tuple[str, ...]] | None = None
        for chosen in combinations(helpful, size):
            tried += 1
            if tried > MAX_SUBSETS:
                return Eviction(_reduced(helpful, fits), is_minimal=False)
            key = (sum(one.total for one in chosen), tuple(one.instance_id for one in chosen))
            if (best is None or key < best) and fits(freed_by(chosen)):
                best = key
        if best is not None:
            return Eviction(best[1], is_minimal=True)
    return None


def _reduced(candidates: Sequence[Evictable], fits: Callable[[Mapping[int, int]], bool]) -> tuple[str, ...]:
    """Leave out one instance after the other, the smallest first, for as long as it still fits."""
    chosen = list(candidates)
    for one in candidates:
        rest = [other for other in chosen if other is not one]
        if fits(freed_by(rest)):
            chosen = rest
    return tuple(one.instance_id for one in chosen)


def freed_by(chosen: Iterable[Evictable]) -> dict[int, int]:
    """Add up what instances free, in bytes by GPU."""
    freed: dict[int, int] = {}
    for one in chosen:
        for gpu, size in one.frees.items():
            freed[gpu] = freed.get(gpu, 0) + size
    return freed


def lacking(shares: Mapping[int, int], free: Mapping[int, int], freed: Mapping[int, int]) -> int:
    """Add up what lacks on each GPU, in bytes; at most 0 is room that is left, of the fullest GPU."""
    gaps = [size - free.get(gpu, 0) - freed.get(gpu, 0) for gpu, size in shares.items() if size > 0]
    if not gaps:
        return 0
    return sum(gap for gap in gaps if gap > 0) or max(gaps)
