"""Collects the loaded instances: state, waiting requests, TTL, and the loads and unloads seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from exporter.catalogue import daemon as m
from exporter.collectors.base import Samples, Scrape
from exporter.llmster.state import LoadedInstance, Snapshot
from exporter.pipeline.snapshots import DaemonReading

_STATE_LABELS: Final = {
    "idle": "idle",
    "processingPrompt": "processing_prompt",
    "generating": "generating",
    "computingEmbedding": "computing_embedding",
}


def collect(scrape: Scrape, out: Samples) -> None:
    """Everything per instance while the daemon can be read; loads and unloads always."""
    for daemon in scrape.daemons:
        counts = daemon.reading.counts
        out.add_by(m.LOADS, "model", counts.loads, daemon=daemon.name)
        for (model, cause), count in counts.unloads.items():
            out.add(m.UNLOADS, count, daemon=daemon.name, model=model, cause=cause)
        snapshot = daemon.reading.snapshot
        if snapshot is not None:
            for instance in _distinct(snapshot):
                _add_instance(out, daemon.reading, instance, snapshot, scrape.now_s)


def _distinct(snapshot: Snapshot) -> Iterable[LoadedInstance]:
    """Keep one instance per model and identifier: labels must not repeat.

    Only an LM Link peer can hold another one of the same name; the daemon's own wins.
    """
    local_first = sorted(
        snapshot.instances, key=lambda each: snapshot.device_name(each.info.device_identifier) != "local"
    )
    found: dict[tuple[str, str], LoadedInstance] = {}
    for instance in local_first:
        found.setdefault((instance.info.model_key, instance.info.identifier), instance)
    return found.values()


def _add_instance(
    out: Samples, reading: DaemonReading, instance: LoadedInstance, snapshot: Snapshot, now_s: float
) -> None:
    info, config = instance.info, instance.config
    own = {"daemon": reading.name, "model": info.model_key, "instance_id": info.identifier}
    out.add(
        m.INSTANCE_INFO,
        1,
        **own,
        device=snapshot.device_name(info.device_identifier),
        type=info.type,
        format=info.format or "",
        architecture=info.architecture or "",
        quantization=(info.quantization.name if info.quantization else None) or "",
    )
    if instance.processing is not None:
        now = instance.processing.status
        states = {label: now == status for status, label in _STATE_LABELS.items()}
        out.add_by(m.INSTANCE_STATE, "state", states, **own)
    out.add_all(
        {
            m.REQUESTS_RUNNING: instance.running,
            m.REQUESTS_WAITING: instance.waiting,
            m.CONTEXT_LENGTH: info.context_length,
            m.CONTEXT_BELOW_DEFAULT: _is_below_default(
                instance, reading.posture.default_context if reading.posture is not None else None
            ),
            m.TTL: _seconds(info.ttl_ms),
            m.TTL_REMAINING: _seconds(instance.ttl_remaining_ms(now_s * 1000)),
            m.LAST_USED: _seconds(info.last_used_time),
            m.PINNED: info.ttl_ms is None,
            m.VRAM_ESTIMATE: instance.vram_estimate_bytes,
            m.PARALLEL: instance.parallel,
            m.GPU_OFFLOAD: config.gpu_offload_ratio if config else None,
        },
        **own,
    )


def _is_below_default(instance: LoadedInstance, default: int | str | None) -> bool | None:
    """Tell whether an instance got less context than a load by default has.

    Where autoFit decides, the default is what its configuration asks for. An instance with a TTL was most likely loaded
    by a request, and so with the daemon's default; an explicit load may have asked for less on purpose.
    """
    info, config = instance.info, instance.config
    wanted: int | None = None
    if config is not None and config.auto_fit:
        wanted = config.context_length
    elif info.ttl_ms is not None and info.type == "llm":
        wanted = (
            info.max_context_length if default == "max" else default if isinstance(default, int) else None
        )
    if wanted is None or info.context_length is None:
        return None
    return info.context_length < min(wanted, info.max_context_length or wanted)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
