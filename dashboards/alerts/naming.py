"""Writes the rules that name the cause of an alert, and the annotation that tells it.

One rule per cause records its evidence; one rule per alert records the first of its causes while its condition holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from dashboards.alerts.alert import Alert
from dashboards.alerts.causes import CAUSES, DAEMON, ENGINE_CRASHED, RECENT, Cause
from dashboards.kit.choosing import first_of, largest, spread
from dashboards.kit.promql import Expr, Selector, both, max_by
from dashboards.rules.recording import GPU, Recording
from exporter.catalogue import hardware as h

DETAILS: Final = (
    "process",
    "pid",
    "model",
    "instance_id",
    "gpu",
    "vendor",
    "xid",
    "reason",
    "when",
    "action",
)
"""Labels of evidence that the annotation tells, in this order."""

HOSTS: Final = Recording(
    f"daemon:llmster_host_memory_total_bytes:max{RECENT}",
    max_by(Selector().over("max_over_time", h.HOST_MEMORY_TOTAL, RECENT), *DAEMON),
    DAEMON,
)
"""The daemons of each host that is an exporter's own."""


def _evidence(cause: Cause) -> Recording:
    told = {"cause": cause.name, "evidence": cause.evidence.metrics[0].name, "remedy": cause.remedy}
    return Recording(
        f"{'daemon' if cause.of_daemon else 'gpu'}:{cause.slug}:evidence",
        cause.evidence,
        tuple(sorted((cause.evidence.labels or frozenset()) | told.keys())),
        told,
    )


EVIDENCE: Final = {cause.slug: _evidence(cause) for cause in CAUSES}


def _seen(cause: Cause, alert: Alert, by: tuple[str, ...]) -> Expr:
    """Take a cause's evidence for the daemons or GPUs that the alert is about."""
    evidence = EVIDENCE[cause.slug].series
    if "daemon" in by and not cause.of_daemon:
        evidence = spread(evidence, HOSTS.series, "instance")
    if alert.name in cause.by_crash:
        evidence = both(evidence, EVIDENCE[ENGINE_CRASHED.slug].series, *by)
    return largest(evidence, *by)


def _key(alert: Alert) -> tuple[str, ...]:
    return ("daemon",) if "daemon" in (alert.expr.labels or ()) else GPU


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _first(alert: Alert) -> Recording | None:
    causes = [cause for cause in CAUSES if alert.name in (*cause.explains, *cause.by_crash)]
    if not causes:
        return None
    by = _key(alert)
    found = both(first_of([_seen(cause, alert, by) for cause in causes], *by), alert.expr, *by)
    labels = (found.labels or frozenset()) | {"alertname"}
    return Recording(
        f"alert:{_snake(alert.name)}:cause", found, tuple(sorted(labels)), {"alertname": alert.name}
    )


def naming_rules(alerts: Iterable[Alert]) -> dict[str, Recording]:
    """Give the rule that names the cause of each alert that has causes, by the alert's name."""
    return {alert.name: rule for alert in alerts if (rule := _first(alert)) is not None}


def annotation(alert: Alert, rule: Recording) -> str:
    """Write the annotation: the cause, what it is about, its evidence, and what to do; empty when none is named.

    Grafana's own alerting has no query() in annotations and leaves it empty.
    """
    matchers = ",".join(f"{label}=%q" for label in _key(alert))
    values = " ".join(f"$labels.{label}" for label in _key(alert))
    details = "".join(
        f"{{{{ with .Labels.{label} }}}}, {label} {{{{ . }}}}{{{{ end }}}}"
        for label in DETAILS
        if label in rule.labels
    )
    in_bytes = '{{ if match "_bytes$" .Labels.evidence }}{{ humanize1024 .Value }}B'
    value = in_bytes + "{{ else }}{{ humanize .Value }}{{ end }}"
    return (
        f'{{{{ range query (printf "{rule.name}{{{matchers}}}" {values}) }}}}'
        f"{{{{ .Labels.cause }}}}{details} ({{{{ .Labels.evidence }}}} {value}). {{{{ .Labels.remedy }}}}{{{{ end }}}}"
    )
