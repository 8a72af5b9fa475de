"""Measures what a process holds, and says what of it grew that should not have.

Knows nothing of what is soaked. Counts, not sizes, where there is something to count: one forgotten string per event
shows among the blocks long before it shows in RSS.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field, fields

import psutil

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the process held at one quiet moment. The names are those of the limits."""

    rss_mb: float
    """Resident memory: the only measure that sees large buffers and what C libraries keep."""
    blocks: int
    """Python's small memory blocks: everything of up to 512 bytes, strings and numbers too."""
    objects: int
    """Objects the garbage collector follows: containers, instances, frames, sockets."""
    tasks: int
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> Footprint:
        """Measure, after garbage that only waits for the collector is gone."""
        gc.collect()
        process = psutil.Process()
        return cls(
            rss_mb=process.memory_info().rss / MEGABYTE,
            blocks=sys.getallocatedblocks(),
            objects=len(gc.get_objects()),
            tasks=_tasks(),
            descriptors=process.num_fds(),
            threads=threading.active_count(),
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """By how much each measure may end above where it was after the warm-up."""

    rss_mb: float = 4.0
    blocks: float = 2_000
    objects: float = 500
    tasks: float = 0
    descriptors: float = 0
    threads: float = 0


@dataclass(slots=True)
class Curve:
    """Footprints over one soak. The first shows the warm-up, in which caches fill; judged is what comes after it."""

    name: str
    limits: Limits = field(default_factory=Limits)
    points: list[tuple[str, Footprint]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What else was measured on the way, for people."""

    def sample(self, label: str) -> None:
        """Take a footprint at a quiet moment."""
        self.points.append((label, Footprint.now()))

    def leaks(self) -> list[str]:
        """Name each measure that ends higher than its limit above the second point; empty when all are flat."""
        first, last = self.points[1][1], self.points[-1][1]
        found: list[str] = []
        for each in fields(Limits):
            start, end, limit = (getattr(of, each.name) for of in (first, last, self.limits))
            if end - start > limit:
                found.append(
                    f"{self.name}: {each.name} grew from {start:,.10g} to {end:,.10g}, limit +{limit:g}"
                )
        return found

    def table(self) -> str:
        """Write the curve for people."""
        lines = [
            f"{self.name:<30} {'RSS':>9} {'blocks':>9} {'objects':>8} {'tasks':>5} {'fds':>4} {'threads':>7}"
        ]
        lines += [
            f"  {label:<28} {at.rss_mb:6.1f} MB {at.blocks:9,} {at.objects:8,} {at.tasks:5} {at.descriptors:4}"
            f" {at.threads:7}"
            for label, at in self.points
        ]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)


def kinds() -> Counter[str]:
    """Count the collector's objects by type: the difference of two of these names a leak."""
    return Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # outside of a loop
        return 0
