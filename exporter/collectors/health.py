"""Collects our own health: failed connections, odd messages, memory and CPU of this process."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from typing import Final

from prometheus_client import ProcessCollector

from exporter.catalogue import BY_NAME
from exporter.catalogue import ourselves as m
from exporter.collectors.base import Samples, Scrape

_OTLP: Final = {
    "spans": (m.OTLP_SPANS_EXPORTED, m.OTLP_SPANS_FAILED, m.OTLP_SPANS_DROPPED),
    "logs": (m.OTLP_LOGS_EXPORTED, m.OTLP_LOGS_FAILED, m.OTLP_LOGS_DROPPED),
}
_PROCESS: Final = ProcessCollector(registry=None)


def collect(scrape: Scrape, out: Samples) -> None:
    """Everything here is ours, so it shows whatever the daemons do."""
    out.add(m.BUILD_INFO, 1, version=_version(), python=platform.python_version())
    for daemon in scrape.daemons:
        client = daemon.watch.client
        for reason, count in client.failures.items():
            out.add(m.CONNECTION_FAILURES, count, daemon=daemon.name, reason=reason)
        for kind, count in client.tally.warnings.items():
            out.add(m.PROTOCOL_WARNINGS, count, daemon=daemon.name, kind=kind)
        for kind, count in client.tally.unreadable.items():
            out.add(m.UNREADABLE_MESSAGES, count, daemon=daemon.name, kind=kind)
    for signal, rows in _OTLP.items():
        if (delivered := scrape.deliveries.get(signal)) is not None:
            for row, count in zip(
                rows, (delivered.exported, delivered.failed, delivered.dropped), strict=True
            ):
                out.add(row, count)
    for family in _PROCESS.collect():
        for sample in family.samples:
            out.add(BY_NAME[sample.name], sample.value)


@cache
def _version() -> str:
    return metadata.version("daemonpulse")
