"""Hand-made snapshots, readings and watched daemons for tests above the client. Knows no wire."""

from pathlib import Path
from typing import Any

from exporter.collectors.base import Scrape, WatchedDaemon
from exporter.llmster.client import DaemonState, Health
from exporter.llmster.errors import DaemonUnreachable, LlmsterError
from exporter.llmster.load_config import LoadConfig
from exporter.llmster.local_files import LocalPosture
from exporter.llmster.state import (
    DaemonProcess,
    DaemonVersion,
    DownloadedModel,
    Engine,
    InstanceInfo,
    LinkStatus,
    LoadedInstance,
    ProcessingState,
    Snapshot,
)
from exporter.pipeline.snapshots import DaemonCounts, DaemonReading
from exporter.shared.process import OwnProcess

NOW_S = 1_795_000_000.0


def instance(
    reference: str = "r1",
    *,
    model: str = "qwen/qwen3-8b",
    identifier: str | None = None,
    type_: str = "llm",
    processing: ProcessingState | None = None,
    config: LoadConfig | None = None,
    **info: Any,
) -> LoadedInstance:
    return LoadedInstance(
        info=InstanceInfo(
            model_key=model,
            type=type_,
            identifier=identifier or model,
            instance_reference=reference,
            **info,
        ),
        processing=processing,
        config=config,
    )


def model(key: str = "qwen/qwen3-8b", *, type_: str = "llm", **info: Any) -> DownloadedModel:
    return DownloadedModel(model_key=key, type=type_, **info)


def snapshot(
    *instances: LoadedInstance,
    pid: int = 100,
    is_daemon: bool = True,
    taken_at_s: float = NOW_S,
    monotonic_s: float | None = None,
    build: int | str | None = 1,
    models: tuple[DownloadedModel, ...] | None = None,
    link: LinkStatus | None = None,
    auth_required: bool | None = None,
    version: str = "0.4.24",
    unreadable_instances: int = 0,
    engines: tuple[Engine, ...] | None = None,
) -> Snapshot:
    return Snapshot(
        taken_at_s=taken_at_s,
        monotonic_s=taken_at_s if monotonic_s is None else monotonic_s,
        duration_s=0.012,
        version=DaemonVersion(version, build),
        process=DaemonProcess(pid, is_daemon),
        instances=instances,
        models=models,
        link=link,
        auth_required=auth_required,
        unreadable_instances=unreadable_instances,
        engines=engines,
    )


def watched(
    read: Snapshot | LlmsterError | None = None,
    *,
    name: str = "local",
    state: DaemonState | None = None,
    posture: LocalPosture | None = None,
    age_s: float = 0.25,
    counts: DaemonCounts | None = None,
) -> WatchedDaemon:
    """Make a daemon of a scrape: with a snapshot, or with the problem that kept us from it."""
    counts = counts or DaemonCounts()
    if isinstance(read, Snapshot):
        health = Health(state or DaemonState.RUNNING, None)
        return WatchedDaemon(DaemonReading(name, health, read, age_s, posture, counts))
    health = Health(state or DaemonState.DOWN, read or DaemonUnreachable("nobody there"))
    return WatchedDaemon(DaemonReading(name, health, None, 0.0, posture, counts))


def scrape(*daemons: WatchedDaemon, now_s: float = NOW_S, own: OwnProcess | None = None) -> Scrape:
    return Scrape(now_s=now_s, daemons=daemons, own=own)


def home_with(folder: Path, **files: str) -> Path:
    """Write an LM Studio home; file names have __ for / and _json for .json."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder
