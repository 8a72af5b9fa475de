"""One catalogued metric: name, kind, help, labels, unit, buckets, source. Validated at definition.

Does not depend on values or a metrics library: collectors fill metrics, dashboards query them.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")


class Kind(enum.StrEnum):
    """Prometheus' metric types that are used here."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One row of the catalogue. Two rows are the same metric only if they are the same object."""

    name: str
    """As queried, `_total` included."""
    kind: Kind
    help: str
    labels: tuple[str, ...]
    source: str
    """Where the number comes from: an endpoint, a file, an NVML call, or "daemonpulse"."""
    unit: str = ""
    """Base unit as Prometheus names it (seconds, bytes, ratio, tokens...), "" for a pure number."""
    buckets: tuple[float, ...] = ()
    needs: tuple[str, ...] = ()
    """Fields of the daemon's answers and events without which it vanishes: `call:path`, list entries sharing a path."""

    def __post_init__(self) -> None:
        """Refuse a row that promtool or a reader would stumble over. Raises ValueError."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name}: a metric name is lower case words joined by _")
        if (self.kind is Kind.COUNTER) != self.name.endswith("_total"):
            raise ValueError(f"{self.name}: _total belongs on counters and only there")
        if (self.kind is Kind.HISTOGRAM) != bool(self.buckets):
            raise ValueError(f"{self.name}: histograms, and only they, have buckets")
        if self.unit and self.unit not in self.name:
            raise ValueError(f"{self.name}: the name does not carry its unit {self.unit}")
        if not self.help.endswith("."):
            raise ValueError(f"{self.name}: help is a sentence")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"{self.name}: a label is named twice")


def gauge(
    name: str, help_: str, *labels: str, source: str, unit: str = "", needs: tuple[str, ...] = ()
) -> Metric:
    """Write a row for a value that goes up and down."""
    return Metric(name, Kind.GAUGE, help_, labels, source, unit, needs=needs)


def counter(
    name: str, help_: str, *labels: str, source: str, unit: str = "", needs: tuple[str, ...] = ()
) -> Metric:
    """Write a row for a value that only grows, until its counter restarts."""
    return Metric(name, Kind.COUNTER, help_, labels, source, unit, needs=needs)


def histogram(
    name: str,
    help_: str,
    *labels: str,
    source: str,
    buckets: tuple[float, ...],
    unit: str = "",
    needs: tuple[str, ...] = (),
) -> Metric:
    """Write a row for a distribution. `buckets` are upper bounds without +Inf, in the unit."""
    return Metric(name, Kind.HISTOGRAM, help_, labels, source, unit, buckets, needs)


def rows_of(namespace: dict[str, object]) -> tuple[Metric, ...]:
    """List the rows written in a module, in order. Each catalogue module ends with it."""
    return tuple(value for value in namespace.values() if isinstance(value, Metric))
