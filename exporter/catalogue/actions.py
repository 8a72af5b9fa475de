"""Catalogue: what the actions API did. Served on its own /metrics, not by the exporter."""

from __future__ import annotations

from typing import Final

from exporter.catalogue.metric import counter, gauge, histogram, rows_of

_API: Final = "daemonpulse actions"
_CHAT: Final = "POST /api/v1/chat, server-sent events of the last probe"
_SECONDS: Final = (
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
    20.0,
    40.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1800.0,
)
"""From an answer out of memory to a load of hundreds of gigabytes."""

ACTIONS = counter(
    "daemonpulse_actions_total",
    "Actions asked for, by what came of them: done, denied, failed or cancelled.",
    "action",
    "outcome",
    source=_API,
)
ACTION_DURATION = histogram(
    "daemonpulse_action_duration_seconds",
    "Time from the intent to the outcome of an action, waiting for its turn included.",
    "action",
    source=_API,
    unit="seconds",
    buckets=_SECONDS,
)
OPERATIONS_IN_PROGRESS = gauge(
    "daemonpulse_operations_in_progress",
    "Operations that have begun and not ended.",
    "action",
    source=_API,
)
REQUESTS_ENDED = counter(
    "daemonpulse_requests_ended_by_eject_total",
    "Requests that were in flight on an instance when it was ejected, by daemon and action (eject or eject_all).",
    "daemon",
    "action",
    source=_API,
)
DESIRED_LOADED = gauge(
    "daemonpulse_desired_instance_loaded",
    "Whether an instance of the desired state is loaded; absent while it is suspended or the daemon cannot be read.",
    "daemon",
    "instance_id",
    source=_API,
)
GROUP_MISSING = gauge(
    "daemonpulse_group_missing_daemons",
    "Daemons that a group still lacks: how many must serve its model, less those that do.",
    "group",
    source=_API,
)
PREFLIGHTS = counter(
    "daemonpulse_preflight_total",
    "Pre-flight verdicts: fits, tight, does_not_fit or unknown.",
    "verdict",
    source=_API,
)
AUDIT_ENTRIES = counter(
    "daemonpulse_audit_entries_total",
    "Rows written to the audit since this process started, by kind.",
    "kind",
    source=_API,
)
AUDIT_WRITABLE = gauge(
    "daemonpulse_audit_writable",
    "Whether the audit can be written. While it is 0 nothing is done: every action is answered 503.",
    source=_API,
)
AUDIT_DENIALS_SAMPLED = counter(
    "daemonpulse_audit_denials_sampled_total",
    "Denials that were counted and not written to the audit, because their caller had used up its budget of rows.",
    source=_API,
)
AUDIT_HEAD_SEQUENCE = gauge(
    "daemonpulse_audit_head_sequence",
    "Sequence number of the last audit row. Together with the fingerprint it is a head that `audit verify --head` "
    "takes: kept in Prometheus, it shows rows that were cut off or rewritten later.",
    source=_API,
)
AUDIT_HEAD_FINGERPRINT = gauge(
    "daemonpulse_audit_head_fingerprint",
    "First 52 bits of the hash of the last audit row, as an integer that a sample holds exactly.",
    source=_API,
)
AUTH_FAILURES = counter(
    "daemonpulse_auth_failures_total",
    "Rejected requests: missing (no token), wrong (unknown, expired or revoked), scope (too low), limited (too many "
    "wrong tokens) or too_fast (too many commands).",
    "reason",
    source=_API,
)
PROBE_FIRST_TOKEN = gauge(
    "daemonpulse_probe_time_to_first_token_seconds",
    "Time from sending the last probe to its first token, seen by the client; a model load is taken out.",
    "daemon",
    "model",
    source=_CHAT,
    unit="seconds",
)
PROBE_REASONING = gauge(
    "daemonpulse_probe_reasoning_seconds",
    "Time the last probe spent reasoning; absent when the model did not reason.",
    "daemon",
    "model",
    source=_CHAT,
    unit="seconds",
)
PROBE_LOAD = gauge(
    "daemonpulse_probe_load_seconds",
    "Time the daemon took to load the model for the last probe; absent when it was loaded already.",
    "daemon",
    "model",
    source=_CHAT,
    unit="seconds",
)
PROBE_TIMESTAMP = gauge(
    "daemonpulse_probe_timestamp_seconds",
    "When the last probe of a model ended, as a Unix time.",
    "daemon",
    "model",
    source=_API,
    unit="seconds",
)

ROWS = rows_of(globals())
