"""For every alert: series that make it fire, what it then says, and series so close that it must not."""

from dataclasses import dataclass

GIB = 2**30
MIB = 2**20

Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """One alert's tests. Samples are a minute apart, in promtool's notation."""

    fires: Series
    labels: dict[str, str]
    """Of the firing alert, without alertname and severity."""
    summary: str
    quiet: Series
    at: str = "30m"


HERE = 'job="daemonpulse",instance="box:9810"'
BOX = f'daemon="box",{HERE}'
ONE = f'daemon="box",model="qwen/qwen3-8b",instance_id="qwen",{HERE}'
WHO = {
    "daemon": "box",
    "model": "qwen/qwen3-8b",
    "instance_id": "qwen",
    "job": "daemonpulse",
    "instance": "box:9810",
}
PLACE = {"job": "daemonpulse", "instance": "box:9810"}
GPU = f'gpu="0",{HERE}'
ON_GPU = {"gpu": "0", "instance": "box:9810"}
DAEMON = {"daemon": "box"}


def state(**states: str) -> Series:
    return {f'llmster_daemon_state{{state="{name}",{BOX}}}': values for name, values in states.items()}


def histogram(name: str, bound: str, fast: int, every: int) -> Series:
    """So many of so many observations a minute are at most the bound, for hours."""
    return {
        f'{name}_bucket{{le="{bound}",{BOX}}}': f"0+{fast}x400",
        f"{name}_count{{{BOX}}}": f"0+{every}x400",
    }


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
        fires={f'llmster_engine_crashes_total{{when="running",{BOX}}}': "0x20 1x20"},
        labels={"daemon": "box", "when": "running"},
        summary="An engine of box crashed while running: its requests or its load failed.",
        quiet={f'llmster_engine_crashes_total{{when="running",{BOX}}}': "3x40"},
    ),
    "LlmsterKvCacheExhausted": Case(
        fires={f'llmster_engine_request_failures_total{{reason="kv_exhausted",{ONE}}}': "0x20 4x20"},
        labels={"daemon": "box", "instance_id": "qwen"},
        summary="qwen on box ran out of KV cache: its running requests failed.",
        quiet={
            f'llmster_engine_request_failures_total{{reason="kv_exhausted",{ONE}}}': "3x40",
            f'llmster_engine_request_failures_total{{reason="too_large",{ONE}}}': "0x20 4x20",
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
    "GpuMemoryNearlyFull": Case(
        fires={f"gpu_memory_free_bytes{{{GPU}}}": "2x40", f"gpu_memory_total_bytes{{{GPU}}}": "100x40"},
        labels=ON_GPU,
        summary="GPU 0 of box:9810 has 2% of its VRAM left: the next load or long context fails.",
        quiet={f"gpu_memory_free_bytes{{{GPU}}}": "6x40", f"gpu_memory_total_bytes{{{GPU}}}": "100x40"},
    ),
    "GpuForeignProcess": Case(
        fires={
            f'gpu_process_memory_bytes{{process="llama-server",instance_id="qwen",{GPU}}}': f"{8 * GIB}x40",
            f'gpu_process_memory_bytes{{process="game",instance_id="",{GPU}}}': f"{2 * GIB}x40",
            f'llmster_instance_vram_bytes{{gpu="0",{ONE}}}': f"{8 * GIB}x40",
            f'llmster_vram_unattributed_bytes{{gpu="0",{BOX}}}': "0x40",
        },
        labels=ON_GPU,
        summary="GPU 0 of box:9810: foreign processes hold 2GiB of VRAM beside loaded models.",
        quiet={
            # As much memory, but the daemon's own.
            f'gpu_process_memory_bytes{{process="llama-server",instance_id="qwen",{GPU}}}': f"{8 * GIB}x40",
            f'gpu_process_memory_bytes{{process="llmster",instance_id="",{GPU}}}': f"{2 * GIB}x40",
            f'llmster_instance_vram_bytes{{gpu="0",{ONE}}}': f"{8 * GIB}x40",
            f'llmster_vram_unattributed_bytes{{gpu="0",{BOX}}}': f"{2 * GIB}x40",
        },
    ),
    "GpuMemoryLeak": Case(
        fires={f'llmster_vram_unattributed_bytes{{gpu="0",{BOX}}}': f"{GIB}+{8 * MIB}x200"},
        labels={"daemon": "box", "gpu": "0", **PLACE},
        summary="Daemon box holds 480MiB more on GPU 0 than an hour ago, and no loaded model explains it.",
        quiet={f'llmster_vram_unattributed_bytes{{gpu="0",{BOX}}}': f"{GIB}x79 {3 * GIB}x100"},
        at="130m",
    ),
    "GpuHot": Case(
        fires={
            f'gpu_temperature_celsius{{sensor="gpu",{GPU}}}': "90x40",
            f'gpu_temperature_limit_celsius{{limit="slowdown",{GPU}}}': "93x40",
        },
        labels=ON_GPU,
        summary="GPU 0 of box:9810 is at 90 °C, within 5 °C of its slowdown limit.",
        quiet={
            f'gpu_temperature_celsius{{sensor="gpu",{GPU}}}': "80x40",
            f'gpu_temperature_celsius{{sensor="memory",{GPU}}}': "95x40",
            f'gpu_temperature_limit_celsius{{limit="slowdown",{GPU}}}': "93x40",
        },
    ),
    "GpuThrottled": Case(
        fires={f'gpu_throttle_active{{reason="hw_thermal_slowdown",{GPU}}}': "1x40"},
        labels={**ON_GPU, "reason": "hw_thermal_slowdown"},
        summary="GPU 0 of box:9810 is throttled: hw_thermal_slowdown.",
        quiet={
            f'gpu_throttle_active{{reason="gpu_idle",{GPU}}}': "1x40",
            f'gpu_throttle_active{{reason="sw_power_cap",{GPU}}}': "1x40",
        },
    ),
    "GpuXidError": Case(
        fires={f'gpu_xid_errors_total{{xid="79",{GPU}}}': "_x25 1x15"},
        labels={"gpu": "0", "xid": "79", **PLACE},
        summary="The driver reported XID 79 for GPU 0 of box:9810.",
        quiet={f'gpu_xid_errors_total{{xid="79",{GPU}}}': "1x40"},
    ),
    "GpuEccUncorrected": Case(
        fires={f'gpu_ecc_errors_total{{kind="uncorrected",location="dram",{GPU}}}': "4x20 5x20"},
        labels=ON_GPU,
        summary="GPU 0 of box:9810 had uncorrected ECC errors: answers may be wrong and processes may die.",
        quiet={
            f'gpu_ecc_errors_total{{kind="uncorrected",location="dram",{GPU}}}': "4x40",
            f'gpu_ecc_errors_total{{kind="corrected",location="dram",{GPU}}}': "0+1x40",
        },
    ),
    "GpuToBeReplaced": Case(
        fires={f"gpu_remapped_rows_failed{{{GPU}}}": "1x40"},
        labels=ON_GPU,
        summary="GPU 0 of box:9810 failed to remap memory rows: replace the GPU.",
        quiet={
            f"gpu_remapped_rows_failed{{{GPU}}}": "0x40",
            f"gpu_remapped_rows_pending{{{GPU}}}": "1x40",
        },
    ),
    "GpuLost": Case(
        fires={f"gpu_device_lost{{{GPU}}}": "1x40"},
        labels=ON_GPU,
        summary="GPU 0 of box:9810 has fallen off the bus.",
        quiet={f"gpu_device_lost{{{GPU}}}": "0x40"},
    ),
    "GpuDriverSilent": Case(
        fires={
            f'gpu_driver_up{{{HERE},vendor="nvidia"}}': "0x40",
            f'gpu_driver_up{{{HERE},vendor="amd"}}': "1x40",
        },
        labels={"instance": "box:9810", "vendor": "nvidia"},
        summary="The nvidia GPU driver of box:9810 does not answer.",
        quiet={f'gpu_driver_up{{{HERE},vendor="nvidia"}}': "0x24 1 0x10"},
        at="28m",
    ),
    "GpuPcieDowngraded": Case(
        fires={f"gpu_pcie_link_width{{{GPU}}}": "8x40", f"gpu_pcie_link_width_max{{{GPU}}}": "16x40"},
        labels=ON_GPU,
        summary="GPU 0 of box:9810 has a degraded PCIe link: "
        "fewer lanes, or a lower PCIe generation under load.",
        quiet={
            # A lower generation at rest is power saving.
            f"gpu_pcie_link_generation{{{GPU}}}": "1x40",
            f"gpu_pcie_link_generation_max{{{GPU}}}": "4x40",
            f"gpu_utilization_ratio{{{GPU}}}": "0.1x40",
        },
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
