"""One alert: a condition, its duration, its severity, and a summary.

Alertmanager decides who receives which severity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from dashboards.kit.promql import Expr, QueryError
from dashboards.kit.theme import Json

CRITICAL: Final = "critical"
"""Requires action at once: models are unavailable, or a GPU is failing."""
WARNING: Final = "warning"
"""Look at it today."""
INFO: Final = "info"
"""Worth knowing."""

MIB: Final = 2**20
LITTLE_LEFT: Final = 0.05
"""Of memory, as a share of all of it."""

_LABEL: Final = re.compile(r"\$labels\.(\w+)")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule."""

    name: str
    expr: Expr
    severity: str
    summary: str
    """May name {{ $labels.x }} and {{ $value }}."""
    lasting: str = "0m"
    """How long the condition must hold."""
    keep: str = ""
    """How long it keeps firing after the condition ended, so that a flapping condition is one alert."""

    def __post_init__(self) -> None:
        """Refuse a sentence that names a label the condition does not have. Raises QueryError."""
        unknown = set(_LABEL.findall(self.summary)) - (self.expr.labels or frozenset())
        if unknown or not self.summary.endswith("."):
            raise QueryError(f"{self.name}: the summary is a sentence, without labels {sorted(unknown)}")

    def to_json_data(self, runbooks: str, cause: str = "") -> Json:
        """Write the rule. `runbooks` is the address of its page, with {alert} for the name; `cause` tells its cause."""
        return {
            "alert": self.name,
            "expr": self.expr.text,
            **({"for": self.lasting} if self.lasting != "0m" else {}),
            **({"keep_firing_for": self.keep} if self.keep else {}),
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                **({"cause": cause} if cause else {}),
                "runbook_url": runbooks.replace("{alert}", self.name),
            },
        }
