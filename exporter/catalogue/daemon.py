"""Catalogue: the daemon itself, the models on its disk, its loaded instances, and how exposed it is.

Every metric has the label `daemon` (the configured name). `model` is the model key, `instance_id` the identifier of
a loaded instance (Prometheus owns the label `instance`).
"""

from __future__ import annotations

from typing import Final

from exporter.catalogue.metric import counter, gauge, rows_of

_INSTANCE: Final = ("daemon", "model", "instance_id")
_LIST_LOADED: Final = "llm.listLoaded, embedding.listLoaded"
_STATE: Final = "getInstanceProcessingState"
_LOAD_CONFIG: Final = "llm.getLoadConfig"
_SETTINGS: Final = "settings.json of a local daemon"
_SERVER_CONFIG: Final = ".internal/http-server-config.json of a local daemon"
_LISTED: Final = (
    "listLoaded:type",
    "listLoaded:modelKey",
    "listLoaded:identifier",
    "listLoaded:instanceReference",
)
_ON_DISK: Final = ("listDownloadedModels:type", "listDownloadedModels:modelKey")
_PROCESSING: Final = (
    *_LISTED, "getInstanceProcessingState:status", "getInstanceProcessingState:queued",
)  # fmt: skip
_ENGINE: Final = ("listEngines:name", "listEngines:version")

# The daemon ----------------------------------------------------------------------------------------------------------
UP = gauge(
    "llmster_up",
    "Whether the daemon's state could be read for this scrape, in whole or in part.",
    "daemon",
    source="WebSocket session and snapshot",
)
STATE = gauge(
    "llmster_daemon_state",
    "1 for the daemon's state, 0 for the others: running, stalled (accepts connections and does not answer in time), "
    "refused (answers and does not let the exporter in: token, HTTP error, another server) or down (accepts none).",
    "daemon",
    "state",
    source="WebSocket session, keepAlive, time of the snapshot",
)
BUILD_INFO = gauge(
    "llmster_build_info",
    "Always 1. Version and build of what serves; kind is daemon (llmster) or app (the desktop app).",
    "daemon",
    "version",
    "build",
    "kind",
    source="system.version, system.info",
)
SITE_INFO = gauge(
    "llmster_site_info",
    "Always 1. The group of daemons that it belongs to, if it is configured to belong to one.",
    "daemon",
    "site",
    source="setting `site`",
)
SNAPSHOT_DURATION = gauge(
    "llmster_snapshot_duration_seconds",
    "Time the reading behind these numbers took.",
    "daemon",
    source="daemonpulse",
    unit="seconds",
)
SNAPSHOT_AGE = gauge(
    "llmster_snapshot_age_seconds",
    "Age of the reading behind these numbers; at most the maximum age, 1 s by default.",
    "daemon",
    source="daemonpulse",
    unit="seconds",
)
RESTARTS = counter(
    "llmster_restarts_total",
    "Times the daemon came back with another pid or version while it was watched.",
    "daemon",
    source="system.info, system.version",
)
LINK_PEER_UP = gauge(
    "llmster_link_peer_up",
    "Whether an LM Link peer is connected to the daemon.",
    "daemon",
    "peer",
    source="repository.lmLinkStatus",
    needs=("lmLinkStatus:peers.deviceIdentifier",),
)
LINK_STATE = gauge(
    "llmster_link_state",
    "State of the daemon's LM Link: 1 for its state, 0 for the others.",
    "daemon",
    "state",
    source="repository.lmLinkStatus",
    needs=("lmLinkStatus:status",),
)
LINK_ISSUE = gauge(
    "llmster_link_issue",
    "Whether LM Link reports this issue: deviceDisabled, notLoggedIn, noAccess, badVersion or a newer one.",
    "daemon",
    "issue",
    source="repository.lmLinkStatus",
    needs=("lmLinkStatus:issues",),
)
ENGINE_INFO = gauge(
    "llmster_engine_info",
    "Always 1. An inference engine that the daemon has installed, with its version.",
    "daemon",
    "engine",
    "version",
    source="runtime.listEngines",
    needs=_ENGINE,
)

