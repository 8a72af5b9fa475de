"""Chooses one of a fixed list of exposition formats by an Accept header. Pure; never raises, never echoes the header.

Source: RFC 9110, section 12.5.1 (quality values, wildcards, parameters in quotes); Prometheus' content negotiation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
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
    """Return TEXT or OPENMETRICS: what the client prefers, TEXT where it has no preference or asks for neither."""
    ranges = [_parse(text) for text in _RANGE.findall(accept)]
    text_quality, openmetrics_quality = 0.0, 0.0
    first = ""
    for kind, version, quality in ranges:
        if kind == "application/openmetrics-text" and version in _OPENMETRICS_VERSIONS:
            first = first or (OPENMETRICS if quality else "")
            openmetrics_quality = max(openmetrics_quality, quality)
        elif kind == "text/plain":
            first = first or (TEXT if quality else "")
            text_quality = max(text_quality, quality)
        elif kind in {"*/*", "text/*"}:
            text_quality = max(text_quality, quality)
    if openmetrics_quality == text_quality:
        return first or TEXT
    return OPENMETRICS if openmetrics_quality > text_quality else TEXT


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
