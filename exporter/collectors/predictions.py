"""Collects the metrics of predictions, which the log streams fill."""

from __future__ import annotations

from exporter.catalogue import log_stream as m
from exporter.collectors.base import Samples, Scrape


def collect(scrape: Scrape, out: Samples) -> None:
    """Add the metrics of every log stream; counts stay while a daemon is away."""
    for stream in scrape.streams:
        for metric, family in stream.metrics.collect():
            out.adopt(metric, family)
        out.add(m.PAIRING_MISSES, stream.flow.builder.outputs_missed, daemon=stream.daemon)