# Models on disk ------------------------------------------------------------------------------------------------------
MODEL_INFO = gauge(
    "llmster_model_info",
    "Always 1. A model on disk; device is local or the LM Link peer that holds it.",
    "daemon",
    "model",
    "type",
    "format",
    "architecture",
    "quantization",
    "params",
    "vision",
    "tools",
    "device",
    source="system.listDownloadedModels",
    needs=_ON_DISK,
)
MODEL_SIZE = gauge(
    "llmster_model_size_bytes",
    "Size of the model's files on disk. Not the memory it will need.",
    "daemon",
    "model",
    "device",
    source="system.listDownloadedModels",
    needs=(*_ON_DISK, "listDownloadedModels:sizeBytes"),
    unit="bytes",
)
MODELS = gauge(
    "llmster_models",
    "Models on disk by type.",
    "daemon",
    "type",
    source="system.listDownloadedModels",
    needs=_ON_DISK,
)

# Loaded instances ----------------------------------------------------------------------------------------------------
INSTANCE_INFO = gauge(
    "llmster_instance_info",
    "Always 1. A loaded instance and what it was loaded from.",
    *_INSTANCE,
    "device",
    "type",
    "format",
    "architecture",
    "quantization",
    source=_LIST_LOADED,
    needs=_LISTED,
)
INSTANCE_STATE = gauge(
    "llmster_instance_state",
    "What the instance is doing: 1 for its state, 0 for the others.",
    *_INSTANCE,
    "state",
    source=_STATE,
    needs=_PROCESSING,
)
REQUESTS_RUNNING = gauge(
    "llmster_num_requests_running",
    "Requests the instance is working on, at most its parallel sessions; absent where these are not known.",
    *_INSTANCE,
    source=_STATE,
    needs=_PROCESSING,
)
REQUESTS_WAITING = gauge(
    "llmster_num_requests_waiting",
    "Requests waiting for a session of the instance.",
    *_INSTANCE,
    source=_STATE,
    needs=_PROCESSING,
)
CONTEXT_LENGTH = gauge(
    "llmster_instance_context_length_tokens",
    "Effective context length of the instance.",
    *_INSTANCE,
    source=_LIST_LOADED,
    needs=(*_LISTED, "listLoaded:contextLength"),
    unit="tokens",
)
CONTEXT_BELOW_DEFAULT = gauge(
    "llmster_instance_context_below_default",
    "Whether the instance got less context than a load by default has, as loads by a request (JIT) may when memory is "
    "short; absent where the default is not known.",
    *_INSTANCE,
    source="llm.listLoaded, llm.getLoadConfig, settings.json of a local daemon",
    needs=(
        *_LISTED,
        "listLoaded:format",
        "listLoaded:contextLength",
        "getLoadConfig:fields.key",
        "getLoadConfig:fields.value",
    ),
)
PARALLEL = gauge(
    "llmster_instance_parallel",
    "Sessions the instance can run at the same time: as configured, else as its engine logged, else the default.",
    *_INSTANCE,
    source=_LOAD_CONFIG,
    needs=(*_LISTED, "getLoadConfig:fields.key"),
)
TTL = gauge(
    "llmster_instance_ttl_seconds",
    "Idle time after which the daemon unloads the instance; absent when it never does.",
    *_INSTANCE,
    source=_LIST_LOADED,
    needs=(*_LISTED, "listLoaded:ttlMs"),
    unit="seconds",
)
TTL_REMAINING = gauge(
    "llmster_instance_ttl_remaining_seconds",
    "Idle time left before the daemon unloads the instance; absent when it never does.",
    *_INSTANCE,
    source=_LIST_LOADED,
    needs=(*_LISTED, "listLoaded:ttlMs"),
    unit="seconds",
)
LAST_USED = gauge(
    "llmster_instance_last_used_timestamp_seconds",
    "When the instance was last used, by the daemon's clock; absent before its first use.",
    *_INSTANCE,
    source=_LIST_LOADED,
    needs=(*_LISTED, "listLoaded:lastUsedTime"),
    unit="seconds",
)
PINNED = gauge(
    "llmster_instance_pinned",
    "Whether the instance has no TTL, and is loaded until it is ejected.",
    *_INSTANCE,
    source=_LIST_LOADED,
    needs=_LISTED,
)
GPU_OFFLOAD = gauge(
    "llmster_instance_gpu_offload_ratio",
    "Share of the layers asked to be on GPUs, 0 to 1; absent while autoFit decides or the load config does not set it.",
    *_INSTANCE,
    source=_LOAD_CONFIG,
    needs=(*_LISTED, "listLoaded:format", "getLoadConfig:fields.key", "getLoadConfig:fields.value"),
    unit="ratio",
)
VRAM_ESTIMATE = gauge(
    "llmster_instance_vram_estimate_bytes",
    "What the daemon believes the instance takes on its GPUs, asked once per load. Compare with the measured bytes.",
    *_INSTANCE,
    source="llm.estimateModelUsage",
    needs=(
        *_LISTED,
        "getLoadConfig:fields.key",
        "estimateModelUsage:memory.totalVramBytes",
        "estimateModelUsage:memory.totalBytes",
        "estimateModelUsage:passesGuardrails",
    ),
    unit="bytes",
)
LOADS = counter(
    "llmster_model_loads_total",
    "Instances that appeared between two readings.",
    "daemon",
    "model",
    source=_LIST_LOADED,
)
UNLOADS = counter(
    "llmster_model_unloads_total",
    "Instances that went away between two readings; cause is ttl, restart or other.",
    "daemon",
    "model",
    "cause",
    source=_LIST_LOADED,
)

