"""PromQL that shapes results for reading: labels made or joined, alerts that fire.

Does not depend on the catalogue.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dashboards.kit.promql import Expr, QueryError

OBJECT: Final = (
    "daemon", "site", "group", "named", "device", "gpu", "vendor", "server", "tool", "collector", "setting", "engine",
    "kind", "when", "role", "pid", "reason", "sink", "xid", "host",
)  # fmt: skip
"""Labels of an alert that say what it is about, in the order in which its object is written. `named` is the model, or
the instance of an alert without one; `host` is the exporter's, of an alert without a daemon."""
_READ: Final = {"severity", "alertname", "instance", "instance_id", "model"}


def relabeled(expr: Expr, target: str, replacement: str, source: str, pattern: str) -> Expr:
    """Set a label from another one, where the whole of it matches the regular expression. Raises QueryError."""
    if source not in (expr.labels or frozenset()):
        raise QueryError(f"{expr.text} has no label {source}")
    escaped = pattern.replace("\\", "\\\\")
    return replace(
        expr,
        text=f'label_replace({expr.text}, "{target}", "{replacement}", "{source}", "{escaped}")',
        labels=(expr.labels or frozenset()) | {target},
        tie=9,
    )


def joined(expr: Expr, target: str, separator: str, *sources: str) -> Expr:
    """Set a label to others, joined."""
    listed = ", ".join(f'"{source}"' for source in sources)
    return replace(
        expr,
        text=f'label_join({expr.text}, "{target}", "{separator}", {listed})',
        labels=(expr.labels or frozenset()) | {target},
        tie=9,
    )


def hosted(expr: Expr) -> Expr:
    """Set `host` to the instance without its port."""
    return relabeled(expr, "host", "$1", "instance", "(.+?)(?::[0-9]+)?")


def firing_count(severity: str) -> Expr:
    """Count the alerts of a severity that fire: 0 where rules are evaluated, nothing where none are."""
    alerts = f'ALERTS{{alertstate="firing",severity="{severity}"}}'
    return Expr(
        f"count({alerts}) or 0 * max(daemonpulse:rules:loaded)",
        frozenset(),
        "",
        (alerts, "daemonpulse:rules:loaded"),
        tie=2,
    )


def firing() -> Expr:
    """List what fires: severity, alert, object, and for how many seconds; the most severe first."""
    parts = [
        f'time() - ALERTS_FOR_STATE{{severity="{severity}"}} and ignoring (alertstate) '
        f'ALERTS{{alertstate="firing",severity="{severity}"}}'
        for severity in ("critical", "warning", "info")
    ]
    found = Expr(
        f"({' or '.join(parts)})",
        frozenset({*_READ, *OBJECT} - {"named", "host"}),
        selectors=("ALERTS_FOR_STATE", "ALERTS"),
    )
    gpu = relabeled(found, "gpu", "GPU $1", "gpu", "(.+)")
    last = "(?:.*/)?(.+)"
    first = relabeled(relabeled(gpu, "named", "$1", "instance_id", last), "named", "$1", "model", last)
    # The host tells of what only an alert without a daemon is about.
    both = joined(first, "host", "|", "daemon", "instance")
    alone = relabeled(both, "host", "$1", "host", r"\|(.*?)(?::[0-9]+)?")
    other = relabeled(alone, "host", "", "host", r".+\|.*")
    of = joined(other, "object", " ", *OBJECT)
    return relabeled(of, "object", "\u2013", "object", "\\s*")


def unless_any(expr: Expr, condition: Expr) -> Expr:
    """Drop every series while the condition has any, whatever its labels are."""
    return replace(
        expr,
        text=f"{expr.beside(3)} unless on () {condition.beside(4)}",
        selectors=expr.selectors + condition.selectors,
        metrics=expr.metrics + condition.metrics,
        tie=3,
    )


def named_causes(*gpu: str) -> Expr:
    """List the causes that rules name for the alerts that fire: alert, object, cause, and its evidence.

    A rule names a cause from the moment that the condition holds, which is before its alert fires: a cause is shown
    with the alert of the same daemon, or of the same GPU by these labels.
    """
    of = ("daemon", "process", "pid", "instance_id", "model", "gpu", "xid", "reason")
    told = frozenset({"alertname", "cause", "evidence", "remedy", *of})
    causes = '{__name__=~"alert:.+:cause"}'
    daemons = 'ALERTS{alertstate="firing",daemon!=""}'
    gpus = 'ALERTS{alertstate="firing",daemon=""}'
    of_gpu = ", ".join(("alertname", *gpu))
    found = Expr(
        f"({causes} and on (alertname, daemon) {daemons} or {causes} and on ({of_gpu}) {gpus})",
        told,
        selectors=(causes, daemons, gpus),
    )
    number = relabeled(found, "gpu", "GPU $1", "gpu", "(.+)")
    pid = relabeled(number, "pid", "pid $1", "pid", "(.+)")
    xid = relabeled(pid, "xid", "XID $1", "xid", "(.+)")
    return joined(xid, "object", " ", *of)


def began_firing(severity: str, window: str) -> Expr:
    """Give the alerts of a severity that began to fire within the window, for an annotation."""
    alerts = f'max by (alertname) (ALERTS{{alertstate="firing",severity="{severity}"}}'
    return Expr(
        f"{alerts}) unless {alerts} offset {window})",
        frozenset({"alertname"}),
        selectors=('ALERTS{alertstate="firing"}',),
        tie=3,
    )
