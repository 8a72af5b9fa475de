"""Samples as an exporter serves them, made by the catalogue, so that a renamed metric breaks a test here."""

from daemonpulse.top.model import Sample
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s
from exporter.catalogue.metric import Metric


def sample(row: Metric, value: float, **labels: str) -> Sample:
    """Give one sample with the labels of its row; those not named are empty."""
    unknown = labels.keys() - set(row.labels)
    assert not unknown, f"{row.name} has no label {unknown}"
    name = row.name if row.name.endswith("_total") or row.kind != "counter" else f"{row.name}_total"
    return name, {label: labels.get(label, "") for label in row.labels}, value


BIG = "qwen/qwen3-coder-480b-a35b-instruct-mlx"


def scrape(*, written: float = 1000.0) -> list[Sample]:
    """Two GPUs of a daemon with two instances, one of which prefills and decodes."""
    one = {"daemon": "forge", "model": "qwen/qwen3-8b", "instance_id": "qwen/qwen3-8b"}
    two = {"daemon": "forge", "model": BIG, "instance_id": f"{BIG}:2"}
    return [
        sample(d.UP, 1, daemon="forge"),
        sample(d.STATE, 1, daemon="forge", state="running"),
        sample(d.STATE, 0, daemon="forge", state="stalled"),
        sample(d.BUILD_INFO, 1, daemon="forge", version="0.4.24"),
        sample(s.GENERATION_TOKENS, written, daemon="forge", model="qwen/qwen3-8b"),
        sample(s.SERVER_MESSAGES, 3, daemon="forge", level="error"),
        sample(h.DEVICE_INFO, 1, gpu="0", name="RTX 4090"),
        sample(h.DEVICE_INFO, 1, gpu="10", name="MI300X"),
        sample(h.LOST, 1, gpu="10"),
        sample(h.MEMORY_TOTAL, 24 << 30, gpu="0"),
        sample(h.MEMORY_USED, 12 << 30, gpu="0"),
        sample(h.UTILIZATION, 0.87, gpu="0"),
        sample(h.TEMPERATURE, 71, gpu="0", sensor="gpu"),
        sample(h.TEMPERATURE, 95, gpu="0", sensor="memory"),
        sample(h.POWER, 310, gpu="0"),
        sample(h.POWER_LIMIT, 450, gpu="0"),
        sample(h.THROTTLE, 1, gpu="0", reason="sw_power_cap"),
        sample(h.THROTTLE, 0, gpu="0", reason="hw_slowdown"),
        sample(h.INSTANCE_VRAM, 7 << 30, gpu="0", **one),
        sample(d.INSTANCE_INFO, 1, **one),
        sample(d.INSTANCE_INFO, 1, **two),
        sample(d.INSTANCE_STATE, 1, **one, state="generating"),
        sample(d.REQUESTS_RUNNING, 2, **one),
        sample(d.REQUESTS_WAITING, 1, **one),
        sample(d.CONTEXT_LENGTH, 32768, **one),
        sample(d.TTL_REMAINING, 754, **one),
        sample(s.SLOTS, 4, **one),
        sample(s.SLOT_BUSY, 1, **one, slot="0"),
        sample(s.SLOT_BUSY, 1, **one, slot="1"),
        sample(s.SLOT_BUSY, 0, **one, slot="2"),
        sample(s.SLOT_PROMPT_PROGRESS, 0.42, **one, slot="1"),
        sample(s.SLOT_RATE, 30.5, **one, slot="0"),
    ]


LIVE = {
    "in_flight": [
        {
            "daemon": "forge",
            "model": "qwen/qwen3-8b",
            "client": "ide",
            "phase": "reasoning",
            "elapsed_seconds": 3.2,
        }
    ],
    "recent": [
        {
            "daemon": "forge",
            "model": "qwen/qwen3-8b",
            "finished_reason": "stop",
            "elapsed_seconds": 4.5,
            "time_to_first_token_seconds": 0.31,
            "tokens_per_second": 42.5,
            "prompt_tokens": 900,
            "output_tokens": 180,
            "reasoning_ratio": 0.6,
        }
    ],
}
