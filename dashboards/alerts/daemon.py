"""Alerts about the daemon, its models, its host and DaemonPulse itself."""

from __future__ import annotations

from typing import Final

from dashboards.alerts.alert import CRITICAL, INFO, LITTLE_LEFT, MIB, WARNING, Alert
from dashboards.kit.promql import Expr, Selector, absent, both, count_by, max_by, now, sum_by, unless
from dashboards.rules import recording
from exporter.catalogue import actions as a
from exporter.catalogue import daemon as d
from exporter.catalogue import engine as e
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s
from exporter.catalogue import mcp as m
from exporter.catalogue import self_metrics as o
from exporter.catalogue import tap as t

_P: Final = Selector(window="5m")
_UP: Final = _P.now(d.UP).equals(1)
_TWICE: Final = 1.5
"""One restart extrapolates to a little more than 1, two to a little more than 2."""
_STUCK_AFTER_S: Final = 300
"""Longer than the longest prompt takes to read; the log tells of progress every few seconds."""

# The daemon ----------------------------------------------------------------------------------------------------------
DAEMON: Final = (
    Alert(
        "LlmsterDaemonDown",
        max_by(_P.now(d.STATE, state="down"), "daemon").equals(1),
        CRITICAL,
        "Daemon {{ $labels.daemon }} is down: it refuses connections.",
        "1m",
    ),
    Alert(
        "LlmsterDaemonStalled",
        max_by(_P.now(d.STATE, state="stalled"), "daemon").equals(1),
        CRITICAL,
        "Daemon {{ $labels.daemon }} is stalled: it accepts connections and does not answer.",
        "1m",
    ),
    Alert(
        "LlmsterDaemonUnreadable",
        both(
            max_by(_P.now(d.UP), "daemon").equals(0),
            max_by(_P.now(d.STATE, state="=~running|refused"), "daemon").equals(1),
        ),
        WARNING,
        "Daemon {{ $labels.daemon }} answers and cannot be read: most often its API token is missing or wrong.",
        "5m",
    ),
    Alert(
        "LlmsterDaemonRestarting",
        sum_by(_P.increase(d.RESTARTS, "30m"), "daemon") > _TWICE,
        CRITICAL,
        'Daemon {{ $labels.daemon }} restarted {{ $value | printf "%.0f" }} times in 30 minutes.',
    ),
    Alert(
        "LlmsterNotWatched",
        absent(_P.now(d.UP)),
        CRITICAL,
        "No llmster exporter is being scraped.",
        "5m",
    ),
    Alert(
        "LlmsterLogStreamDown",
        max_by(both(_P.now(s.STREAM_UP).equals(0), _UP), "daemon").equals(0),
        WARNING,
        "Log stream of daemon {{ $labels.daemon }} is down: requests are not counted.",
        "5m",
    ),
    Alert(
        "LlmsterUnsafePosture",
        max_by(
            both(_P.now(d.LISTENS_BEYOND_LOOPBACK).equals(1), _P.now(d.AUTH_REQUIRED).equals(0)), "daemon"
        ),
        CRITICAL,
        "Daemon {{ $labels.daemon }} listens beyond loopback without authentication.",
        "5m",
    ),
)

# Models and requests -------------------------------------------------------------------------------------------------
_QUIET: Final = now() - _P.now(s.LAST_PROGRESS)
_VANISHED: Final = unless(_P.over("last_over_time", d.REQUESTS_RUNNING, "2m") > 0, _P.now(d.REQUESTS_RUNNING))

MODELS: Final = (
    Alert(
        "LlmsterGenerationStuck",
        both(_QUIET > _STUCK_AFTER_S, _P.now(d.REQUESTS_RUNNING) > 0),
        CRITICAL,
        "{{ $labels.instance_id }} on {{ $labels.daemon }} has running requests and no progress for "
        "{{ $value | humanizeDuration }}.",
        "1m",
    ),
    Alert(
        "LlmsterEngineCrashed",
        sum_by(_P.increase(s.ENGINE_CRASHES, "10m"), "daemon", "when") > 0,
        WARNING,
        "An engine of {{ $labels.daemon }} crashed while {{ $labels.when }}: its requests or its load failed.",
    ),
    Alert(
        "LlmsterKvCacheExhausted",
        sum_by(_P.increase(e.FAILURES, "10m", reason="kv_exhausted"), "daemon", "instance_id") > 0,
        WARNING,
        "{{ $labels.instance_id }} on {{ $labels.daemon }} ran out of KV cache: its running requests failed.",
    ),
    Alert(
        "LlmsterQueueBuilding",
        _P.now(d.REQUESTS_WAITING) > _P.now(d.PARALLEL),
        WARNING,
        "{{ $value }} requests wait for {{ $labels.instance_id }} on {{ $labels.daemon }}: more than it has slots.",
        "5m",
    ),
    Alert(
        "LlmsterEvictedWhileBusy",
        unless(
            both(_VANISHED, max_by(_UP, "daemon"), "daemon"),
            sum_by(_P.increase(d.RESTARTS, "5m"), "daemon") > 0,
            "daemon",
        ),
        WARNING,
        "{{ $labels.instance_id }} was unloaded from {{ $labels.daemon }} with {{ $value }} running requests.",
    ),
    Alert(
        "LlmsterDuplicateInstances",
        count_by(_P.now(d.INSTANCE_INFO), "daemon", "model", "device") > 1,
        INFO,
        "{{ $labels.model }} is loaded {{ $value }} times on {{ $labels.daemon }}: each copy takes VRAM.",
        "15m",
    ),
)


FAST: Final = 14.4
SLOW: Final = 6
"""How many times faster than allowed an error budget is spent when the alerts fire: over an hour, over six."""


