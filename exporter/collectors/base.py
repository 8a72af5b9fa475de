"""The scrape that a collector reads, the samples that it adds, and the runner that isolates its failures.

A collector is a function that only reads the scrape and only adds catalogued samples. The runner turns its failure
into `daemonpulse_collector_success 0`, so that one bug never affects other metrics.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Protocol

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

from exporter.catalogue import CATALOGUE, Metric, self_metrics
from exporter.collectors.client_metrics import Tap
from exporter.collectors.energy_metrics import Energy
from exporter.collectors.prediction_metrics import Stream
from exporter.hardware.errors import HardwareError
from exporter.pipeline.host_snapshot import HostSnapshot
from exporter.pipeline.snapshots import DaemonReading
from exporter.shared.labels import MAX_CHARS, bounded
from exporter.shared.process import OwnProcess

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchedDaemon:
    """One daemon in a scrape: what was read of it now, with its running counts."""

    reading: DaemonReading

    @property
    def name(self) -> str:
        """The value of the label `daemon`."""
        return self.reading.name


class Deliveries(Protocol):
    """What became of what was handed to an OTLP receiver."""

    exported: int
    failed: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Scrape:
    """The input of collectors, read before they run: they do no I/O."""

    now_s: float
    """Our wall clock, seconds since the epoch."""
    daemons: tuple[WatchedDaemon, ...]
    streams: tuple[Stream, ...] = ()
    """The log streams that are read, of these daemons or of a recording."""
    taps: tuple[Tap, ...] = ()
    """The taps that are read, of these daemons."""
    deliveries: Mapping[str, Deliveries] = field(default_factory=dict)
    """By signal: spans, logs, metrics; only the signals that have a receiver."""
    host: HostSnapshot | None = None
    """The exporter's host; None when only one daemon is requested."""
    energy: Energy | None = None
    """The energy of the host's GPUs."""
    own: OwnProcess | None = None
    """This process; None where the system does not report it."""


class Samples:
    """The samples of one scrape. Takes catalogued metrics with exactly their labels, and nothing else."""

    def __init__(self) -> None:
        self._open: dict[Metric, tuple[Family, AbstractSet[str], Callable[[Sample], None]]] = {}

    def add(self, metric: Metric, value: float | None, /, **labels: str) -> None:
        """Add one sample; None is missing data and adds nothing.

        Raises KeyError for a metric that is not in the catalogue and ValueError for wrong labels.
        """
        if value is None:
            return
        _, names, append = self._open.get(metric) or self._start(metric)
        if labels.keys() != names:
            raise _wrong_labels(metric, labels)
        append(_new(Sample, (metric.name, _short(labels), float(value), None, None, None)))

    def add_all(self, values: Mapping[Metric, float | None], /, **labels: str) -> None:
        """Add a sample each of metrics that have the same labels; None adds nothing. Raises what add() does."""
        checked = None
        short = _short(labels)
        for metric, value in values.items():
            if value is None:
                continue
            _, names, append = self._open.get(metric) or self._start(metric)
            if names is not checked:
                if labels.keys() != names:
                    raise _wrong_labels(metric, labels)
                checked = names
            append(_new(Sample, (metric.name, short, float(value), None, None, None)))

    def add_by(
        self, metric: Metric, label: str, values: Mapping[Any, float | None], /, **labels: str
    ) -> None:
        """Add a sample for each value of one more label; None adds nothing. Raises what add() does."""
        short = _short(labels)
        append: Callable[[Sample], None] | None = None
        for key, value in values.items():
            if value is None:
                continue
            if append is None:
                _, names, append = self._open.get(metric) or self._start(metric)
                if {*labels, label} != names:
                    raise _wrong_labels(metric, (*labels, label))
            text = bounded(str(key))
            append(_new(Sample, (metric.name, {**short, label: text}, float(value), None, None, None)))

    def adopt(self, metric: Metric, family: Family) -> None:
        """Add what Accumulators keeps of a catalogued counter or histogram, exemplars included.

        Raises KeyError as add() does, and ValueError for another metric's family.
        """
        own, names, append = self._open.get(metric) or self._start(metric)
        if family.name != own.name:
            raise ValueError(f"{family.name} is not {own.name}")
        for sample in family.samples:
            if sample.labels.keys() - {"le"} != names:
                raise _wrong_labels(metric, sample.labels)
            append(sample)

    def collect(self) -> Iterator[Family]:
        """Yield the families in catalogue order, for prometheus-client's exposition."""
        return (self._open[row][0] for row in CATALOGUE if row in self._open)

    def merge(self, other: Samples) -> None:
        """Take over another's families. The two must not share a metric."""
        self._open.update(other._open)

    def _start(self, metric: Metric) -> tuple[Family, AbstractSet[str], Callable[[Sample], None]]:
        if metric not in _CATALOGUED:
            raise KeyError(f"{metric.name} is not in the catalogue; add its row there first")
        family = Family(metric.name.removesuffix("_total"), metric.help, metric.kind)
        self._open[metric] = opened = (family, _names(metric.labels), family.samples.append)
        return opened


_CATALOGUED: Final = frozenset(CATALOGUE)
_new: Final = tuple.__new__
"""Makes a Sample as its class does (name, labels, value; no timestamp, exemplar, native histogram) at half the cost."""

_names: Final = cache(frozenset[str])
"""One set for all metrics of the same labels, so that they compare by identity."""


def _short(values: dict[str, str]) -> dict[str, str]:
    """Bound the length of label values, which may come from outside."""
    for value in values.values():  # a loop: max() and map() take three times as long
        if len(value) > MAX_CHARS:
            return {name: bounded(value) for name, value in values.items()}
    return values


def _wrong_labels(metric: Metric, labels: Iterable[str]) -> ValueError:
    return ValueError(f"{metric.name} has labels {metric.labels}, not {tuple(labels)}")


class Collect(Protocol):
    """What a collector is: reads the scrape, adds samples, keeps nothing, waits for nothing."""

    def __call__(self, scrape: Scrape, out: Samples, /) -> None:
        """Add this collector's samples to `out`."""


def run(collectors: Iterable[tuple[str, Collect]], scrape: Scrape) -> Samples:
    """Run each collector by itself; a failing one loses its samples and is reported as failed."""
    everything = Samples()
    for name, collect in collectors:
        own = Samples()
        started = time.perf_counter()
        try:
            collect(scrape, own)
        except HardwareError as problem:
            success = 0
            log.debug("collector got no answer", extra={"collector": name, "problem": str(problem)})
        except Exception:
            success = 0
            log.exception("collector failed", extra={"collector": name})
        else:
            success = 1
            everything.merge(own)
        took_s = time.perf_counter() - started
        everything.add_all(
            {self_metrics.COLLECTOR_SUCCESS: success, self_metrics.COLLECTOR_DURATION: took_s}, collector=name
        )
    return everything
