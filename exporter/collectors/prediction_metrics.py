"""A sink that counts every prediction in counters and histograms, immediately and without loss.

Does not depend on the stream or an exposition format; collectors/predictions.py adds the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.metrics_core import Metric as Family

from exporter.catalogue import Metric, engine, self_metrics
from exporter.catalogue import log_stream as m
from exporter.collectors.accumulators import Accumulators, Count
from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.llmster.state import Snapshot
from exporter.pipeline.log_stream import EventFlow
from exporter.pipeline.operations import Operation
from exporter.pipeline.predictions import FinishedReason, Prediction
from exporter.pipeline.recent import RecentPredictions
from exporter.shared import labels

MAX_TOOLS: Final = 50
"""Tool names counted apart per daemon; a model can make up any number of them."""

MAX_MODELS: Final = 200

_TOKENS: Final = (m.PROMPT_TOKENS, m.GENERATION_TOKENS, m.REASONING_TOKENS, m.DRAFT_TOKENS, m.ACCEPTED_TOKENS)
"""Added for each prediction, in this order."""
_DISTRIBUTIONS: Final = (
    m.TTFT,
    m.PER_TOKEN,
    m.E2E,
    m.REASONING_SECONDS,
    m.REQUEST_PROMPT_TOKENS,
    m.REQUEST_GENERATION_TOKENS,
    m.TOKENS_PER_SECOND,
    m.CONTEXT_UTILIZATION,
)
"""Observed of each prediction, in this order."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One daemon's log stream in a scrape: its counts and its metrics."""

    daemon: str
    flow: EventFlow
    metrics: PredictionMetrics
    model_key: Callable[[str], str]
    """Maps an instance identifier to the model's key."""
    recent: RecentPredictions = field(default_factory=lambda: RecentPredictions(str))
    take_operation: Callable[[Operation], None] | None = None
    """Takes what the tap saw besides predictions; None where no spans are sent."""


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
        self._models: dict[str, _Model] = {}
        self._tools = labels.FirstFew(MAX_TOOLS)
        self._series = Accumulators()
        self._daemon = daemon

    def take_prediction(self, prediction: Prediction) -> None:
        """Count a finished prediction; what the daemon did not say is not counted."""
        key = self._model_key(prediction.model)
        model = self._models.get(key) or self._model(key)
        pointer = (
            {"trace_id": f"{prediction.trace_id:032x}", "span_id": f"{prediction.span_id:016x}"}
            if self._exemplars
            else None
        )
        model.requests[prediction.finished_reason].inc(1, pointer)
        if prediction.unrecognised_markup:
            model.unrecognised.inc()
        rate = prediction.tokens_per_second
        added = (
            prediction.prompt_tokens,
            prediction.predicted_tokens,
            prediction.reasoning_tokens_estimated,
            prediction.draft_tokens,
            prediction.draft_tokens_accepted,
        )
        for count, tokens in zip(model.tokens, added, strict=True):
            if tokens is not None:
                count.inc(tokens)
        observed = (
            prediction.time_to_first_token_s,
            1 / rate if rate else None,
            prediction.duration_s,
            prediction.reasoning_s or None,
            prediction.prompt_tokens,
            prediction.predicted_tokens,
            rate,
            prediction.context_utilization,
        )
        for distribution, value in zip(model.distributions, observed, strict=True):
            if value is not None:
                distribution.observe(value, pointer)
        for tool in prediction.tool_calls:
            self._series.count(m.TOOL_CALLS, self._daemon, model.name, self._tools.name(tool)).inc()

    def expect(self, snapshot: Snapshot) -> None:
        """Start the counters of loaded models at 0: the first error of a model is an increase then."""
        for instance in snapshot.instances:
            if instance.info.type == "llm":
                self._model(instance.info.model_key)

    def take_queue_time(self, instance: str, waited_s: float) -> None:
        """Count the time that a request waited for a slot of an instance."""
        self._model(self._model_key(instance)).queue_time.observe(waited_s)

    def _model(self, key: str) -> _Model:
        """Return the series of a model, whose label is bounded in number and length: past the limit it is `other`."""
        name = labels.bounded(key)
        if name not in self._models and len(self._models) >= MAX_MODELS:
            name = labels.OTHER
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = _Model(self._series, self._daemon, name)
        return model

    def take_log(self, _event: ServerLog | RuntimeLog) -> None:
        """Log lines are counted where they are read."""

    def collect(self) -> Iterator[tuple[Metric, Family]]:
        """Give each metric that has samples with prometheus-client's family of it."""
        return self._series.collect()


class _Model:
    """The series of one model."""

    def __init__(self, accumulators: Accumulators, daemon: str, name: str) -> None:
        def count(row: Metric, *more: str) -> Count:
            return accumulators.count(row, daemon, name, *more)

        self.name = name
        self.requests = {reason: count(m.REQUESTS, reason.value) for reason in FinishedReason}
        self.unrecognised = count(self_metrics.UNRECOGNISED_MARKUP)
        for opened in (*self.requests.values(), self.unrecognised):
            opened.inc(0)
        self.tokens = tuple(count(row) for row in _TOKENS)
        self.distributions = tuple(accumulators.distribution(row, daemon, name) for row in _DISTRIBUTIONS)
        self.queue_time = accumulators.distribution(engine.QUEUE_TIME, daemon, name)
