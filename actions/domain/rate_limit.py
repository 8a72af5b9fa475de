"""Rate limits: token buckets, shares for each owner, and places that all owners share. Pure; the clock is given."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import Final, TypeVar

T = TypeVar("T")

_MAX_BUCKETS: Final = 4096
"""Owners remembered; the one not seen for longest is forgotten first, and starts full again."""


class Bucket:
    """`most` acts at once, but one at least, and one more every `refill_s`."""

    def __init__(self, most: float, refill_s: float, clock: Callable[[], float]) -> None:
        self._most = max(1.0, most)
        self._refill_s = refill_s
        self._clock = clock
        self._left = self._most
        self._at = clock()

    def wait_s(self) -> float:
        """Tell how long it takes until there is an act to take; 0 if there is."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) / self._refill_s)
        self._at = now
        return 0.0 if self._left >= 1 else (1 - self._left) * self._refill_s

    def take(self) -> float:
        """Take one and return 0, or return the seconds to wait."""
        wait_s = self.wait_s()
        if wait_s == 0:
            self._left -= 1
        return wait_s


class Buckets:
    """A bucket for each owner."""

    def __init__(self, most: float, refill_s: float, clock: Callable[[], float]) -> None:
        self._of_new = (most, refill_s, clock)
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def of(self, *owner: Hashable) -> Bucket:
        """Find the bucket of an owner, a full one for a new owner."""
        if owner not in self._buckets:
            self._buckets[owner] = Bucket(*self._of_new)
            if len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(owner)
        return self._buckets[owner]


class Shares:
    """Of something that is held for a while, at most so much for each owner at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        """How much is held by all."""
        return self._held.total()

    def take(self, owner: Hashable) -> bool:
        """Hold one more, if the owner may."""
        if self._held[owner] >= self._most:
            return False
        self._held[owner] += 1
        return True

    def give_back(self, owner: Hashable) -> None:
        """Hold one less."""
        self._held[owner] -= 1
        if self._held[owner] <= 0:
            del self._held[owner]


class FairShares:
    """Places for all owners together: each may hold up to twice as many as are free.

    One owner alone gets two thirds; what it leaves is there for others, who share it in the same way. Source: dynamic
    thresholds, Choudhury and Hahne, IEEE/ACM Transactions on Networking 6 (1998).
    """

    def __init__(self, most: int, most_of_one: int | None = None) -> None:
        """Make `most` places, of which one owner may hold `most_of_one`."""
        self._most = most
        self._most_of_one = most if most_of_one is None else most_of_one
        self._held: Counter[Hashable] = Counter()
        self._total = 0

    def take(self, owner: Hashable, places: int = 1) -> bool:
        """Hold so many more, if the owner may."""
        free = self._most - self._total
        if places > free or self._held[owner] + places > min(2 * free, self._most_of_one):
            return False
        self._held[owner] += places
        self._total += places
        return True

    def give_back(self, owner: Hashable, places: int = 1) -> None:
        """Hold so many less."""
        self._total -= places
        self._held[owner] -= places
        if self._held[owner] <= 0:
            del self._held[owner]


def gives_way(held: Collection[tuple[Hashable, T]], newcomer: Hashable) -> T | None:
    """Of places that are all taken, return the one for a newcomer: the first of the owner that has the most.

    None if no owner has two more than the newcomer: then all have the same, give or take one.
    """
    counts = Counter(owner for owner, _ in held)
    largest, count = counts.most_common(1)[0]
    if count - counts[newcomer] < 2:  # noqa: PLR2004 - with one more, the two would only change places
        return None
    return next(place for owner, place in held if owner == largest)
