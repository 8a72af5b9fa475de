"""The daemon's endpoints as typed functions over one connection, each naming its source.

Knows no order and no caching: what to call and how often is decided by session.py, within the polling budget.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from exporter.llmster.channel import Channel
from exporter.llmster.connection import Connection, decode
from exporter.llmster.errors import ProtocolViolation
from exporter.llmster.messages import UNDECODABLE
from exporter.llmster.state import (
    DaemonProcess,
    DaemonVersion,
    DownloadedModel,
    InstanceInfo,
    LinkStatus,
    Listing,
    LoadConfig,
    ProcessingState,
    read_each,
    read_load_config,
)


async def version(system: Connection) -> DaemonVersion:
    """Call system.version."""
    return decode(await system.call("version"), DaemonVersion, "system.version")


async def process(system: Connection) -> DaemonProcess:
    """Call system.info: pid, and whether it is the daemon or the desktop app."""
    return decode(await system.call("info"), DaemonProcess, "system.info")


async def downloaded_models(
    system: Connection, *, timeout_s: float, unreadable: Counter[str]
) -> tuple[DownloadedModel, ...]:
    """Call system.listDownloadedModels: models on disk, here and on LM Link peers."""
    raw = await system.call("listDownloadedModels", timeout_s=timeout_s)
    try:
        return read_each(raw, DownloadedModel, "model", unreadable).read
    except UNDECODABLE as error:
        raise ProtocolViolation(
            f"system.listDownloadedModels answered something unexpected: {error}"
        ) from None


async def loaded_instances(namespace: Connection, *, unreadable: Counter[str]) -> Listing[InstanceInfo]:
    """Call listLoaded of /llm or /embedding."""
    raw = await namespace.call("listLoaded")
    try:
        return read_each(raw, InstanceInfo, "instance", unreadable)
    except UNDECODABLE as error:
        raise ProtocolViolation(
            f"{namespace.name}.listLoaded answered something unexpected: {error}"
        ) from None


async def processing_state(namespace: Connection, instance_reference: str) -> ProcessingState:
    """Call getInstanceProcessingState. Raises CallFailed when the instance is gone meanwhile."""
    raw = await namespace.call(
        "getInstanceProcessingState", {"specifier": _reference(instance_reference), "throwIfNotFound": True}
    )
    return decode(raw, ProcessingState, f"{namespace.name}.getInstanceProcessingState")


async def load_config(llm: Connection, instance_reference: str, *, timeout_s: float) -> LoadConfig:
    """Call llm.getLoadConfig, which never changes for one instance reference."""
    raw = await llm.call("getLoadConfig", {"specifier": _reference(instance_reference)}, timeout_s=timeout_s)
    try:
        return read_load_config(raw)
    except UNDECODABLE as error:
        raise ProtocolViolation(f"llm.getLoadConfig answered something unexpected: {error}") from None


class _Memory(msgspec.Struct, frozen=True, rename="camel"):
    total_vram_bytes: float


class _Estimate(msgspec.Struct, frozen=True):
    memory: _Memory


async def vram_estimate_bytes(
    llm: Connection, model_key: str, config: LoadConfig, *, timeout_s: float
) -> float:
    """Call llm.estimateModelUsage for a model as it is loaded. Costly for the daemon: once per load."""
    fields = [{"key": key, "value": value} for key, value in config.memory_fields]
    stack = {"layers": [{"layerName": "apiOverride", "config": {"fields": fields}}]}
    parameter = {"modelKey": model_key, "loadConfigStack": stack}
    raw = await llm.call("estimateModelUsage", parameter, timeout_s=timeout_s)
    return decode(raw, _Estimate, "llm.estimateModelUsage").memory.total_vram_bytes


async def link_status(repository: Connection, *, timeout_s: float) -> LinkStatus:
    """Call repository.lmLinkStatus: this device and its LM Link peers."""
    return decode(
        await repository.call("lmLinkStatus", timeout_s=timeout_s), LinkStatus, "repository.lmLinkStatus"
    )


async def stream_logs(diagnostics: Connection) -> Channel:
    """Open diagnostics.streamLogs: all event types on one subscription, no history."""
    return await diagnostics.open_channel("streamLogs")


def _reference(instance_reference: str) -> dict[str, str]:
    return {"type": "instanceReference", "instanceReference": instance_reference}
