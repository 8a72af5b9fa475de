"""Queries of panels by datasource: PromQL, LogQL, TraceQL, and the actions API's lists.

Datasources are variables of a board, so that no uid is fixed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from dashboards.kit.promql import Expr, QueryError
from dashboards.kit.theme import Json

ACTIONS_TYPE: Final = "daemonpulse-actions-datasource"
PROMETHEUS: Final = {"type": "prometheus", "uid": "${prometheus}"}
LOKI: Final = {"type": "loki", "uid": "${loki}"}
TEMPO: Final = {"type": "tempo", "uid": "${tempo}"}
ACTIONS: Final = {"type": ACTIONS_TYPE, "uid": "${actions}"}

RESOURCES: Final = {
    "operations": (
        "id", "created_ms", "finished_ms", "daemon", "action", "subject", "state", "phase", "progress", "actor",
        "person",
    ),
    "approvals": (
        "id", "created_ms", "server", "tool", "rule", "reason", "arguments", "expires_in_seconds", "token",
    ),
    "gates": (
        "id", "server", "tool", "description", "definition_sha256", "decision", "rule", "changed", "set_by",
    ),
    "audit": (
        "seq", "at_ms", "kind", "operation", "actor", "person", "action", "subject", "detail",
    ),
}  # fmt: skip
"""The lists that the datasource plugin gives as tables, and those of their columns that a board may show.

operations is GET /v1/operations, approvals GET /v1/mcp/approvals?state=pending, audit GET /v1/audit, and gates the
tools of every server, GET /v1/mcp/servers/{server}/tools, with `server` and with `id` as server/tool.
"""

LIVE: Final = {
    "live": (
        "request", "daemon", "client", "model", "phase", "output_tokens", "tokens_per_second", "elapsed_seconds",
        "prompt_progress_ratio",
    ),
    "think": ("time", "text", "level"),
}  # fmt: skip
"""What the plugin sends on while it runs: GET /v1/live, and POST /v1/live/text for one request of that list."""

_PLACEHOLDER: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query of a panel."""

    expr: Expr
    legend: str = ""
    """Name of a series; {{label}} must be a label of the result."""
    mode: str = "range"
    """range, instant, table (instant, one row per series) or heatmap."""
    exemplars: bool = False
    ref: str = "A"

    def __post_init__(self) -> None:
        """Refuse a legend that would show an empty name. Raises QueryError."""
        unknown = set(_PLACEHOLDER.findall(self.legend)) - (self.expr.labels or frozenset())
        if unknown:
            raise QueryError(
                f"legend {self.legend!r}: {self.expr.text} has no label {', '.join(sorted(unknown))}"
            )
        if self.expr.labels is None:
            raise QueryError(f"{self.expr.text} is a number, not a series")

    def named(self, ref: str) -> Query:
        """Give it its letter."""
        return replace(self, ref=ref)

    def to_json_data(self) -> Json:
        """Write the target."""
        return {
            "refId": self.ref,
            "datasource": PROMETHEUS,
            "editorMode": "code",
            "expr": self.expr.text,
            "legendFormat": self.legend or "__auto",
            "format": {"table": "table", "heatmap": "heatmap"}.get(self.mode, "time_series"),
            "instant": self.mode in {"instant", "table"},
            "range": self.mode in {"range", "heatmap"},
            "exemplar": self.exemplars,
        }


@dataclass(frozen=True, slots=True)
class LogQuery:
    """One LogQL query."""

    expr: str
    legend: str = ""
    ref: str = "A"

    def named(self, ref: str) -> LogQuery:
        """Give it its letter."""
        return replace(self, ref=ref)

    def to_json_data(self) -> Json:
        """Write the target."""
        data: Json = {"refId": self.ref, "datasource": LOKI, "expr": self.expr, "queryType": "range"}
        return {**data, "legendFormat": self.legend} if self.legend else data


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """One TraceQL search, as a table of traces or of spans."""

    query: str
    table: str = "traces"
    limit: int = 50
    ref: str = "A"

    def named(self, ref: str) -> TraceQuery:
        """Give it its letter."""
        return replace(self, ref=ref)

    def to_json_data(self) -> Json:
        """Write the target."""
        return {
            "refId": self.ref,
            "datasource": TEMPO,
            "query": self.query,
            "queryType": "traceql",
            "limit": self.limit,
            "tableType": self.table,
        }


@dataclass(frozen=True, slots=True)
class ApiQuery:
    """One list of the actions API, or what it sends while it runs, through its datasource plugin."""

    resource: str
    request: str = ""
    """For think: whose text, daemon/request, `newest`, or a variable that holds one of these."""
    ref: str = "A"

    def __post_init__(self) -> None:
        """Refuse a list the plugin does not have. Raises QueryError."""
        if self.resource not in {*RESOURCES, *LIVE}:
            raise QueryError(f"{self.resource}: the actions datasource has {', '.join((*RESOURCES, *LIVE))}")

    def named(self, ref: str) -> ApiQuery:
        """Give it its letter."""
        return replace(self, ref=ref)

    def to_json_data(self) -> Json:
        """Write the target."""
        data: Json = {"refId": self.ref, "datasource": ACTIONS, "resource": self.resource}
        return {**data, "request": self.request} if self.request else data


AnyQuery: TypeAlias = Query | LogQuery | TraceQuery | ApiQuery
