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
from exporter.shared.labels import OTHER, FirstFew, bounded

MAX_MODELS: Final = 200
MAX_PAIRS: Final = 200
"""Of client and model."""


@dataclass(frozen=True, slots=True)
class Energy:
    """A host's energy in a scrape."""

    watch: EnergyWatch
    metrics: EnergyMetrics


class EnergyMetrics:
    """Counters and histograms of the requests of all daemons."""

    def __init__(self) -> None:
        self._series = Accumulators()
        self._models = FirstFew(MAX_MODELS)
        self._pairs = FirstFew(MAX_PAIRS)

    def count(self, daemon: str, model: str, client: str | None, joules: float) -> None:
        """Count one request."""
        model = bounded(model)
        if not self._models.admits((daemon, model)):
            model = OTHER
        self._series.distribution(m.REQUEST, daemon, model).observe(joules)
        if client is None:
            return
        client = bounded(client)
        if not self._pairs.admits((daemon, client, model)):
            client = model = OTHER
        self._series.count(m.CLIENT, daemon, client, model).inc(joules)

    def collect(self) -> Iterator[tuple[Metric, Family]]:
        """Give each metric that has samples with a family of it."""
        return self._series.collect()
