"""From observations to catalogued samples, one file per subject. The tuple below is the feature list."""

from __future__ import annotations

from typing import Final

from exporter.collectors import daemon, gpu, health, host, instances, models, posture, vram
from exporter.collectors.base import Collect

DAEMON_COLLECTORS: Final[tuple[tuple[str, Collect], ...]] = (
    ("daemon", daemon.collect),
    ("models", models.collect),
    ("instances", instances.collect),
    ("posture", posture.collect),
)
"""What is known about daemons; `/probe` serves only these."""

COLLECTORS: Final[tuple[tuple[str, Collect], ...]] = (
    *DAEMON_COLLECTORS,
    ("driver", gpu.collect_driver),
    ("gpu", gpu.collect),
    ("vram", vram.collect),
    ("host", host.collect),
    ("health", health.collect),
)
"""Everything `/metrics` serves."""
