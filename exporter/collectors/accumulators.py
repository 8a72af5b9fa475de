"""Counters and histograms that outlive a scrape, by catalogue row and label values.

Does not depend on events: a caller holds a series and adds to it, which costs an addition and a binary search. Series
without a value are absent, unless they were opened at 0.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

from exporter.catalogue import Metric

Labels = tuple[str, ...]
"""Values in the order of the row's labels."""
Pointer = dict[str, str] | None
"""Labels of an exemplar: where one of the events can be seen."""


class Count:
    """One series of a counter."""

    __slots__ = ("_exemplar", "_value")

    def __init__(self) -> None:
        self._value: float | None = None
        self._exemplar: Exemplar | None = None

    def inc(self, amount: float = 1.0, pointer: Pointer = None) -> None:
        """Add to it; 0 begins it."""
        self._value = (self._value or 0.0) + amount
        if pointer is not None:
            self._exemplar = Exemplar(pointer, amount, time.time())

    def samples(self, name: str, labels: dict[str, str]) -> Iterator[Sample]:
        """Give its sample, if anything was added."""
        if self._value is not None:
            yield Sample(name, labels, self._value, None, self._exemplar)


class Distribution:
    """One series of a histogram."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """`bounds` are the buckets' upper bounds, rising, without +Inf."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: dict[int, Exemplar] = {}
        self._sum = 0.0

    def observe(self, value: float, pointer: Pointer = None) -> None:
        """Count a value."""
        bucket = bisect_left(self._bounds, value)
        self._counts[bucket] += 1
        self._sum += value
        if pointer is not None:
            self._exemplars[bucket] = Exemplar(pointer, value, time.time())

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add what was counted elsewhere: a number for each bucket, +Inf's last, and the sum of the values."""
        self._counts = [own + more for own, more in zip(self._counts, counts, strict=True)]
        self._sum += total

    def samples(self, name: str, labels: dict[str, str]) -> Iterator[Sample]:
        """Give its samples, if anything was counted."""
        upto = 0
        if not any(self._counts):
            return
        for bucket, bound in enumerate((*self._bounds, float("inf"))):
            upto += self._counts[bucket]
            at = {**labels, "le": floatToGoString(bound)}  # type: ignore[no-untyped-call]
            yield Sample(f"{name}_bucket", at, upto, None, self._exemplars.get(bucket))
        yield Sample(f"{name}_count", labels, upto)
        yield Sample(f"{name}_sum", labels, self._sum)


class Accumulators:
    """The series of some catalogue rows. The caller bounds how many label values there are."""

    def __init__(self) -> None:
        self._series: dict[Metric, dict[Labels, Count | Distribution]] = {}

    def count(self, row: Metric, *labels: str) -> Count:
        """Return a series of a counter; it is absent until something is added."""
        known = self._series.setdefault(row, {})
        found = known.get(labels)
        if not isinstance(found, Count):
            found = known[labels] = Count()
        return found

    def distribution(self, row: Metric, *labels: str) -> Distribution:
        """Return a series of a histogram; it is absent until something is counted."""
        known = self._series.setdefault(row, {})
        found = known.get(labels)
        if not isinstance(found, Distribution):
            found = known[labels] = Distribution(row.buckets)
        return found

    def collect(self) -> Iterator[tuple[Metric, Family]]:
        """Yield each row that has samples, with prometheus-client's family of it."""
        for row, known in self._series.items():
            family = Family(row.name.removesuffix("_total"), row.help, row.kind)
            for labels, series in known.items():
                family.samples += series.samples(row.name, dict(zip(row.labels, labels, strict=True)))
            if family.samples:
                yield row, family
