"""Counts the energy of single requests: a distribution by model, and sums by client.

Does not depend on the ledger or an exposition format; collectors/energy.py adds the samples. Labels stay bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.metrics_core import Metric as Family

from exporter.catalogue import Metric
from exporter.catalogue import energy as m
from exporter.collectors.accumulators import Accumulators
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
        self._series = Accumulators()
        self._models: set[tuple[str, str]] = set()
        self._pairs: set[tuple[str, str, str]] = set()

    def count(self, daemon: str, model: str, client: str | None, joules: float) -> None:
        """Count one request."""
        if (daemon, model) not in self._models and len(self._models) >= MAX_MODELS:
            model = OTHER
        self._models.add((daemon, model))
        self._series.distribution(m.REQUEST, daemon, model).observe(joules)
        if client is None:
            return
        if (daemon, client, model) not in self._pairs and len(self._pairs) >= MAX_PAIRS:
            client = model = OTHER
        self._pairs.add((daemon, client, model))
        self._series.count(m.CLIENT, daemon, client, model).inc(joules)

    def collect(self) -> Iterator[tuple[Metric, Family]]:
        """Give each metric that has samples with a family of it."""
        return self._series.collect()
