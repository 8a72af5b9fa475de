"""A sink that counts: every prediction becomes counters and histograms, at once and without loss.

Knows no stream and no exposition; collectors/predictions.py hands the samples out. prometheus-client keeps the
numbers, because it keeps exemplars with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric as Family

from exporter.catalogue import Metric, engine, self_metrics
from exporter.catalogue import log_stream as m
from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.llmster.state import Snapshot
from exporter.pipeline.log_stream import EventFlow
from exporter.pipeline.predictions import FinishedReason, Prediction
from exporter.pipeline.recent import RecentPredictions
from exporter.shared import labels

MAX_TOOLS: Final = 50
"""Tool names counted apart per daemon; a model can make up any number of them."""

MAX_MODELS: Final = 200

_OTHER: Final = "other"
_COUNTERS: Final = (
    m.REQUESTS,
    m.PROMPT_TOKENS,
    m.GENERATION_TOKENS,
    m.REASONING_TOKENS,
    m.DRAFT_TOKENS,
    m.ACCEPTED_TOKENS,
    m.TOOL_CALLS,
    self_metrics.UNRECOGNISED_MARKUP,
)
_HISTOGRAMS: Final = (
    m.TTFT,
    m.PER_TOKEN,
    m.E2E,
    m.REASONING_SECONDS,
    m.REQUEST_PROMPT_TOKENS,
    m.REQUEST_GENERATION_TOKENS,
    m.TOKENS_PER_SECOND,
    m.CONTEXT_UTILIZATION,
    engine.QUEUE_TIME,
)


@dataclass(frozen=True, slots=True)
class Stream:
    """One daemon's log stream in a scrape: its counts and its metrics."""

    daemon: str
    flow: EventFlow
    metrics: PredictionMetrics
    model_key: Callable[[str], str]
    """Maps an instance identifier to the model's key."""
    recent: RecentPredictions = field(default_factory=lambda: RecentPredictions(str))


class PredictionMetrics:
    """Counters and histograms of one daemon's predictions."""

    name = "metrics"

    def __init__(
        self,
        daemon: str,
        *,
        model_key: Callable[[str], str] = lambda identifier: identifier,
        exemplars: bool = False,
    ) -> None:
        """`model_key` maps an instance identifier to the model's key; `exemplars` point to traces, if any are sent."""
        self._model_key = model_key
        self._exemplars = exemplars
        self._models: set[str] = set()
        self._opened: set[str] = set()
        self._tools: set[str] = set()
        self._counters = {row: Counter(row.name, row.help, row.labels, registry=None) for row in _COUNTERS}
        self._histograms = {
            row: Histogram(row.name, row.help, row.labels, buckets=row.buckets, registry=None)
            for row in _HISTOGRAMS
        }
        # prometheus-client looks children up by checking every label again, which costs more than counting.
        self._counter = cache(lambda row, *labels: self._counters[row].labels(daemon, *labels))
        self._histogram = cache(lambda row, *labels: self._histograms[row].labels(daemon, *labels))

    def take_prediction(self, prediction: Prediction) -> None:
        """Count a finished prediction; what the daemon did not say is not counted."""
        model = _bounded(self._model_key(prediction.model), self._models, MAX_MODELS)
        exemplar = (
            {"trace_id": f"{prediction.trace_id:032x}", "span_id": f"{prediction.span_id:016x}"}
            if self._exemplars
            else None
        )
        self._open(model)
        self._counter(m.REQUESTS, model, prediction.finished_reason.value).inc(1, exemplar)
        if prediction.unrecognised_markup:
            self._counter(self_metrics.UNRECOGNISED_MARKUP, model).inc()
        for row, tokens in (
            (m.PROMPT_TOKENS, prediction.prompt_tokens),
            (m.GENERATION_TOKENS, prediction.predicted_tokens),
            (m.REASONING_TOKENS, prediction.reasoning_tokens_estimated),
            (m.DRAFT_TOKENS, prediction.draft_tokens),
            (m.ACCEPTED_TOKENS, prediction.draft_tokens_accepted),
        ):
            if tokens is not None:
                self._counter(row, model).inc(tokens)
        for tool in prediction.tool_calls:
            name = _bounded(tool, self._tools, MAX_TOOLS)
            self._counter(m.TOOL_CALLS, model, name).inc()
        for row, value in self._observations(prediction):
            if value is not None:
                self._histogram(row, model).observe(value, exemplar)

    def expect(self, snapshot: Snapshot) -> None:
        """Start the counters of loaded models at 0: the first error of a model is an increase then."""
        for instance in snapshot.instances:
            if instance.info.type == "llm":
                self._open(_bounded(instance.info.model_key, self._models, MAX_MODELS))

    def _open(self, model: str) -> None:
        if model not in self._opened:
            self._opened.add(model)
            for reason in FinishedReason:
                self._counter(m.REQUESTS, model, reason.value)
            self._counter(self_metrics.UNRECOGNISED_MARKUP, model)

    def take_queue_time(self, instance: str, waited_s: float) -> None:
        """Count the time that a request waited for a slot of an instance."""
        model = _bounded(self._model_key(instance), self._models, MAX_MODELS)
        self._histogram(engine.QUEUE_TIME, model).observe(waited_s)

    def take_log(self, _event: ServerLog | RuntimeLog) -> None:
        """Log lines are counted where they are read."""

    def collect(self) -> Iterator[tuple[Metric, Family]]:
        """Yield each metric that has samples with prometheus-client's family of it."""
        for row, metric in (*self._counters.items(), *self._histograms.items()):
            for family in metric.collect():
                if family.samples:
                    yield row, family

    @staticmethod
    def _observations(prediction: Prediction) -> Iterator[tuple[Metric, float | None]]:
        rate = prediction.tokens_per_second
        yield m.TTFT, prediction.time_to_first_token_s
        yield m.PER_TOKEN, 1 / rate if rate else None
        yield m.E2E, prediction.duration_s
        yield m.REASONING_SECONDS, prediction.reasoning_s or None
        yield m.REQUEST_PROMPT_TOKENS, prediction.prompt_tokens
        yield m.REQUEST_GENERATION_TOKENS, prediction.predicted_tokens
        yield m.TOKENS_PER_SECOND, rate
        yield m.CONTEXT_UTILIZATION, prediction.context_utilization


def _bounded(name: str, known: set[str], limit: int) -> str:
    """Keep a label's values bounded in number and length: past the limit, new names are `other`."""
    name = labels.bounded(name)
    if name not in known:
        if len(known) >= limit:
            return _OTHER
        known.add(name)
    return name
