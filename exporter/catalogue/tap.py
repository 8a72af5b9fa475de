"""Catalogue: what the tap adds: the client, the times at the client, and the error of estimates.

Only requests that went through a tap count here. `client` is a configured name or the family of the program, `model`
the model key; both are bounded, see docs/TAP.md.
"""

from __future__ import annotations

from typing import Final

from exporter.catalogue.metric import counter, gauge, histogram, rows_of

_TAP: Final = "requests through the tap"
_CLAIM: Final = "requests through the tap and the log stream's reports of them"
_SELF: Final = "the tap's own counts"

_TTFT_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
)  # fmt: skip
_E2E_S: Final = (
    0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0,
)  # fmt: skip
_GAP_S: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
_ERROR: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)

REQUESTS = counter(
    "daemonpulse_tap_requests_total",
    "Requests that are over, by HTTP status; `none` where no answer came.",
    "daemon", "client", "route", "model", "code",
    source=_TAP,
)  # fmt: skip
CANCELLED = counter(
    "daemonpulse_tap_cancelled_requests_total",
    "Requests whose client went away, or cancelled, before the answer was complete.",
    "daemon", "client",
    source=_TAP,
)  # fmt: skip
CUT = counter(
    "daemonpulse_tap_cut_requests_total",
    "Requests whose answer the daemon's side ended before it was complete.",
    "daemon", "client",
    source=_TAP,
)  # fmt: skip
TOKENS = counter(
    "daemonpulse_tap_tokens_total",
    "Tokens by type: input, output, and of these cached and reasoning. From the daemon's counts, never from deltas.",
    "daemon", "client", "model", "type",
    source=_CLAIM, unit="tokens",
)  # fmt: skip
RUNNING = gauge(
    "daemonpulse_tap_requests_running",
    "Requests in flight.",
    "daemon", "client",
    source=_TAP,
)  # fmt: skip
TTFT = histogram(
    "daemonpulse_tap_time_to_first_token_seconds",
    "Time from a request's head to the first text of a streamed answer, as the client saw it.",
    "daemon", "client", "model",
    source=_TAP, unit="seconds", buckets=_TTFT_S,
)  # fmt: skip
E2E = histogram(
    "daemonpulse_tap_request_duration_seconds",
    "Time from a request's head to the last byte of the answer. Only requests in which a model wrote.",
    "daemon", "client", "model",
    source=_TAP, unit="seconds", buckets=_E2E_S,
)  # fmt: skip
QUEUE = histogram(
    "daemonpulse_tap_queue_time_seconds",
    "Time from a request's head to the first byte of the answer's body.",
    "daemon", "model",
    source=_TAP, unit="seconds", buckets=_TTFT_S,
)  # fmt: skip
GAPS = histogram(
    "daemonpulse_tap_inter_token_latency_seconds",
    "Time between two pieces of text of a streamed answer, each as a rule one token.",
    "daemon", "model",
    source=_TAP, unit="seconds", buckets=_GAP_S,
)  # fmt: skip
CLAIMS = counter(
    "daemonpulse_tap_claims_total",
    "Predictions by how the tap and the log stream agree: matched, log_only (it went past the tap), tap_only (the log "
    "stream has no predictions), unmatched (seen by the tap, not found in the log), compound (several in one).",
    "daemon", "outcome",
    source=_CLAIM,
)  # fmt: skip
ESTIMATE_ERROR = histogram(
    "daemonpulse_tap_reasoning_estimate_error_ratio",
    "How far the estimated share of reasoning in a prediction's tokens is from the exact one, 0 to 1.",
    "daemon", "model",
    source=_CLAIM, unit="ratio", buckets=_ERROR,
)  # fmt: skip
UP = gauge(
    "daemonpulse_tap_up",
    "Whether the tap of this daemon answers the exporter.",
    "daemon",
    source=_SELF,
)  # fmt: skip
UPSTREAM_UP = gauge(
    "daemonpulse_tap_upstream_up",
    "Whether the tap's latest connection to the daemon could be made.",
    "daemon",
    source=_SELF,
)  # fmt: skip
CONNECTIONS = gauge(
    "daemonpulse_tap_connections",
    "Clients' connections that are open.",
    "daemon",
    source=_SELF,
)  # fmt: skip
CONNECTION_FAILURES = counter(
    "daemonpulse_tap_connection_failures_total",
    "Clients' connections that failed: upstream (the daemon could not be reached) or limit (too many at once).",
    "daemon", "reason",
    source=_SELF,
)  # fmt: skip
UNREAD = counter(
    "daemonpulse_tap_unread_total",
    "What passed through the tap and could not be read: framing, body, event, channel, failure. The bytes did pass.",
    "daemon", "reason",
    source=_SELF,
)  # fmt: skip
MISSED = counter(
    "daemonpulse_tap_reports_missed_total",
    "Reports that the tap gave up before the exporter fetched them.",
    "daemon",
    source=_SELF,
)  # fmt: skip

ROWS: Final = rows_of(globals())
