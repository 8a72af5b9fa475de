"""Our own /metrics: catalogued counters, gauges and histograms of this process, in Prometheus' formats.

Knows no action; the service counts, this keeps and writes. prometheus-client writes the formats.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from actions.domain.preflight import Verdict
from exporter.catalogue import Kind, Metric, mcp
from exporter.catalogue import actions as rows

Labels = tuple[str, ...]


@dataclass(slots=True)
class _Histogram:
    counts: list[int]
    sum: float = 0.0


@dataclass(slots=True)
class Metrics(Collector):
    """The numbers. Label values are given in the catalogue's order."""

    _values: defaultdict[Metric, dict[Labels, float]] = field(default_factory=lambda: defaultdict(dict))
    _histograms: defaultdict[Metric, dict[Labels, _Histogram]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def __post_init__(self) -> None:
        """Begin counters whose labels are known at 0, so that a first increase is seen as one."""
        for action in ("load", "eject", "eject_all", "download", "probe"):
            for outcome in ("done", "denied", "failed", "cancelled"):
                self.count(rows.ACTIONS, action, outcome, by=0)
            self.set(rows.OPERATIONS_IN_PROGRESS, 0, action)
        for verdict in Verdict:
            self.count(rows.PREFLIGHTS, verdict.value, by=0)
        for kind in ("intent", "outcome", "denied", "event"):
            self.count(rows.AUDIT_ENTRIES, kind, by=0)
        for reason in ("missing", "wrong", "scope", "limited", "too_fast"):
            self.count(rows.AUTH_FAILURES, reason, by=0)

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Add to a counter (or a gauge that goes both ways)."""
        self._check(metric, labels)
        self._values[metric][labels] = self._values[metric].get(labels, 0.0) + by

    def set(self, metric: Metric, value: float | None, *labels: str) -> None:
        """Set a gauge; None removes it."""
        self._check(metric, labels)
        if value is None:
            self._values[metric].pop(labels, None)
        else:
            self._values[metric][labels] = float(value)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Add to a histogram."""
        self._check(metric, labels)
        histogram = self._histograms[metric].setdefault(labels, _Histogram([0] * (len(metric.buckets) + 1)))
        histogram.counts[bisect.bisect_left(metric.buckets, value)] += 1
        histogram.sum += value

    def collect(self) -> Iterator[Family]:
        """Yield the families in catalogue order, as prometheus-client's encoders want them."""
        for metric in (*rows.ROWS, *mcp.ROWS):
            family = Family(metric.name.removesuffix("_total"), metric.help, metric.kind.value)
            if metric.kind is Kind.HISTOGRAM:
                family.samples = list(self._histogram_samples(metric))
            else:
                family.samples = [
                    Sample(metric.name, dict(zip(metric.labels, labels, strict=True)), value)
                    for labels, value in self._values[metric].items()
                ]
            if family.samples:
                yield family

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Write everything in the format the scraper asks for; returns body and content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def _histogram_samples(self, metric: Metric) -> Iterator[Sample]:
        bounds = [*(str(float(bound)) for bound in metric.buckets), "+Inf"]
        for values, histogram in self._histograms[metric].items():
            labels = dict(zip(metric.labels, values, strict=True))
            total = 0
            for bound, count in zip(bounds, histogram.counts, strict=True):
                total += count
                yield Sample(f"{metric.name}_bucket", {**labels, "le": bound}, total)
            yield Sample(f"{metric.name}_count", labels, total)
            yield Sample(f"{metric.name}_sum", labels, histogram.sum)

    @staticmethod
    def _check(metric: Metric, labels: Labels) -> None:
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} has labels {metric.labels}, not {len(labels)} values")
