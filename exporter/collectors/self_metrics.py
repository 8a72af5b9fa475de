"""Collects self-metrics: failed connections, unreadable messages, OTLP deliveries, memory and CPU of this process."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

from exporter.catalogue import self_metrics as m
from exporter.collectors.base import Samples, Scrape


def collect(scrape: Scrape, out: Samples) -> None:
    """Add the exporter's own values, which do not depend on the daemons' state."""
    out.add(m.BUILD_INFO, 1, version=_version(), python=platform.python_version())
    for daemon in scrape.daemons:
        counts = daemon.reading.counts
        out.add_by(m.CONNECTION_FAILURES, "reason", counts.failures, daemon=daemon.name)
        out.add_by(m.PROTOCOL_WARNINGS, "kind", counts.warnings, daemon=daemon.name)
        out.add_by(m.UNREADABLE_MESSAGES, "kind", counts.unreadable, daemon=daemon.name)
    parts = [(daemon.name, daemon.reading.counts.internal_errors) for daemon in scrape.daemons]
    for name, errors in (*parts, *((stream.daemon, stream.flow.errors.counts) for stream in scrape.streams)):
        out.add_by(m.INTERNAL_ERRORS, "stage", errors, daemon=name)
    _add_deliveries(scrape, out)
    if (process := scrape.own) is not None:
        out.add_all(
            {
                m.PROCESS_CPU: process.cpu_seconds,
                m.PROCESS_MEMORY: process.resident_bytes,
                m.PROCESS_VIRTUAL_MEMORY: process.virtual_bytes,
                m.PROCESS_START: process.started_at_s,
                m.PROCESS_OPEN_FDS: process.open_files,
                m.PROCESS_MAX_FDS: process.open_files_most,
            }
        )


def _add_deliveries(scrape: Scrape, out: Samples) -> None:
    for signal, rows in m.OTLP.items():
        if (delivered := scrape.deliveries.get(signal)) is not None:
            counts = (delivered.exported, delivered.failed, delivered.dropped)
            for row, count in zip(rows, counts, strict=False):
                out.add(row, count)


@cache
def _version() -> str:
    return metadata.version("daemonpulse")