def _burns(
    first: str, recordings: dict[str, recording.Recording], objective: float, what: str
) -> tuple[Alert, Alert]:
    """Write the pair of burn-rate alerts for an objective, a share of requests."""
    allowed = 1 - objective

    def burning(long: str, short: str, share: float) -> Expr:
        return both(recordings[long].series > share, recordings[short].series > share)

    return (
        Alert(
            f"{first}BurnFast",
            burning("1h", "5m", round(FAST * allowed, 6)),
            CRITICAL,
            f"{{{{ $value | humanizePercentage }}}} of requests to {{{{ $labels.daemon }}}} {what}.",
            "2m",
        ),
        Alert(
            f"{first}BurnSlow",
            burning("6h", "30m", round(SLOW * allowed, 6)),
            WARNING,
            f"{{{{ $value | humanizePercentage }}}} of requests to {{{{ $labels.daemon }}}}, for hours, {what}.",
            "15m",
        ),
    )


OBJECTIVES: Final = (
    *_burns("LlmsterError", recording.ERRORS, recording.SUCCEEDED, "end in error"),
    *_burns("LlmsterTtft", recording.TTFT_SLOW, recording.ON_TIME, "have a TTFT above 2.5 s"),
    *_burns("LlmsterTpot", recording.TPOT_SLOW, recording.ON_TIME, "have a TPOT above 0.1 s"),
)

# DaemonPulse itself --------------------------------------------------------------------------------------------------
_LOST: Final = (
    _P.increase(o.OTLP_SPANS_DROPPED, "10m")
    + _P.increase(o.OTLP_SPANS_FAILED, "10m")
    + _P.increase(o.OTLP_LOGS_DROPPED, "10m")
    + _P.increase(o.OTLP_LOGS_FAILED, "10m")
)

SELF: Final = (
    Alert(
        "DaemonPulseDroppingEvents",
        _P.newly(s.EVENTS_DROPPED, "10m"),
        WARNING,
        "DaemonPulse drops log events of {{ $labels.daemon }} ({{ $labels.sink }}: {{ $labels.reason }}).",
    ),
    Alert(
        "DaemonPulseLosingTelemetry",
        _LOST > 0,
        WARNING,
        "DaemonPulse on {{ $labels.instance }} loses traces or logs: the OTLP receiver is away or too slow.",
        "10m",
    ),
    Alert(
        "DaemonPulseCollectorFailing",
        _P.now(o.COLLECTOR_SUCCESS).equals(0),
        WARNING,
        "DaemonPulse on {{ $labels.instance }} fails to collect {{ $labels.collector }}.",
        "5m",
    ),
    Alert(
        "DaemonPulseTapDown",
        max_by(_P.now(t.UP), "daemon").equals(0),
        WARNING,
        "Tap of daemon {{ $labels.daemon }} is down: clients that use it get no answer.",
        "2m",
    ),
    Alert(
        "DaemonPulseAuditNotWritable",
        _P.now(a.AUDIT_WRITABLE).equals(0),
        CRITICAL,
        "The audit log on {{ $labels.instance }} is not writable: every action is refused.",
        "1m",
    ),
)

# Tools ---------------------------------------------------------------------------------------------------------------
_MANY: Final = 20
"""More refusals in ten minutes than a model makes by mistake."""

TOOLS: Final = (
    Alert(
        "McpCallsDenied",
        sum_by(_P.increase(m.TOOL_CALLS, "10m", outcome="refused"), "server") > _MANY,
        WARNING,
        'The policy denied {{ $value | printf "%.0f" }} calls to {{ $labels.server }} in 10 minutes.',
    ),
    Alert(
        "McpApprovalWaiting",
        _P.now(m.APPROVALS_PENDING) > 0,
        INFO,
        "{{ $value }} tool calls wait for approval on {{ $labels.instance }}.",
        "2m",
        keep="10m",
    ),
    Alert(
        "McpConfigDrift",
        _P.now(m.CONFIG_DRIFT) > 0,
        CRITICAL,
        "{{ $value }} tool servers on {{ $labels.instance }} are ungated: their tools run without policy.",
        "5m",
    ),
    Alert(
        "McpPolicyNotLoaded",
        _P.now(m.POLICY_LOADED).equals(0),
        WARNING,
        "The MCP policy file on {{ $labels.instance }} cannot be loaded; an older policy is in force.",
        "1m",
    ),
    Alert(
        "McpToolChanged",
        _P.now(m.TOOL_CHANGED).equals(1),
        WARNING,
        "Tool {{ $labels.tool }} of {{ $labels.server }} changed since its approval; it asks again.",
    ),
    Alert(
        "McpServerDown",
        _P.now(m.SERVER_UP).equals(0),
        WARNING,
        "Tool server {{ $labels.server }} is down.",
        "5m",
    ),
)

# The host ------------------------------------------------------------------------------------------------------------
HOST: Final = (
    Alert(
        "LlmsterHostMemoryLow",
        _P.now(h.HOST_MEMORY_AVAILABLE) / _P.now(h.HOST_MEMORY_TOTAL) < LITTLE_LEFT,
        CRITICAL,
        "The host of {{ $labels.daemon }} has {{ $value | humanizePercentage }} of its RAM left.",
        "5m",
    ),
    Alert(
        "LlmsterHostMemoryLeak",
        _P.over("deriv", h.PROCESS_RESIDENT, "1h") * 3600 > 100 * MIB,
        WARNING,
        "The {{ $labels.role }} of {{ $labels.daemon }} (pid {{ $labels.pid }}) grows by "
        "{{ $value | humanize1024 }}B of RAM per hour.",
        "90m",  # longer than a load, however slow, stays in the hour that is looked at
    ),
)
