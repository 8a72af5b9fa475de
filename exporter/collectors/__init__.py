"""Collectors: observations to catalogued samples, one module per subject, in the tuple below."""

from __future__ import annotations

from typing import Final

from exporter.collectors import (
    daemon,
    energy,
    engine,
    gpu,
    host,
    instances,
    log_stream,
    models,
    posture,
    predictions,
    self_metrics,
    slots,
    tap,
    vram,
)
from exporter.collectors.base import Collect

DAEMON_COLLECTORS: Final[tuple[tuple[str, Collect], ...]] = (
    ("daemon", daemon.collect),
    ("models", models.collect),
    ("instances", instances.collect),
    ("posture", posture.collect),
    ("predictions", predictions.collect),
    ("slots", slots.collect),
    ("engine", engine.collect),
    ("log_stream", log_stream.collect),
    ("tap", tap.collect),
)
"""What is known about daemons; `/probe` serves only these."""

COLLECTORS: Final[tuple[tuple[str, Collect], ...]] = (
    *DAEMON_COLLECTORS,
    ("driver", gpu.collect_driver),
    ("gpu", gpu.collect),
    ("vram", vram.collect),
    ("energy", energy.collect),
    ("host", host.collect),
    ("health", self_metrics.collect),
)
"""Everything `/metrics` serves."""
