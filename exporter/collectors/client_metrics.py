"""Counts requests, latencies and tokens by client, and the error of estimates, from the reports of a tap.

Does not depend on the tap or an exposition format; collectors/tap.py adds the samples. Labels stay bounded: a limit
of pairs of client and model, the rest under `other`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.metrics_core import Metric as Family

from exporter.catalogue import Metric
from exporter.catalogue import tap as m
from exporter.collectors.accumulators import Accumulators
from exporter.pipeline.predictions import Prediction
from exporter.shared.labels import OTHER, FirstFew, bounded
from exporter.tap.claims import Claims
from exporter.tap.reader import TapReader
from exporter.tap.report import Report

MAX_PAIRS: Final = 200
"""Of client and model: each has two histograms."""
MAX_MODELS: Final = 50
_STATUSES: Final = range(100, 600)


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
        self._models = FirstFew(MAX_MODELS)
        self._pairs = FirstFew(MAX_PAIRS)
        self._series = Accumulators()

    def take_report(self, report: Report) -> None:
        """Count a finished request; settle() adds its tokens."""
        client, model = self._pair(report.client, report.model, named=report.is_prediction)
        code = str(report.status) if report.status in _STATUSES else "none"
        self._series.count(m.REQUESTS, self._daemon, client, report.route, model, code).inc()
        if report.cancelled:
            self._series.count(m.CANCELLED, self._daemon, client).inc()
        if report.cut:
            self._series.count(m.CUT, self._daemon, client).inc()
        if not report.is_prediction:
            return
        self._series.distribution(m.E2E, self._daemon, client, model).observe(report.e2e_s)
        if report.ttft_s is not None:
            self._series.distribution(m.TTFT, self._daemon, client, model).observe(report.ttft_s)
        if report.queue_s is not None:
            self._series.distribution(m.QUEUE, self._daemon, model).observe(report.queue_s)
        if len(report.gaps) == len(m.GAPS.buckets) + 1:
            self._series.distribution(m.GAPS, self._daemon, model).add(report.gaps, report.gaps_s)

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
                self._series.count(m.TOKENS, self._daemon, client, model, type_).inc(tokens)

    def estimate_error(self, model: str, error: float) -> None:
        """Observe how far an estimated share of reasoning was off, 0 to 1."""
        self._series.distribution(m.ESTIMATE_ERROR, self._daemon, self._model(model)).observe(error)

    def collect(self) -> Iterator[tuple[Metric, Family]]:
        """Give each metric that has samples with a family of it."""
        return self._series.collect()

    def _pair(self, client: str, model: str, *, named: bool) -> tuple[str, str]:
        """Bound the labels. A model counts by name only where it wrote: a request may name anything."""
        pair = bounded(client), self._model(model) if named and model else ""
        return pair if self._pairs.admits(pair) else (OTHER, OTHER)

    def _model(self, identifier: str) -> str:
        return self._models.name(self._model_key(identifier))
