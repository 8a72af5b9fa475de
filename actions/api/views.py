"""What the API answers about daemons, models and instances: snapshots as JSON.

Pure. Missing data is null, never 0.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from actions.domain.preflight import Learned
from actions.store.audit import Entry
from exporter.llmster.client import Health
from exporter.llmster.state import DownloadedModel, LoadedInstance, Snapshot


def daemon(name: str, url: str, health: Health, snapshot: Snapshot | None) -> dict[str, Any]:
    """Describe a daemon; without a snapshot, say why there is none."""
    return {
        "daemon": name,
        "url": url,
        "state": health.state.value,
        "problem": str(health.problem) if health.problem is not None else None,
        "version": snapshot.version.version if snapshot is not None else None,
        "kind": (None if snapshot is None else "daemon" if snapshot.process.is_daemon else "app"),
        "instances": len(snapshot.instances) if snapshot is not None else None,
    }


def model(one: DownloadedModel, snapshot: Snapshot, learned: Mapping[str, Learned]) -> dict[str, Any]:
    """Describe a model on disk, with what was learned of its appetite."""
    lesson = learned.get(one.model_key)
    return {
        "model": one.model_key,
        "type": one.type,
        "device": snapshot.device_name(one.device_identifier),
        "size_bytes": one.size_bytes,
        "params": one.params_string,
        "quantization": one.quantization.name if one.quantization is not None else None,
        "max_context_length": one.max_context_length,
        "instances": [
            loaded.info.identifier for loaded in snapshot.instances if loaded.info.model_key == one.model_key
        ],
        "learned_ratio": round(lesson.ratio, 4) if lesson is not None else None,
        "learned_samples": lesson.samples if lesson is not None else 0,
    }


def instance(one: LoadedInstance, snapshot: Snapshot) -> dict[str, Any]:
    """Describe a loaded instance and what it is doing."""
    left_ms = one.ttl_remaining_ms(time.time() * 1000)
    return {
        "instance_id": one.info.identifier,
        "instance_reference": one.info.instance_reference,
        "model": one.info.model_key,
        "type": one.info.type,
        "device": snapshot.device_name(one.info.device_identifier),
        "state": one.processing.status if one.processing is not None else None,
        "running": one.running,
        "waiting": one.waiting,
        "context_length": one.info.context_length,
        "parallel": one.config.parallel if one.config is not None else None,
        "gpu_offload": one.config.gpu_offload_ratio if one.config is not None else None,
        "ttl_seconds": one.info.ttl_ms / 1000 if one.info.ttl_ms is not None else None,
        "ttl_remaining_seconds": round(left_ms / 1000, 3) if left_ms is not None else None,
        "last_used_ms": one.info.last_used_time,
    }


def audit_entry(entry: Entry) -> dict[str, Any]:
    """Describe an audit row."""
    return {
        "seq": entry.seq,
        "at_ms": entry.at_ms,
        "kind": entry.kind,
        "operation": entry.operation,
        "actor": entry.actor,
        "token_id": entry.token_id,
        "person": entry.person,
        "address": entry.address,
        "action": entry.action,
        "subject": entry.subject,
        "detail": dict(entry.detail),
        "hash": entry.hash,
    }
