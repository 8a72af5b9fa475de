"""Samples to bytes: the text or OpenMetrics format the scraper asked for, filtered and compressed as it asked.

prometheus-client writes the formats; which one is chosen in shared/accept.py.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from exporter.collectors.base import Samples
from exporter.shared.accept import encoder

GZIP_LEVEL: Final = 1
"""Level 1 already makes a scrape about ten times smaller; higher levels cost far more CPU than they save bytes."""


@dataclass(frozen=True, slots=True)
class Exposition:
    """A response body with the headers that describe it."""

    body: bytes
    content_type: str
    content_encoding: str | None


def expose(samples: Samples, *, accept: str, accept_encoding: str, names: Iterable[str] = ()) -> Exposition:
    """Encode a scrape. `names` keeps only samples of these names, as `name[]` asks; none keeps all."""
    encode, content_type = encoder(accept)
    body = encode(_Registry(samples, frozenset(names)))
    if _takes_gzip(accept_encoding):
        return Exposition(gzip.compress(body, GZIP_LEVEL), content_type, "gzip")
    return Exposition(body, content_type, None)


class _Registry(Collector):
    """What prometheus-client's encoders read from."""

    def __init__(self, samples: Samples, names: frozenset[str]) -> None:
        self._samples = samples
        self._names = names

    def collect(self) -> Iterator[Family]:
        for family in self._samples.collect():
            if not self._names:
                yield family
                continue
            kept = [sample for sample in family.samples if sample.name in self._names]
            if kept:
                chosen = Family(family.name, family.documentation, family.type)
                chosen.samples = kept
                yield chosen


def _takes_gzip(accept_encoding: str) -> bool:
    wanted: dict[str, bool] = {}
    for choice in accept_encoding.split(","):
        coding, *parameters = (part.strip().lower() for part in choice.split(";"))
        wanted[coding] = not any(
            parameter in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for parameter in parameters
        )
    return wanted.get("gzip", wanted.get("*", False))
