"""Chooses one of a fixed list of exposition formats by an Accept header. Pure; never raises, never echoes the header.

Source: RFC 9110, section 12.5.1 (quality values, wildcards, parameters in quotes); Prometheus' content negotiation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format: what is served when nothing else is preferred."""
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_OPENMETRICS_VERSIONS: Final = ("", "1.0.0")
_RANGE: Final = re.compile(r'(?:[^,"]|"[^"]*"?)+')
_PARAMETER: Final = re.compile(r'(?:[^;"]|"[^"]*"?)+')


class _Range(NamedTuple):
    kind: str
    version: str
    quality: float


def encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """Return the writer of the chosen format, and its content type."""
    content_type = choose(accept)
    return (generate_openmetrics if content_type == OPENMETRICS else generate_latest), content_type


def choose(accept: str) -> str:
    """Return TEXT or OPENMETRICS: what the client prefers, TEXT where it has no preference or asks for neither.

    For each format the most specific range counts, so `text/plain;q=0, */*` asks for the other one.
    """
    ranges = [_parse(text) for text in _RANGE.findall(accept)]
    text = max(_matches(ranges, "text/plain", None), default=_UNWANTED)
    openmetrics = max(
        _matches(ranges, "application/openmetrics-text", _OPENMETRICS_VERSIONS), default=_UNWANTED
    )
    if openmetrics.quality == text.quality:
        return OPENMETRICS if openmetrics.quality and openmetrics > text and openmetrics.is_exact else TEXT
    return OPENMETRICS if openmetrics.quality > text.quality else TEXT


class _Match(NamedTuple):
    """A range that covers a format. The greatest one counts: the most specific, the most wanted, the first."""

    specific: int
    quality: float
    before: int

    @property
    def is_exact(self) -> bool:
        return self.specific == 2  # noqa: PLR2004


_UNWANTED: Final = _Match(-1, 0.0, 0)


def _matches(ranges: list[_Range], kind: str, versions: tuple[str, ...] | None) -> Iterator[_Match]:
    wildcards = ("*/*", kind.partition("/")[0] + "/*")
    for place, wanted in enumerate(ranges):
        if wanted.kind == kind and (versions is None or wanted.version in versions):
            yield _Match(2, wanted.quality, -place)
        elif wanted.kind in wildcards:
            yield _Match(wildcards.index(wanted.kind), wanted.quality, -place)


def _parse(text: str) -> _Range:
    kind, *parameters = (part.strip() for part in _PARAMETER.findall(text) or [""])
    values = {}
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        values[name.strip().lower()] = value.strip().strip('"')
    return _Range(kind.lower(), values.get("version", ""), _quality(values.get("q", "1")))


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return min(max(quality, 0.0), 1.0) if math.isfinite(quality) else 0.0
