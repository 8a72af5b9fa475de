"""The cases of the alerts about daemons, models, objectives, hosts, tools and DaemonPulse itself."""

from tests.dashboards.alerts.case import (
    BOX,
    DAEMON,
    GIB,
    HERE,
    MIB,
    ONE,
    PLACE,
    WHO,
    Case,
    ended,
    histogram,
    state,
)

TTFT = "llmster_time_to_first_token_seconds"
CALLS = "daemonpulse_mcp_tool_calls_total"
DENIED = f'server="files",tool="rm",decision="deny",outcome="refused",{HERE}'
ALLOWED = f'server="files",tool="ls",decision="allow",outcome="done",{HERE}'
PER_TOKEN = "llmster_time_per_output_token_seconds"

CASES: dict[str, Case] = {
    "LlmsterDaemonDown": Case(
        fires=state(down="1x40"),
        labels=DAEMON,
        summary="Daemon box is down: it refuses connections.",
        quiet=state(down="0x29 1"),
    ),
    "LlmsterDaemonStalled": Case(
        fires=state(stalled="1x40"),
        labels=DAEMON,
        summary="Daemon box is stalled: it accepts connections and does not answer.",
        quiet=state(stalled="0x29 1", down="1x40"),
    ),
    "LlmsterDaemonUnreadable": Case(
        fires={**state(refused="1x40"), f"llmster_up{{{BOX}}}": "0x40"},
        labels=DAEMON,
        summary="Daemon box answers and cannot be read: most often its API token is missing or wrong.",
        quiet={**state(running="0x40", down="1x40"), f"llmster_up{{{BOX}}}": "0x40"},
    ),
    "LlmsterDaemonRestarting": Case(
        fires={f"llmster_restarts_total{{{BOX}}}": "0x10 1x5 2x5 3x20"},
        labels=DAEMON,
        summary="Daemon box restarted 3 times in 30 minutes.",
        quiet={f"llmster_restarts_total{{{BOX}}}": "0x10 1x30"},
    ),
    "LlmsterNotWatched": Case(
        fires={},
        labels={},
        summary="No llmster exporter is being scraped.",
        quiet={f"llmster_up{{{BOX}}}": "0x40"},
    ),
    "LlmsterLogStreamDown": Case(
        fires={f"llmster_log_stream_up{{{BOX}}}": "0x40", f"llmster_up{{{BOX}}}": "1x40"},
        labels=DAEMON,
        summary="Log stream of daemon box is down: requests are not counted.",
        quiet={f"llmster_log_stream_up{{{BOX}}}": "0x40", f"llmster_up{{{BOX}}}": "0x40"},
    ),
    "LlmsterUnsafePosture": Case(
        fires={
            f"llmster_config_listens_beyond_loopback{{{BOX}}}": "1x40",
            f"llmster_config_auth_required{{{BOX}}}": "0x40",
        },
        labels=DAEMON,
        summary="Daemon box listens beyond loopback without authentication.",
        quiet={
            f"llmster_config_listens_beyond_loopback{{{BOX}}}": "1x40",
            f"llmster_config_auth_required{{{BOX}}}": "1x40",
        },
    ),
    "LlmsterGenerationStuck": Case(
        fires={
            f"llmster_log_last_progress_timestamp_seconds{{{ONE}}}": "600x40",
            f"llmster_num_requests_running{{{ONE}}}": "1x40",
        },
        labels=WHO,
        summary="qwen on box has running requests and no progress for 20m 0s.",
        quiet={
            f"llmster_log_last_progress_timestamp_seconds{{{ONE}}}": "600x40",
            f"llmster_num_requests_running{{{ONE}}}": "0x40",
        },
    ),
    "LlmsterQueueBuilding": Case(
        fires={
            f"llmster_num_requests_waiting{{{ONE}}}": "9x40",
            f"llmster_instance_parallel{{{ONE}}}": "4x40",
        },
        labels=WHO,
        summary="9 requests wait for qwen on box: more than it has slots.",
        quiet={
            f"llmster_num_requests_waiting{{{ONE}}}": "4x40",
            f"llmster_instance_parallel{{{ONE}}}": "4x40",
        },
    ),
    "LlmsterEngineCrashed": Case(
        fires={f'llmster_engine_crashes_total{{when="running",{BOX}}}': "0x24 1x20"},
        labels={"daemon": "box", "when": "running"},
        summary="An engine of box crashed while running: its requests or its load failed.",
        quiet={f'llmster_engine_crashes_total{{when="running",{BOX}}}': "3x40"},
    ),
    "LlmsterKvCacheExhausted": Case(
        fires={f'llmster_engine_request_failures_total{{reason="kv_exhausted",{ONE}}}': "0x24 4x20"},
        labels={"daemon": "box", "instance_id": "qwen"},
        summary="qwen on box ran out of KV cache: its running requests failed.",
        quiet={
            f'llmster_engine_request_failures_total{{reason="kv_exhausted",{ONE}}}': "3x40",
            f'llmster_engine_request_failures_total{{reason="too_large",{ONE}}}': "0x24 4x20",
        },
    ),
    "LlmsterEvictedWhileBusy": Case(
        fires={
            f"llmster_num_requests_running{{{ONE}}}": "2x29 stale",
            f"llmster_up{{{BOX}}}": "1x40",
            f"llmster_restarts_total{{{BOX}}}": "0x40",
        },
        labels=WHO,
        summary="qwen was unloaded from box with 2 running requests.",
        quiet={
            f"llmster_num_requests_running{{{ONE}}}": "2x29 stale",
            f"llmster_up{{{BOX}}}": "1x40",
            f"llmster_restarts_total{{{BOX}}}": "0x28 1x10",
        },
    ),
    "LlmsterDuplicateInstances": Case(
        fires={
            f'llmster_instance_info{{model="m",instance_id="m",device="local",{BOX}}}': "1x40",
            f'llmster_instance_info{{model="m",instance_id="m:2",device="local",{BOX}}}': "1x40",
        },
        labels={"daemon": "box", "model": "m", "device": "local"},
        summary="m is loaded 2 times on box: each copy takes VRAM.",
        quiet={
            f'llmster_instance_info{{model="m",instance_id="m",device="local",{BOX}}}': "1x40",
            f'llmster_instance_info{{model="m",instance_id="m:2",device="mac",{BOX}}}': "1x40",
        },
    ),
    "LlmsterErrorBurnFast": Case(
        fires=ended(error=2, stop=8, unknown=5),
        labels=DAEMON,
        summary="20% of requests to box end in error.",
        quiet=ended(error=1, stop=9, abort=5, unknown=50),
        at="90m",
    ),
    "LlmsterErrorBurnSlow": Case(
        fires=ended(error=1, stop=9),
        labels=DAEMON,
        summary="10% of requests to box, for hours, end in error.",
        quiet=ended(error=1, stop=19, unknown=80),
        at="380m",
    ),
    "LlmsterTtftBurnFast": Case(
        fires=histogram(TTFT, "2.5", fast=2, every=10),
        labels=DAEMON,
        summary="80% of requests to box have a TTFT above 2.5 s.",
        quiet=histogram(TTFT, "2.5", fast=3, every=10),
        at="90m",
    ),
    "LlmsterTtftBurnSlow": Case(
        fires=histogram(TTFT, "2.5", fast=6, every=10),
        labels=DAEMON,
        summary="40% of requests to box, for hours, have a TTFT above 2.5 s.",
        quiet=histogram(TTFT, "2.5", fast=8, every=10),
        at="380m",
    ),
    "LlmsterTpotBurnFast": Case(
        fires=histogram(PER_TOKEN, "0.1", fast=2, every=10),
        labels=DAEMON,
        summary="80% of requests to box have a TPOT above 0.1 s.",
        quiet=histogram(PER_TOKEN, "0.1", fast=10, every=10),
        at="90m",
    ),
    "LlmsterTpotBurnSlow": Case(
        fires=histogram(PER_TOKEN, "0.1", fast=6, every=10),
        labels=DAEMON,
        summary="40% of requests to box, for hours, have a TPOT above 0.1 s.",
        quiet=histogram(PER_TOKEN, "0.1", fast=8, every=10),
        at="380m",
    ),
    "LlmsterHostMemoryLow": Case(
        fires={
            f"llmster_host_memory_available_bytes{{{BOX}}}": "3x40",
            f"llmster_host_memory_total_bytes{{{BOX}}}": "100x40",
        },
        labels={"daemon": "box", **PLACE},
        summary="The host of box has 3% of its RAM left.",
        quiet={
            f"llmster_host_memory_available_bytes{{{BOX}}}": "8x40",
            f"llmster_host_memory_total_bytes{{{BOX}}}": "100x40",
        },
    ),
    "LlmsterHostMemoryLeak": Case(
        fires={
            f'llmster_process_resident_memory_bytes{{role="daemon",pid="7",{BOX}}}': f"{GIB}+{4 * MIB}x200"
        },
        labels={"daemon": "box", "role": "daemon", "pid": "7", **PLACE},
        summary="The daemon of box (pid 7) grows by 240MiB of RAM per hour.",
        quiet={
            # A model that is loaded grows once, here over ten minutes.
            f'llmster_process_resident_memory_bytes{{role="engine",pid="8",{BOX}}}': (
                f"{GIB}x79 {GIB}+{800 * MIB}x10 {9 * GIB}x100"
            )
        },
        at="145m",
    ),
    "DaemonPulseDroppingEvents": Case(
        fires={f'llmster_log_events_dropped_total{{sink="spans",reason="full",{BOX}}}': "_x25 7x15"},
        labels={"daemon": "box", "sink": "spans", "reason": "full", **PLACE},
        summary="DaemonPulse drops log events of box (spans: full).",
        quiet={f'llmster_log_events_dropped_total{{sink="spans",reason="full",{BOX}}}': "7x40"},
    ),
    "DaemonPulseLosingTelemetry": Case(
        fires={
            f"daemonpulse_otlp_spans_dropped_total{{{HERE}}}": "0x40",
            f"daemonpulse_otlp_spans_failed_total{{{HERE}}}": "0+5x40",
            f"daemonpulse_otlp_logs_dropped_total{{{HERE}}}": "0x40",
            f"daemonpulse_otlp_logs_failed_total{{{HERE}}}": "0x40",
        },
        labels=PLACE,
        summary="DaemonPulse on box:9810 loses traces or logs: the OTLP receiver is away or too slow.",
        quiet={
            f"daemonpulse_otlp_spans_dropped_total{{{HERE}}}": "3x40",
            f"daemonpulse_otlp_spans_failed_total{{{HERE}}}": "3x40",
            f"daemonpulse_otlp_logs_dropped_total{{{HERE}}}": "0x40",
            f"daemonpulse_otlp_logs_failed_total{{{HERE}}}": "0x40",
        },
    ),
    "DaemonPulseCollectorFailing": Case(
        fires={f'daemonpulse_collector_success{{collector="gpu",{HERE}}}': "0x40"},
        labels={"collector": "gpu", **PLACE},
        summary="DaemonPulse on box:9810 fails to collect gpu.",
        quiet={f'daemonpulse_collector_success{{collector="gpu",{HERE}}}': "1x40"},
    ),
    "DaemonPulseTapDown": Case(
        fires={f"daemonpulse_tap_up{{{BOX}}}": "0x40"},
        labels=DAEMON,
        summary="Tap of daemon box is down: clients that use it get no answer.",
        quiet={f"daemonpulse_tap_up{{{BOX}}}": "1x40"},
    ),
    "McpCallsDenied": Case(
        fires={f"{CALLS}{{{DENIED}}}": "0+5x40"},
        labels={"server": "files"},
        summary="The policy denied 50 calls to files in 10 minutes.",
        quiet={f"{CALLS}{{{DENIED}}}": "0+1x40", f"{CALLS}{{{ALLOWED}}}": "0+9x40"},
    ),
    "McpApprovalWaiting": Case(
        fires={f"daemonpulse_mcp_approvals_pending{{{HERE}}}": "2x40"},
        labels=PLACE,
        summary="2 tool calls wait for approval on box:9810.",
        quiet={f"daemonpulse_mcp_approvals_pending{{{HERE}}}": "0x28 1x10"},
    ),
    "McpConfigDrift": Case(
        fires={f"daemonpulse_mcp_config_drift{{{HERE}}}": "1x40"},
        labels=PLACE,
        summary="1 tool servers on box:9810 are ungated: their tools run without policy.",
        quiet={f"daemonpulse_mcp_config_drift{{{HERE}}}": "0x40"},
    ),
    "McpPolicyNotLoaded": Case(
        fires={f"daemonpulse_mcp_policy_loaded{{{HERE}}}": "0x40"},
        labels=PLACE,
        summary="The MCP policy file on box:9810 cannot be loaded; an older policy is in force.",
        quiet={f"daemonpulse_mcp_policy_loaded{{{HERE}}}": "1x40"},
    ),
    "McpToolChanged": Case(
        fires={f'daemonpulse_mcp_tool_changed{{server="files",tool="ls",{HERE}}}': "0x20 1x20"},
        labels={"server": "files", "tool": "ls", **PLACE},
        summary="Tool ls of files changed since its approval; it asks again.",
        quiet={f'daemonpulse_mcp_tool_changed{{server="files",tool="ls",{HERE}}}': "0x40"},
    ),
    "McpServerDown": Case(
        fires={f'daemonpulse_mcp_server_up{{server="files",{HERE}}}': "0x40"},
        labels={"server": "files", **PLACE},
        summary="Tool server files is down.",
        quiet={f'daemonpulse_mcp_server_up{{server="files",{HERE}}}': "1x40"},
    ),
    "DaemonPulseAuditNotWritable": Case(
        fires={f"daemonpulse_audit_writable{{{HERE}}}": "0x40"},
        labels=PLACE,
        summary="The audit log on box:9810 is not writable: every action is refused.",
        quiet={f"daemonpulse_audit_writable{{{HERE}}}": "1x40"},
    ),
}
