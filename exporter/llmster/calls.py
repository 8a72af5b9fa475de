"""The daemon's endpoints as typed functions over one connection, each naming its source.

What to call and how often is decided by session.py, within the polling budget.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from exporter.llmster.listing import Listing, read_each
from exporter.llmster.load_config import LoadConfig, load_config_of, read_fields
from exporter.llmster.state import (
    DaemonProcess,
    DaemonVersion,
    DownloadedModel,
    Engine,
    Estimate,
    InstanceInfo,
    LinkStatus,
    ProcessingState,
)
from exporter.llmster.wire.channel import Channel
from exporter.llmster.wire.connection import Connection, decode, expected


async def version(system: Connection, *, timeout_s: float | None = None) -> DaemonVersion:
    """Call system.version."""
    return decode(await system.call("version", timeout_s=timeout_s), DaemonVersion, "system.version")


async def process(system: Connection, *, timeout_s: float | None = None) -> DaemonProcess:
    """Call system.info: pid, and whether it is the daemon or the desktop app."""
    return decode(await system.call("info", timeout_s=timeout_s), DaemonProcess, "system.info")


async def downloaded_models(
    system: Connection, *, timeout_s: float, unreadable: Counter[str]
) -> Listing[DownloadedModel]:
    """Call system.listDownloadedModels: models on disk, here and on LM Link peers."""
    raw = await system.call("listDownloadedModels", timeout_s=timeout_s)
    with expected("system.listDownloadedModels"):
        return read_each(raw, DownloadedModel, "model", unreadable)


async def loaded_instances(namespace: Connection, *, unreadable: Counter[str]) -> Listing[InstanceInfo]:
    """Call listLoaded of a model domain's namespace."""
    raw = await namespace.call("listLoaded")
    with expected(f"{namespace.name}.listLoaded"):
        return read_each(raw, InstanceInfo, "instance", unreadable)


async def processing_state(namespace: Connection, instance_reference: str) -> ProcessingState:
    """Call getInstanceProcessingState. Raises CallFailed when the instance is gone meanwhile."""
    raw = await namespace.call(
        "getInstanceProcessingState", {"specifier": _reference(instance_reference), "throwIfNotFound": True}
    )
    return decode(raw, ProcessingState, f"{namespace.name}.getInstanceProcessingState")


async def config_fields(
    namespace: Connection, instance_reference: str, *, timeout_s: float | None = None
) -> dict[str, Any]:
    """Call getLoadConfig: every key of an instance's load configuration, which never changes."""
    parameter = {"specifier": _reference(instance_reference)}
    raw = await namespace.call("getLoadConfig", parameter, timeout_s=timeout_s)
    with expected(f"{namespace.name}.getLoadConfig"):
        return read_fields(raw)


async def load_config(llm: Connection, instance: InstanceInfo, *, timeout_s: float) -> LoadConfig:
    """Call llm.getLoadConfig and take from it what explains an instance's behaviour."""
    fields = await config_fields(llm, instance.instance_reference, timeout_s=timeout_s)
    return load_config_of(fields, format_=instance.format)


async def estimate(
    namespace: Connection,
    model_key: str,
    fields: Mapping[str, Any],
    *,
    timeout_s: float,
    device_identifier: str | None = None,
) -> Estimate:
    """Call estimateModelUsage: what a load with these configuration keys would take. Costly for the daemon."""
    parameter = {
        "modelKey": model_key,
        "loadConfigStack": stack_of(fields),
        **device_of(device_identifier),
    }
    raw = await namespace.call("estimateModelUsage", parameter, timeout_s=timeout_s)
    return decode(raw, Estimate, f"{namespace.name}.estimateModelUsage")


def stack_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Write a load configuration as a kvConfigStack of one layer, as the official clients do."""
    pairs = [{"key": key, "value": value} for key, value in fields.items()]
    return {"layers": [{"layerName": "apiOverride", "config": {"fields": pairs}}]}


def device_of(identifier: str | None) -> dict[str, str]:
    """Write an LM Link peer as a part of a parameter; None is the daemon's own host, and is left out."""
    return {"deviceIdentifier": identifier} if identifier is not None else {}


async def link_status(repository: Connection, *, timeout_s: float) -> LinkStatus:
    """Call repository.lmLinkStatus: this device and its LM Link peers."""
    return decode(
        await repository.call("lmLinkStatus", timeout_s=timeout_s), LinkStatus, "repository.lmLinkStatus"
    )


async def engines(
    runtime: Connection, *, timeout_s: float | None = None, unreadable: Counter[str]
) -> Listing[Engine]:
    """Call runtime.listEngines: the inference engines that are installed."""
    raw = await runtime.call("listEngines", timeout_s=timeout_s)
    with expected("runtime.listEngines"):
        return read_each(raw, Engine, "engine", unreadable)


async def stream_logs(diagnostics: Connection) -> Channel:
    """Open diagnostics.streamLogs: all event types on one subscription, no history."""
    return await diagnostics.open_channel("streamLogs")


def _reference(instance_reference: str) -> dict[str, str]:
    return {"type": "instanceReference", "instanceReference": instance_reference}
