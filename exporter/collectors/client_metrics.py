"""Counts what the tap saw: requests, latencies and tokens by client, and how far estimates are off.

Knows no tap and no exposition; collectors/tap.py hands the samples out. Labels stay bounded: so many pairs of client
and model, the rest under `other`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import isinf
from typing import Final

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric as Family

from exporter.catalogue import Metric
from exporter.catalogue import tap as m
from exporter.pipeline.predictions import Prediction
from exporter.tap.claims import Claims
from exporter.tap.reader import TapReader
from exporter.tap.report import Report

MAX_PAIRS: Final = 200
"""Of client and model: each has two histograms."""
MAX_MODELS: Final = 50
OTHER: Final = "other"
_STATUSES: Final = range(100, 600)
_COUNTERS: Final = (m.REQUESTS, m.CANCELLED, m.CUT, m.TOKENS)
_HISTOGRAMS: Final = (m.TTFT, m.E2E, m.QUEUE, m.ESTIMATE_ERROR)


@dataclass(frozen=True, slots=True)
class Tap:
    """One daemon's tap in a scrape."""

    daemon: str
    reader: TapReader
    claims: Claims
    metrics: ClientMetrics


class ClientMetrics:
    """Counters and histograms of one daemon's tap."""

    def __init__(
        self, daemon: str, *, model_key: Callable[[str], str] = lambda identifier: identifier
    ) -> None:
        """`model_key` maps an instance identifier to the model's key."""
        self._daemon = daemon
        self._model_key = model_key
        self._models: set[str] = set()
        self._pairs: set[tuple[str, str]] = set()
        self._counters = {row: Counter(row.name, row.help, row.labels, registry=None) for row in _COUNTERS}
        self._histograms = {
            row: Histogram(row.name, row.help, row.labels, buckets=row.buckets, registry=None)
            for row in _HISTOGRAMS
        }
        self._counter = cache(lambda row, *labels: self._counters[row].labels(daemon, *labels))
        self._histogram = cache(lambda row, *labels: self._histograms[row].labels(daemon, *labels))
        self._gaps: dict[str, tuple[list[int], list[float]]] = {}  # by model: buckets, and the sum in a cell

    def take_report(self, report: Report) -> None:
        """Count a request that is over; its tokens come with settle()."""
        client, model = self._pair(report.client, report.model, named=report.is_prediction)
        code = str(report.status) if report.status in _STATUSES else "none"
        self._counter(m.REQUESTS, client, report.route, model, code).inc()
        if report.cancelled:
            self._counter(m.CANCELLED, client).inc()
        if report.cut:
            self._counter(m.CUT, client).inc()
        if not report.is_prediction:
            return
        self._histogram(m.E2E, client, model).observe(report.e2e_s)
        if report.ttft_s is not None:
            self._histogram(m.TTFT, client, model).observe(report.ttft_s)
        if report.queue_s is not None:
            self._histogram(m.QUEUE, model).observe(report.queue_s)
        if len(report.gaps) == len(m.GAPS.buckets) + 1:
            counts, total = self._gaps.setdefault(model, ([0] * len(report.gaps), [0.0]))
            for index, count in enumerate(report.gaps):
                counts[index] += count
            total[0] += report.gaps_s

    def settle(self, report: Report, prediction: Prediction | None) -> None:
        """Count the tokens of a prediction: the log stream's counts where there is a report, else the answer's."""
        client, model = self._pair(report.client, report.model, named=True)
        usage, share = report.usage, report.reasoning_share
        received = usage.input if prediction is None else prediction.prompt_tokens
        written = usage.output if prediction is None else prediction.predicted_tokens
        cached = usage.cached if prediction is None else prediction.cached_tokens
        reasoning = usage.reasoning
        if reasoning is None and written is not None and share is not None:
            reasoning = round(written * share)
        for type_, tokens in (
            ("input", received),
            ("output", written),
            ("cached", cached),
            ("reasoning", reasoning),
        ):
            if tokens is not None:
                self._counter(m.TOKENS, client, model, type_).inc(tokens)

    def estimate_error(self, model: str, error: float) -> None:
        """Observe how far an estimated share of reasoning was off, 0 to 1."""
        self._histogram(m.ESTIMATE_ERROR, self._model(model)).observe(error)

    def collect(self) -> Iterator[tuple[Metric, Family]]:
        """Yield each metric that has samples with a family of it."""
        for row, metric in (*self._counters.items(), *self._histograms.items()):
            for family in metric.collect():
                if family.samples:
                    yield row, family
        if self._gaps:
            yield m.GAPS, self._gap_family()

    def _gap_family(self) -> Family:
        family = Family(m.GAPS.name, m.GAPS.help, "histogram")
        bounds = (*m.GAPS.buckets, float("inf"))
        for model, (counts, total) in self._gaps.items():
            labels = {"daemon": self._daemon, "model": model}
            upto = 0
            for bound, count in zip(bounds, counts, strict=True):
                upto += count
                family.add_sample(
                    f"{m.GAPS.name}_bucket", {**labels, "le": "+Inf" if isinf(bound) else repr(bound)}, upto
                )
            family.add_sample(f"{m.GAPS.name}_count", labels, upto)
            family.add_sample(f"{m.GAPS.name}_sum", labels, total[0])
        return family

    def _pair(self, client: str, model: str, *, named: bool) -> tuple[str, str]:
        """Bound the labels. A model counts by name only where it wrote: a request may name anything."""
        pair = client, self._model(model) if named and model else ""
        if pair not in self._pairs:
            if len(self._pairs) >= MAX_PAIRS:
                return OTHER, OTHER
            self._pairs.add(pair)
        return pair

    def _model(self, identifier: str) -> str:
        model = self._model_key(identifier)
        if model not in self._models:
            if len(self._models) >= MAX_MODELS:
                return OTHER
            self._models.add(model)
        return model
