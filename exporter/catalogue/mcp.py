"""Catalogue: the MCP gate. Served on the actions API's own /metrics, not by the exporter."""

from __future__ import annotations

from typing import Final

from exporter.catalogue.metric import counter, gauge, histogram, rows_of

_GATE: Final = "daemonpulse actions, MCP gate"
_SECONDS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
)
"""From a local tool's answer to its timeout."""

SERVER_UP = gauge(
    "daemonpulse_mcp_server_up",
    "Whether the tool server is connected: 1, or 0 after it failed; absent while it is not in use.",
    "server",
    source=_GATE,
)
SERVER_STARTS = counter(
    "daemonpulse_mcp_server_starts_total",
    "Attempts to start or connect to the tool server, by what came of them: done or failed.",
    "server",
    "outcome",
    source=_GATE,
)
ITEMS_DROPPED = counter(
    "daemonpulse_mcp_items_dropped_total",
    "Items of the tool server's answers that were malformed, too long or too many, and were dropped, by method.",
    "server",
    "method",
    source=_GATE,
)
TOOL_CALLS = counter(
    "daemonpulse_mcp_tool_calls_total",
    "Calls through the gate, by policy decision (allow, deny, ask) and outcome.",
    "server",
    "tool",
    "decision",
    "outcome",
    source=_GATE,
)
TOOL_CALL_DURATION = histogram(
    "daemonpulse_mcp_tool_call_duration_seconds",
    "Time the tool server took, for calls that reached it.",
    "server",
    "tool",
    source=_GATE,
    unit="seconds",
    buckets=_SECONDS,
)
SERVER_OPERATION_DURATION = histogram(
    "mcp_server_operation_duration_seconds",
    "OpenTelemetry's mcp.server.operation.duration: from a request's arrival at the gate to its answer, waits for an "
    "approval included. error_type is tool_error, error or empty.",
    "server",
    "mcp_method_name",
    "error_type",
    source=_GATE,
    unit="seconds",
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
RESULTS_CAPPED = counter(
    "daemonpulse_mcp_results_capped_total",
    "Results that were longer than the server's output cap, and were cut.",
    "server",
    "tool",
    source=_GATE,
)
APPROVALS_PENDING = gauge(
    "daemonpulse_mcp_approvals_pending", "Calls that require a person to approve or deny them.", source=_GATE
)
APPROVALS = counter(
    "daemonpulse_mcp_approvals_total",
    "Calls that waited for a person, by how that ended: approved, denied, expired, cancelled or interrupted.",
    "outcome",
    source=_GATE,
)
TOOL_CHANGED = gauge(
    "daemonpulse_mcp_tool_changed",
    "1 for a tool whose description or schema is not what was approved; it asks until it is approved again.",
    "server",
    "tool",
    source=_GATE,
)
POLICY_LOADED = gauge(
    "daemonpulse_mcp_policy_loaded",
    "Whether the current policy file is in force: 0 while it cannot be read and the last one stays in force.",
    source="mcp.toml",
)
CONFIG_DRIFT = gauge(
    "daemonpulse_mcp_config_drift",
    "Servers in the daemon's mcp.json that do not go through the gate; absent when the file cannot be read.",
    source="mcp.json",
)
ROWS = rows_of(globals())
