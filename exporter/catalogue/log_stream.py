"""Catalogue: what the daemon's log stream contains: predictions, slots of a batch, the stream itself.

Labels stay bounded: no prompt, no request id, no argument. `model` is the model key where the instance is known, else
the identifier in the log.
"""

from __future__ import annotations

from typing import Final

from exporter.catalogue.metric import counter, gauge, histogram, rows_of

_OUTPUT: Final = "llm.prediction.output of diagnostics.streamLogs"
_BOTH: Final = "llm.prediction.input and .output of diagnostics.streamLogs"
_ENGINE: Final = "engine lines in runtime.log and server.log events"
_STREAM: Final = "diagnostics.streamLogs"
_SLOT: Final = ("daemon", "model", "instance_id", "slot")
_ENDED: Final = (
    "llm.prediction.output:timestamp", "llm.prediction.output:data.type", "llm.prediction.output:data.output",
    "llm.prediction.output:data.modelIdentifier",
)  # fmt: skip
_RATE_SAID: Final = "llm.prediction.output:data.stats.tokensPerSecond"
_FIRST_SAID: Final = "llm.prediction.output:data.stats.timeToFirstTokenSec"
_PROMPT_SAID: Final = "llm.prediction.output:data.stats.promptTokensCount"
_COUNT_SAID: Final = "llm.prediction.output:data.stats.predictedTokensCount"
_SERVER: Final = ("server.log:timestamp", "server.log:data.type", "server.log:data.content")

# Bounds of vLLM, so that heads and dashboards carry over; finer below 0.3 s, where small local models live.
_TTFT_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    320.0, 640.0, 1280.0, 2560.0, 5120.0, 10240.0,
)  # fmt: skip
_PER_TOKEN_S: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0)
_E2E_S: Final = (
    0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 3840.0, 7680.0, 14400.0, 28800.0,
)  # fmt: skip
_TOKENS: Final = tuple(float(digit * 10**power) for power in range(6) for digit in (1, 2, 5))
_RATE: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0)
_RATIO: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)

# Predictions ---------------------------------------------------------------------------------------------------------
REQUESTS = counter(
    "llmster_request_success_total",
    "Predictions that ended, by reason: stop, length, tool_calls, abort, error, or unknown where no stats came.",
    "daemon", "model", "finished_reason",
    source=_OUTPUT, needs=_ENDED,
)  # fmt: skip
PROMPT_TOKENS = counter(
    "llmster_prompt_tokens_total",
    "Prompt tokens the daemon counted.",
    "daemon", "model",
    source=_OUTPUT, unit="tokens", needs=(*_ENDED, _PROMPT_SAID),
)  # fmt: skip
GENERATION_TOKENS = counter(
    "llmster_generation_tokens_total",
    "Generated tokens the daemon counted, reasoning included.",
    "daemon", "model",
    source=_OUTPUT, unit="tokens", needs=(*_ENDED, _COUNT_SAID),
)  # fmt: skip
REASONING_TOKENS = counter(
    "llmster_reasoning_tokens_estimated_total",
    "Generated tokens spent on reasoning, estimated from its share of the characters.",
    "daemon", "model",
    source=_OUTPUT, unit="tokens", needs=(*_ENDED, _COUNT_SAID),
)  # fmt: skip
TTFT = histogram(
    "llmster_time_to_first_token_seconds",
    "Time from the start of a prediction to its first token.",
    "daemon", "model",
    source=_OUTPUT, unit="seconds", buckets=_TTFT_S, needs=(*_ENDED, _FIRST_SAID),
)  # fmt: skip
PER_TOKEN = histogram(
    "llmster_time_per_output_token_seconds",
    "Mean time per token after the first, per prediction.",
    "daemon", "model",
    source=_OUTPUT, unit="seconds", buckets=_PER_TOKEN_S, needs=(*_ENDED, _RATE_SAID),
)  # fmt: skip
E2E = histogram(
    "llmster_e2e_request_latency_seconds",
    "Time from the start of a prediction to its last token: TTFT plus tokens over rate, never the daemon's total.",
    "daemon", "model",
    source=_OUTPUT, unit="seconds", buckets=_E2E_S, needs=(*_ENDED, _FIRST_SAID, _RATE_SAID, _COUNT_SAID),
)  # fmt: skip
REASONING_SECONDS = histogram(
    "llmster_request_reasoning_seconds_estimated",
    "Time a prediction spent on reasoning, estimated from its share of the characters. Only predictions that reasoned.",
    "daemon", "model",
    source=_OUTPUT, unit="seconds", buckets=_E2E_S, needs=(*_ENDED, _RATE_SAID, _COUNT_SAID),
)  # fmt: skip
REQUEST_PROMPT_TOKENS = histogram(
    "llmster_request_prompt_tokens",
    "Prompt tokens per prediction.",
    "daemon", "model",
    source=_OUTPUT, unit="tokens", buckets=_TOKENS, needs=(*_ENDED, _PROMPT_SAID),
)  # fmt: skip
REQUEST_GENERATION_TOKENS = histogram(
    "llmster_request_generation_tokens",
    "Generated tokens per prediction.",
    "daemon", "model",
    source=_OUTPUT, unit="tokens", buckets=_TOKENS, needs=(*_ENDED, _COUNT_SAID),
)  # fmt: skip
TOKENS_PER_SECOND = histogram(
    "llmster_generation_tokens_per_second",
    "Generation rate per prediction, as the daemon reports it.",
    "daemon", "model",
    source=_OUTPUT, unit="tokens_per_second", buckets=_RATE, needs=(*_ENDED, _RATE_SAID),
)  # fmt: skip
CONTEXT_UTILIZATION = histogram(
    "llmster_context_utilization_ratio",
    "Share of the instance's context that prompt and answer filled, per prediction.",
    "daemon", "model",
    source=_OUTPUT + "; context length from listLoaded", unit="ratio", buckets=_RATIO,
    needs=(*_ENDED, _PROMPT_SAID, _COUNT_SAID, "listLoaded:contextLength"),
)  # fmt: skip
DRAFT_TOKENS = counter(
    "llmster_spec_decode_draft_tokens_total",
    "Tokens a draft model proposed.",
    "daemon", "model",
    source=_OUTPUT, unit="tokens",
)  # fmt: skip
ACCEPTED_TOKENS = counter(
    "llmster_spec_decode_accepted_tokens_total",
    "Proposed tokens the model accepted.",
    "daemon", "model",
    source=_OUTPUT, unit="tokens",
)  # fmt: skip
TOOL_CALLS = counter(
    "llmster_generated_tool_calls_total",
    "Tool calls found in outputs, by tool name; beyond a bound of names, tool is other.",
    "daemon", "model", "tool",
    source=_OUTPUT,
)  # fmt: skip
PAIRING_MISSES = counter(
    "llmster_prediction_pairing_misses_total",
    "Outputs for which no input was found. They are counted all the same; their conversation is unknown.",
    "daemon",
    source=_BOTH, needs=_ENDED,
)  # fmt: skip

