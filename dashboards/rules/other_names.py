"""Optional recording rules: the same values under the names of dcgm-exporter, vLLM and llama.cpp's server.

For boards that were made for those. Not read unless prometheus.yml names them: each doubles what it copies.
"""

from __future__ import annotations

from typing import Final

from dashboards.kit.theme import Json
from exporter.catalogue import Metric
from exporter.catalogue import daemon as d
from exporter.catalogue import engine as e
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s

# dcgm-exporter -------------------------------------------------------------------------------------------------------
_WHO: Final = "gpu:gpu_device_info:dcgm"
_DCGM: Final = {
    "DCGM_FI_DEV_SM_CLOCK": 'max without (clock) (gpu_clock_hertz{clock="sm"}) / 1e6',
    "DCGM_FI_DEV_MEM_CLOCK": 'max without (clock) (gpu_clock_hertz{clock="memory"}) / 1e6',
    "DCGM_FI_DEV_GPU_TEMP": 'max without (sensor) (gpu_temperature_celsius{sensor="gpu"})',
    "DCGM_FI_DEV_MEMORY_TEMP": 'max without (sensor) (gpu_temperature_celsius{sensor="memory"})',
    "DCGM_FI_DEV_POWER_USAGE": "gpu_power_watts",
    "DCGM_FI_DEV_POWER_MGMT_LIMIT": "gpu_power_limit_watts",
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": "max without (method) (gpu_energy_joules_total) * 1e3",
    "DCGM_FI_DEV_GPU_UTIL": "gpu_utilization_ratio * 100",
    "DCGM_FI_DEV_MEM_COPY_UTIL": "gpu_memory_busy_ratio * 100",
    "DCGM_FI_DEV_ENC_UTIL": "gpu_encoder_utilization_ratio * 100",
    "DCGM_FI_DEV_DEC_UTIL": "gpu_decoder_utilization_ratio * 100",
    "DCGM_FI_DEV_FB_TOTAL": "gpu_memory_total_bytes / 2^20",
    "DCGM_FI_DEV_FB_USED": "gpu_memory_used_bytes / 2^20",
    "DCGM_FI_DEV_FB_FREE": "gpu_memory_free_bytes / 2^20",
    "DCGM_FI_DEV_FB_RESERVED": "gpu_memory_reserved_bytes / 2^20",
    "DCGM_FI_DEV_FAN_SPEED": "max without (fan) (gpu_fan_speed_ratio) * 100",
    "DCGM_FI_DEV_PCIE_LINK_GEN": "gpu_pcie_link_generation",
    "DCGM_FI_DEV_PCIE_LINK_WIDTH": "gpu_pcie_link_width",
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL": 'sum without (kind, location) (gpu_ecc_errors_total{kind="corrected"})',
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": 'sum without (kind, location) (gpu_ecc_errors_total{kind="uncorrected"})',
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": 'max without (kind) (gpu_remapped_rows{kind="correctable"})',
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 'max without (kind) (gpu_remapped_rows{kind="uncorrectable"})',
    "DCGM_FI_DEV_ROW_REMAP_PENDING": "gpu_remapped_rows_pending",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": "gpu_remapped_rows_failed",
    "DCGM_FI_DEV_XID_ERRORS": (
        "(gpu_last_xid "
        'or on (job, instance, gpu) max by (job, instance, gpu) (gpu_device_info{vendor="nvidia"}) * 0)'
    ),
    "DCGM_FI_DEV_PCIE_TX_THROUGHPUT": (
        'max without (direction) (gpu_pcie_throughput_bytes_per_second{direction="transmit"}) / 1e3'
    ),
    "DCGM_FI_PROF_PCIE_TX_BYTES": (
        'max without (direction) (gpu_pcie_throughput_bytes_per_second{direction="transmit"})'
    ),
    "DCGM_FI_PROF_NVLINK_TX_BYTES": (
        'sum without (direction) (rate(gpu_nvlink_bytes_total{direction="transmit"}[2m]))'
    ),
    "DCGM_FI_DEV_PCIE_RX_THROUGHPUT": (
        'max without (direction) (gpu_pcie_throughput_bytes_per_second{direction="receive"}) / 1e3'
    ),
    "DCGM_FI_PROF_PCIE_RX_BYTES": (
        'max without (direction) (gpu_pcie_throughput_bytes_per_second{direction="receive"})'
    ),
    "DCGM_FI_PROF_NVLINK_RX_BYTES": (
        'sum without (direction) (rate(gpu_nvlink_bytes_total{direction="receive"}[2m]))'
    ),
    "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL": 'max without (kind) (gpu_nvlink_errors_total{kind="crc_flit"})',
    "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL": 'max without (kind) (gpu_nvlink_errors_total{kind="crc_data"})',
    "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL": 'max without (kind) (gpu_nvlink_errors_total{kind="replay"})',
    "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL": 'max without (kind) (gpu_nvlink_errors_total{kind="recovery"})',
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 'max without (part) (gpu_activity_ratio{part="graphics"})',
    "DCGM_FI_PROF_SM_ACTIVE": 'max without (part) (gpu_activity_ratio{part="sm"})',
    "DCGM_FI_PROF_SM_OCCUPANCY": 'max without (part) (gpu_activity_ratio{part="sm_occupancy"})',
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": 'max without (part) (gpu_activity_ratio{part="tensor"})',
    "DCGM_FI_PROF_DRAM_ACTIVE": 'max without (part) (gpu_activity_ratio{part="dram"})',
    "DCGM_FI_PROF_PIPE_FP64_ACTIVE": 'max without (part) (gpu_activity_ratio{part="fp64"})',
    "DCGM_FI_PROF_PIPE_FP32_ACTIVE": 'max without (part) (gpu_activity_ratio{part="fp32"})',
    "DCGM_FI_PROF_PIPE_FP16_ACTIVE": 'max without (part) (gpu_activity_ratio{part="fp16"})',
}
"""In dcgm-exporter's units: MHz, W, mJ, %, MiB. DCGM_FI_DEV_PCIE_*_THROUGHPUT is NVML's throughput over 20 ms, which
dcgm-exporter calls a counter. DCGM_FI_PROF_* of SM, tensor and memory activity exist where the driver offers GPM. Left
out: DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL, whose unit differs between versions of DCGM."""
_DEVICE: Final = (
    "max by (job, instance, gpu, UUID, device, modelName, Hostname, pci_bus_id) ("
    f'label_replace(label_replace(label_replace(label_replace({h.DEVICE_INFO.name}, "UUID", "$1", "uuid", "(.*)"), '
    '"modelName", "$1", "name", "(.*)"), "device", "nvidia$1", "gpu", "(.*)"), '
    '"Hostname", "$1", "instance", "(.*?)(?::[0-9]+)?"))'
)
_JOIN: Final = f" * on (job, instance, gpu) group_left (UUID, device, modelName, Hostname, pci_bus_id) {_WHO}"


