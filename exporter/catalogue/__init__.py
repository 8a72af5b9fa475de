"""Every metric, defined once. Dashboards, rules, docs and collectors use these definitions.

To add a metric: a row in the module of its subject, a line in a collector, a test.
"""

from __future__ import annotations

from typing import Final

from exporter.catalogue import daemon, energy, engine, hardware, log_stream, self_metrics, tap
from exporter.catalogue.metric import Kind, Metric

__all__ = ["BY_NAME", "CATALOGUE", "Kind", "Metric"]

CATALOGUE: Final[tuple[Metric, ...]] = (
    *daemon.ROWS,
    *log_stream.ROWS,
    *engine.ROWS,
    *tap.ROWS,
    *hardware.ROWS,
    *energy.ROWS,
    *self_metrics.ROWS,
)
"""All rows of the exporter, in the order of exposition. The actions API and its gate serve theirs: actions, mcp."""

BY_NAME: Final = {row.name: row for row in CATALOGUE}