# Posture -------------------------------------------------------------------------------------------------------------
LISTENS_BEYOND_LOOPBACK = gauge(
    "llmster_config_listens_beyond_loopback",
    "Whether the daemon's server is set to listen on more than the loopback interface.",
    "daemon",
    source=_SERVER_CONFIG,
)
AUTH_REQUIRED = gauge(
    "llmster_config_auth_required",
    "Whether the daemon refuses clients without an API token.",
    "daemon",
    source="the exporter's own handshake; GET /api/v1/models without a token",
)
SENSITIVE_LOGGING = gauge(
    "llmster_config_sensitive_logging",
    "Whether the daemon is set to log prompts and answers in its server log.",
    "daemon",
    source=_SERVER_CONFIG,
)
JIT_LOADING = gauge(
    "llmster_config_jit_loading",
    "Whether a request may load a model that is not loaded.",
    "daemon",
    source=_SERVER_CONFIG,
)
TOKEN_LOGGING = gauge(
    "llmster_config_log_incoming_tokens",
    "Whether the daemon is set to log tokens as it generates them.",
    "daemon",
    source=_SERVER_CONFIG,
)
CORS = gauge(
    "llmster_config_cors",
    "Whether web pages of other origins may use the daemon (CORS).",
    "daemon",
    source=_SERVER_CONFIG,
)
JIT_EVICTS = gauge(
    "llmster_config_jit_evicts",
    "Whether a model that a request loads makes the one loaded so before it go.",
    "daemon",
    source=_SETTINGS,
)
JIT_TTL = gauge(
    "llmster_config_jit_ttl_seconds",
    "Idle time after which a model that a request loaded is unloaded; absent when it never is.",
    "daemon",
    source=_SETTINGS,
    unit="seconds",
)
LOAD_ANYWAY = gauge(
    "llmster_config_always_allow_load_anyway",
    "Whether loads that the guardrails refuse are done all the same.",
    "daemon",
    source=_SETTINGS,
)
GUARDRAILS = gauge(
    "llmster_config_guardrails",
    "Always 1. The daemon's guardrail mode against loading models that do not fit.",
    "daemon",
    "mode",
    source=_SETTINGS,
)
PROMPT_HISTORY = gauge(
    "llmster_prompt_history_bytes",
    "Size of the prompts and answers the daemon keeps on disk. Only sizes are read.",
    "daemon",
    source="file sizes below .internal/api-prediction-history of a local daemon",
    unit="bytes",
)

ROWS = rows_of(globals())
