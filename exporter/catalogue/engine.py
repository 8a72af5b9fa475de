"""Catalogue: what inference engines log: slots, context, prompt cache, failures, queue.

Series of an engine with unknown log wordings, or that logs nothing, are absent. Counts per instance grow as long as
the engine runs and the log stream is open.
"""

from __future__ import annotations

from typing import Final

from exporter.catalogue.metric import counter, gauge, histogram, rows_of

_ENGINE: Final = "llama-server lines in runtime.log and server.log events"
_INSTANCE: Final = ("daemon", "model", "instance_id")
_SLOT: Final = (*_INSTANCE, "slot")
_QUEUE_S: Final = (
    0.0,
    0.1,
    0.3,
    0.5,
    0.8,
    1.0,
    2.5,
    5.0,
    10.0,
    20.0,
    40.0,
    80.0,
    160.0,
    320.0,
    960.0,
    3600.0,
    10800.0,
)

ENGINE_SLOTS = gauge(
    "llmster_engine_slots",
    "Slots the instance's engine reported when it started.",
    *_INSTANCE,
    source="`initializing, n_slots =` of llama-server",
)
ENGINE_CONTEXT = gauge(
    "llmster_engine_slot_context_length_tokens",
    "Context length per slot the instance's engine reported when it started.",
    *_INSTANCE,
    source="`initializing, n_ctx_slot =` of llama-server", unit="tokens",
)  # fmt: skip
SLOT_CONTEXT = gauge(
    "llmster_slot_context_tokens",
    "Tokens in the context of a slot, as of the last log line with it.",
    *_SLOT,
    source=_ENGINE, unit="tokens",
)  # fmt: skip
SLOT_PREFILL_RATE = gauge(
    "llmster_slot_prefill_tokens_per_second",
    "Prefill rate of a busy slot, while its engine reports progress.",
    *_SLOT,
    source=_ENGINE, unit="tokens_per_second",
)  # fmt: skip
CACHED_TOKENS = counter(
    "llmster_prompt_cache_hit_tokens_total",
    "Prompt tokens that the engine took from its prompt cache.",
    *_INSTANCE,
    source=_ENGINE + "; LM Studio's `Prompt cache restore`", unit="tokens",
)  # fmt: skip
PROCESSED_TOKENS = counter(
    "llmster_prompt_cache_miss_tokens_total",
    "Prompt tokens that the engine evaluated, of the requests whose cached tokens are known.",
    *_INSTANCE,
    source=_ENGINE + "; LM Studio's `Prompt cache restore`", unit="tokens",
)  # fmt: skip
CACHE_RATIO = gauge(
    "llmster_prompt_cache_hit_ratio",
    "Share of prompt tokens taken from the prompt cache since the engine's first log line.",
    *_INSTANCE,
    source=_ENGINE, unit="ratio",
)  # fmt: skip
TRUNCATED = counter(
    "llmster_context_truncations_total",
    "Requests that ended with a truncated context: it was full, or it was shifted.",
    *_INSTANCE,
    source="`truncated = 1` of llama-server",
)
SHIFTED = counter(
    "llmster_context_shifts_total",
    "Context shifts: older tokens were discarded to make room while generating.",
    *_INSTANCE,
    source="`slot context shift` of llama-server",
)
FAILURES = counter(
    "llmster_engine_request_failures_total",
    "Requests an engine failed: kv_exhausted (no room in the KV cache), too_large (prompt over the context), or other.",
    *_INSTANCE, "reason",
    source="`send_error` of llama-server",
)  # fmt: skip
CANCELLED = counter(
    "llmster_engine_requests_cancelled_total",
    "Requests an engine cancelled, mostly because the client went away.",
    *_INSTANCE,
    source="`cancel task` of llama-server",
)
QUEUE_TIME = histogram(
    "llmster_request_queue_time_seconds",
    "Time a request waited for a slot of the engine. Only engines that log deferred tasks.",
    "daemon", "model",
    source="`defer task` (debug verbosity) and `launch_slot_` of llama-server, by its stamps, else the daemon's",
    unit="seconds", buckets=_QUEUE_S,
)  # fmt: skip

ROWS = rows_of(globals())