def dcgm() -> list[Json]:
    """Write the rules with dcgm-exporter's names and labels. Not beside a dcgm-exporter for the same GPUs."""
    rules = [{"record": _WHO, "expr": _DEVICE}]
    return rules + [{"record": name, "expr": expr + _JOIN} for name, expr in _DCGM.items()]


_ONE: Final = "(job, instance, daemon, model, instance_id)"
_KV_TOKENS: Final = f"sum by {_ONE} ({e.SLOT_CONTEXT.name})"
_KV_RATIO: Final = (
    f"{_KV_TOKENS} / on {_ONE} max by {_ONE} ({e.ENGINE_SLOTS.name})"
    f" / on {_ONE} max by {_ONE} ({e.ENGINE_CONTEXT.name})"
)
"""Tokens in all slots, of those that the slots can hold. Assumed: each slot has cells of its own; of a unified KV
cache, which all slots share, it tells too little."""


# vLLM ----------------------------------------------------------------------------------------------------------------
def _model_name(expr: str) -> str:
    return f'label_replace(label_replace({expr}, "model_name", "$1", "model", "(.*)"), "engine", "0", "model", ".*")'


_VLLM: Final[dict[str, Metric]] = {
    "vllm:num_requests_running": d.REQUESTS_RUNNING,
    "vllm:num_requests_waiting": d.REQUESTS_WAITING,
    "vllm:prompt_tokens_total": s.PROMPT_TOKENS,
    "vllm:generation_tokens_total": s.GENERATION_TOKENS,
    "vllm:request_success_total": s.REQUESTS,
}
_VLLM_HISTOGRAMS: Final[dict[str, Metric]] = {
    "vllm:time_to_first_token_seconds": s.TTFT,
    "vllm:inter_token_latency_seconds": s.PER_TOKEN,
    "vllm:request_time_per_output_token_seconds": s.PER_TOKEN,
    "vllm:e2e_request_latency_seconds": s.E2E,
    "vllm:request_queue_time_seconds": e.QUEUE_TIME,
    "vllm:request_prompt_tokens": s.REQUEST_PROMPT_TOKENS,
    "vllm:request_generation_tokens": s.REQUEST_GENERATION_TOKENS,
}
"""vLLM observes each gap between two tokens; here it is the mean gap of each request."""


