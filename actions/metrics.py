"""Metrics of the actions service: catalogued counters, gauges and histograms, in Prometheus' formats.

Label values are bounded in length, and a metric has at most MAX_SERIES series. prometheus-client writes the
formats.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from actions.domain.command import COMMANDS
from actions.domain.preflight import Verdict
from exporter.catalogue import Kind, Metric, mcp
from exporter.catalogue import actions as rows
from exporter.catalogue.self_metrics import OTLP
from exporter.shared.accept import encoder
from exporter.shared.labels import OTHER, bounded
from exporter.telemetry.batch_queue import Delivered

Labels = tuple[str, ...]

MAX_SERIES: Final = 1000
"""Of one metric. Past it, counters and histograms count under `other`, and gauges of new labels are not kept."""


@dataclass(slots=True)
class _Histogram:
    counts: list[int]
    sum: float = 0.0


@dataclass(slots=True)
class Metrics(Collector):
    """The numbers. Label values are given in the catalogue's order."""

    deliveries: dict[str, Delivered] = field(default_factory=dict)
    """What became of telemetry, by signal; empty without a receiver. Counted on by their owners."""
    _values: defaultdict[Metric, dict[Labels, float]] = field(default_factory=lambda: defaultdict(dict))
    _histograms: defaultdict[Metric, dict[Labels, _Histogram]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def __post_init__(self) -> None:
        """Begin counters whose labels are known at 0, so that a first increase is seen as one."""
        for action in COMMANDS:
            for outcome in ("done", "denied", "failed", "cancelled"):
                self.count(rows.ACTIONS, action, outcome, by=0)
            self.set(rows.OPERATIONS_IN_PROGRESS, 0, action)
        for verdict in Verdict:
            self.count(rows.PREFLIGHTS, verdict.value, by=0)
        for kind in ("intent", "outcome", "denied", "event"):
            self.count(rows.AUDIT_ENTRIES, kind, by=0)
        for reason in ("missing", "wrong", "scope", "limited", "too_fast"):
            self.count(rows.AUTH_FAILURES, reason, by=0)
        self.count(rows.AUDIT_DENIALS_SAMPLED, by=0)

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Add to a counter or a gauge."""
        values = self._values[metric]
        labels = _within(values, _checked(metric, labels))
        values[labels] = values.get(labels, 0.0) + by

    def set(self, metric: Metric, value: float | None, *labels: str) -> None:
        """Set a gauge; None removes it."""
        labels = _checked(metric, labels)
        values = self._values[metric]
        if value is None:
            values.pop(labels, None)
        elif labels in values or len(values) < MAX_SERIES:
            values[labels] = float(value)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Add to a histogram."""
        histograms = self._histograms[metric]
        labels = _within(histograms, _checked(metric, labels))
        histogram = histograms.setdefault(labels, _Histogram([0] * (len(metric.buckets) + 1)))
        histogram.counts[bisect.bisect_left(metric.buckets, value)] += 1
        histogram.sum += value

    def collect(self) -> Iterator[Family]:
        """Yield the families in catalogue order, for prometheus-client's encoders."""
        for signal, delivered in self.deliveries.items():
            counts = (delivered.exported, delivered.failed, delivered.dropped)
            for metric, count in zip(OTLP[signal], counts, strict=False):
                self._values[metric][()] = count
        for metric in (*rows.ROWS, *mcp.ROWS, *(row for signal in OTLP.values() for row in signal)):
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
        encode, content_type = encoder(accept)
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


def _checked(metric: Metric, labels: Labels) -> Labels:
    """Shorten values that are too long. Raises ValueError for a number of labels that the catalogue does not have."""
    if len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} has labels {metric.labels}, not {len(labels)} values")
    return tuple(map(bounded, labels))


def _within(known: Collection[Labels], labels: Labels) -> Labels:
    """Keep the number of series bounded."""
    return labels if labels in known or len(known) < MAX_SERIES else (OTHER,) * len(labels)
