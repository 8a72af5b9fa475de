"""Catalogue: health of the exporter itself, which separates a gap in a graph from an idle daemon."""

from __future__ import annotations

from typing import Final

from exporter.catalogue.metric import Metric, counter, gauge, rows_of

_SELF: Final = "daemonpulse"
_PROC: Final = "/proc/self, by prometheus-client"

BUILD_INFO = gauge(
    "daemonpulse_build_info",
    "Always 1. Version of DaemonPulse and of the Python that runs it.",
    "version",
    "python",
    source=_SELF,
)
COLLECTOR_SUCCESS = gauge(
    "daemonpulse_collector_success",
    "Whether a collector worked for this scrape. A daemon that is down is no failure; a bug or a dead driver is.",
    "collector",
    source=_SELF,
)
COLLECTOR_DURATION = gauge(
    "daemonpulse_collector_duration_seconds",
    "Time a collector took for this scrape.",
    "collector",
    source=_SELF,
    unit="seconds",
)
CONNECTION_FAILURES = counter(
    "daemonpulse_connection_failures_total",
    "Connections to a daemon that failed or were lost, by reason.",
    "daemon",
    "reason",
    source=_SELF,
)
PROTOCOL_WARNINGS = counter(
    "daemonpulse_protocol_warnings_total",
    "Warnings a daemon sent about frames of the exporter. Each one is a bug; please report it.",
    "daemon",
    "kind",
    source="communicationWarning",
)
UNREADABLE_MESSAGES = counter(
    "daemonpulse_unreadable_messages_total",
    "Frames or entries from a daemon that could not be decoded, by kind.",
    "daemon",
    "kind",
    source=_SELF,
)
INTERNAL_ERRORS = counter(
    "daemonpulse_internal_errors_total",
    "Exceptions caused by a bug in DaemonPulse, by stage. Each cost one event or one reading; the log names the place.",
    "daemon",
    "stage",
    source=_SELF,
)
UNRECOGNISED_MARKUP = counter(
    "daemonpulse_unrecognised_markup_total",
    "Outputs that seem to hold reasoning or tool markup of an unknown family; see reasoning_tags and tool_tags.",
    "daemon",
    "model",
    source=_SELF,
)
OTLP_SPANS_EXPORTED = counter(
    "daemonpulse_otlp_spans_exported_total", "Spans an OTLP receiver accepted.", source=_SELF
)
OTLP_SPANS_FAILED = counter(
    "daemonpulse_otlp_spans_failed_total",
    "Spans lost because a receiver refused them or was away.",
    source=_SELF,
)
OTLP_LOGS_EXPORTED = counter(
    "daemonpulse_otlp_logs_exported_total", "Log records an OTLP receiver accepted.", source=_SELF
)
OTLP_LOGS_FAILED = counter(
    "daemonpulse_otlp_logs_failed_total",
    "Log records lost because a receiver refused them or was away.",
    source=_SELF,
)
OTLP_SPANS_DROPPED = counter(
    "daemonpulse_otlp_spans_dropped_total",
    "Spans dropped because the queue to the receiver was full.",
    source=_SELF,
)
OTLP_LOGS_DROPPED = counter(
    "daemonpulse_otlp_logs_dropped_total",
    "Log records dropped because the queue to the receiver was full.",
    source=_SELF,
)
OTLP_POINTS_EXPORTED = counter(
    "daemonpulse_otlp_metric_points_exported_total",
    "Metric data points an OTLP receiver accepted.",
    source=_SELF,
)
OTLP_POINTS_FAILED = counter(
    "daemonpulse_otlp_metric_points_failed_total",
    "Metric data points of pushes that failed or were refused. Values are cumulative: the next push contains them.",
    source=_SELF,
)
OTLP: Final[dict[str, tuple[Metric, ...]]] = {
    "spans": (OTLP_SPANS_EXPORTED, OTLP_SPANS_FAILED, OTLP_SPANS_DROPPED),
    "logs": (OTLP_LOGS_EXPORTED, OTLP_LOGS_FAILED, OTLP_LOGS_DROPPED),
    "metrics": (OTLP_POINTS_EXPORTED, OTLP_POINTS_FAILED),
}
"""Exported, failed and dropped items of each signal; metrics have no queue, so that none is dropped.

The exporter serves them, and so does the actions service.
"""
PROCESS_CPU = counter(
    "process_cpu_seconds_total",
    "Total user and system CPU time spent in seconds.",
    source=_PROC,
    unit="seconds",
)
PROCESS_MEMORY = gauge(
    "process_resident_memory_bytes",
    "Resident memory size in bytes.",
    source=_PROC,
    unit="bytes",
)
PROCESS_VIRTUAL_MEMORY = gauge(
    "process_virtual_memory_bytes",
    "Virtual memory size in bytes.",
    source=_PROC,
    unit="bytes",
)
PROCESS_START = gauge(
    "process_start_time_seconds",
    "Start time of the process since unix epoch in seconds.",
    source=_PROC,
    unit="seconds",
)
PROCESS_OPEN_FDS = gauge("process_open_fds", "Number of open file descriptors.", source=_PROC)
PROCESS_MAX_FDS = gauge("process_max_fds", "Maximum number of open file descriptors.", source=_PROC)

ROWS = rows_of(globals())