def vllm() -> list[Json]:
    """Write the rules with vLLM's names and labels (model_name, engine)."""
    plain = {name: metric.name for name, metric in _VLLM.items()}
    plain |= {
        f"{name}_{part}": f"{metric.name}_{part}"
        for name, metric in _VLLM_HISTOGRAMS.items()
        for part in ("bucket", "sum", "count")
    }
    plain |= {
        "vllm:kv_cache_usage_perc": _KV_RATIO,
        "vllm:gpu_cache_usage_perc": _KV_RATIO,  # its name before vLLM 0.10
        "vllm:prefix_cache_hits_total": e.CACHED_TOKENS.name,
        "vllm:prefix_cache_queries_total": f"{e.CACHED_TOKENS.name} + {e.PROCESSED_TOKENS.name}",
    }
    return [{"record": name, "expr": _model_name(expr)} for name, expr in plain.items()]


# llama.cpp's server --------------------------------------------------------------------------------------------------
_LLAMACPP: Final = {
    "llamacpp:prompt_tokens_total": s.PROMPT_TOKENS.name,
    "llamacpp:prompt_seconds_total": f"{s.TTFT.name}_sum",
    "llamacpp:tokens_predicted_total": s.GENERATION_TOKENS.name,
    "llamacpp:tokens_predicted_seconds_total": f"{s.E2E.name}_sum - {s.TTFT.name}_sum",
    "llamacpp:prompt_tokens_seconds": f"rate({s.PROMPT_TOKENS.name}[5m]) / rate({s.TTFT.name}_sum[5m])",
    "llamacpp:predicted_tokens_seconds": (
        f"rate({s.GENERATION_TOKENS.name}[5m]) / (rate({s.E2E.name}_sum[5m]) - rate({s.TTFT.name}_sum[5m]))"
    ),
    "llamacpp:kv_cache_tokens": _KV_TOKENS,
    "llamacpp:kv_cache_usage_ratio": _KV_RATIO,
    "llamacpp:requests_processing": d.REQUESTS_RUNNING.name,
    "llamacpp:requests_deferred": d.REQUESTS_WAITING.name,
}
"""prompt_seconds is the time to the first token: it contains the time in the queue, which llama.cpp leaves out."""


def llamacpp() -> list[Json]:
    """Write the rules with the names of llama.cpp's server; it has no labels, these keep daemon and model."""
    return [{"record": name, "expr": expr} for name, expr in _LLAMACPP.items()]


FILES: Final = {"dcgm-names": dcgm, "vllm-names": vllm, "llamacpp-names": llamacpp}
