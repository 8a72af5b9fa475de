"""Counts the energy of single requests: a distribution by model, and sums by client.

Knows no ledger and no exposition; collectors/energy.py hands the samples out. Labels stay bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric as Family

from exporter.catalogue import Metric
from exporter.catalogue import energy as m
from exporter.pipeline.energy_watch import EnergyWatch

MAX_MODELS: Final = 200
MAX_PAIRS: Final = 200
"""Of client and model."""
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class Energy:
    """A host's energy in a scrape."""

    watch: EnergyWatch
    metrics: EnergyMetrics


class EnergyMetrics:
    """Counters and histograms of the requests of all daemons."""

    def __init__(self) -> None:
        self._requests = Histogram(
            m.REQUEST.name, m.REQUEST.help, m.REQUEST.labels, buckets=m.REQUEST.buckets, registry=None
        )
        self._clients = Counter(m.CLIENT.name, m.CLIENT.help, m.CLIENT.labels, registry=None)
        self._models: set[tuple[str, str]] = set()
        self._pairs: set[tuple[str, str, str]] = set()

    def count(self, daemon: str, model: str, client: str | None, joules: float) -> None:
        """Count one request."""
        if (daemon, model) not in self._models and len(self._models) >= MAX_MODELS:
            model = OTHER
        self._models.add((daemon, model))
        self._requests.labels(daemon, model).observe(joules)
        if client is None:
            return
        if (daemon, client, model) not in self._pairs and len(self._pairs) >= MAX_PAIRS:
            client = model = OTHER
        self._pairs.add((daemon, client, model))
        self._clients.labels(daemon, client, model).inc(joules)

    def collect(self) -> Iterator[tuple[Metric, Family]]:
        """Yield each metric that has samples with a family of it."""
        for row, metric in ((m.REQUEST, self._requests), (m.CLIENT, self._clients)):
            for family in metric.collect():
                if family.samples:
                    yield row, family