# Batching ------------------------------------------------------------------------------------------------------------
SLOTS = gauge(
    "llmster_slots",
    "Slots of the instance's engine seen so far.",
    "daemon", "model", "instance_id",
    source=_ENGINE,
)  # fmt: skip
SLOT_BUSY = gauge(
    "llmster_slot_busy",
    "Whether a slot of the engine works on a request.",
    *_SLOT,
    source=_ENGINE,
)
SLOT_PROMPT_PROGRESS = gauge(
    "llmster_slot_prompt_progress_ratio",
    "How much of its prompt a busy slot has processed, 0 to 1.",
    *_SLOT,
    source=_ENGINE, unit="ratio",
)  # fmt: skip
SLOT_RATE = gauge(
    "llmster_slot_tokens_per_second",
    "Current generation rate of a busy slot.",
    *_SLOT,
    source=_ENGINE, unit="tokens_per_second",
)  # fmt: skip
LAST_PROGRESS = gauge(
    "llmster_log_last_progress_timestamp_seconds",
    "When the log last showed the instance making progress, by the daemon's clock.",
    "daemon", "model", "instance_id",
    source=_ENGINE, unit="seconds",
)  # fmt: skip

# The stream itself ---------------------------------------------------------------------------------------------------
STREAM_UP = gauge(
    "llmster_log_stream_up",
    "Whether the daemon's log stream is open. An open stream may have no events: prompt logging can be off.",
    "daemon",
    source=_STREAM,
)
DISCONNECTS = counter(
    "llmster_log_stream_disconnects_total",
    "Times an open log stream ended.",
    "daemon",
    source=_STREAM,
)
GAP_SECONDS = counter(
    "llmster_log_stream_gap_seconds_total",
    "Time between the end of a log stream and the next one. What was logged meanwhile was never seen.",
    "daemon",
    source=_STREAM, unit="seconds",
)  # fmt: skip
EVENTS = counter(
    "llmster_log_events_total",
    "Log events received, by type.",
    "daemon", "type",
    source=_STREAM,
)  # fmt: skip
EVENTS_DROPPED = counter(
    "llmster_log_events_dropped_total",
    "Log events a sink did not take, by sink and reason. The metrics sink takes every event.",
    "daemon", "sink", "reason",
    source="daemonpulse",
)  # fmt: skip
SERVER_MESSAGES = counter(
    "llmster_server_log_messages_total",
    "Messages of the daemon's server log by level.",
    "daemon", "level",
    source="server.log of diagnostics.streamLogs", needs=_SERVER,
)  # fmt: skip
PLUGIN_MESSAGES = counter(
    "llmster_mcp_plugin_messages_total",
    "Log lines about the daemon's own MCP plugins, by kind: error, or notice for harmless standard error output.",
    "daemon", "server", "kind",
    source="server.log lines of Plugin(mcp/...)",
)  # fmt: skip
HTTP_REQUESTS = counter(
    "llmster_http_requests_total",
    "HTTP requests in the daemon's log, by method and documented route; any other path is other.",
    "daemon", "method", "route",
    source="server.log lines `Received request`; needs verbose logging", needs=(*_SERVER, "server.log:data.level"),
)  # fmt: skip
HTTP_RESPONSES = counter(
    "llmster_http_responses_total",
    "HTTP responses with a status in the daemon's log, by method, documented route and status.",
    "daemon", "method", "route", "status",
    source="server.log lines that name a status, such as `Unexpected endpoint or method`",
)  # fmt: skip
ENGINE_CRASHES = counter(
    "llmster_engine_crashes_total",
    "Engines that died, by their fatal line: while running, or while starting, so that a load failed.",
    "daemon", "when",
    source="fatal lines in runtime.log and server.log events",
)  # fmt: skip

ROWS = rows_of(globals())
