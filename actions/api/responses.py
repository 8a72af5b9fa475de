"""Responses of the API as Pydantic models, for the routes and the OpenAPI document.

Missing data is null, never 0.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from actions.domain.errors import MEDIA_TYPE
from actions.domain.preflight import Learned, MemoryReading, Preflight
from actions.store.audit import Entry
from actions.store.desired_state import DesiredState
from actions.store.operations import Operation
from exporter.llmster.client import Health
from exporter.llmster.state import DaemonProcess, DownloadedModel, LoadedInstance, Snapshot


class ProblemResponse(BaseModel):
    """RFC 9457. Further members hold the numbers behind it."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:daemonpulse:problem:does-not-fit"])
    title: str
    status: int
    detail: str


class DaemonResponse(BaseModel):
    """A configured daemon and its state."""

    daemon: str
    site: str = Field(description='The group that it belongs to; "" for none.')
    url: str
    state: str
    problem: str | None
    version: str | None
    kind: Literal["daemon", "app"] | None
    instances: int | None

    @classmethod
    def of(cls, name: str, site: str, url: str, health: Health, snapshot: Snapshot | None) -> Self:
        """Describe a daemon; without a snapshot, say why there is none."""
        return cls(
            daemon=name,
            site=site,
            url=url,
            state=health.state.value,
            problem=str(health.problem) if health.problem is not None else None,
            version=snapshot.version.version if snapshot is not None else None,
            kind=_kind(snapshot.process) if snapshot is not None else None,
            instances=len(snapshot.instances) if snapshot is not None else None,
        )


def _kind(process: DaemonProcess) -> Literal["daemon", "app"] | None:
    """Tell llmster from the desktop app; None where it does not say."""
    if process.is_daemon is None:
        return None
    return "daemon" if process.is_daemon else "app"


class DaemonsResponse(BaseModel):
    """All configured daemons."""

    daemons: list[DaemonResponse]


class ModelResponse(BaseModel):
    """A model on disk, with what its past loads took over the daemon's estimate."""

    model: str
    type: str
    device: str | None
    size_bytes: int | None
    params: str | None
    quantization: str | None
    max_context_length: int | None
    instances: list[str]
    learned_ratio: float | None
    learned_samples: int

    @classmethod
    def of(cls, one: DownloadedModel, snapshot: Snapshot, learned: Mapping[str, Learned]) -> Self:
        """Describe a model."""
        lesson = learned.get(one.model_key)
        return cls(
            model=one.model_key,
            type=one.type,
            device=snapshot.device_name(one.device_identifier),
            size_bytes=one.size_bytes,
            params=one.params_string,
            quantization=one.quantization.name if one.quantization is not None else None,
            max_context_length=one.max_context_length,
            instances=[
                loaded.info.identifier
                for loaded in snapshot.instances
                if loaded.info.model_key == one.model_key
            ],
            learned_ratio=round(lesson.ratio, 4) if lesson is not None else None,
            learned_samples=lesson.samples if lesson is not None else 0,
        )


class ModelsResponse(BaseModel):
    """The models on a daemon's disk."""

    daemon: str
    models: list[ModelResponse]
    unreadable: int = Field(description="Models that the daemon lists and that cannot be read.")


class InstanceResponse(BaseModel):
    """A loaded instance and what it is doing."""

    instance_id: str
    instance_reference: str | None
    model: str | None
    type: str | None
    device: str | None
    state: str | None
    running: int | None
    waiting: int | None
    context_length: int | None
    parallel: int | None
    gpu_offload: float | str | None
    ttl_seconds: float | None
    ttl_remaining_seconds: float | None
    last_used_ms: float | None

    @classmethod
    def of(cls, one: LoadedInstance, snapshot: Snapshot) -> Self:
        """Describe an instance."""
        left_ms = one.ttl_remaining_ms(time.time() * 1000)
        config = one.config
        return cls(
            instance_id=one.info.identifier,
            instance_reference=one.info.instance_reference,
            model=one.info.model_key,
            type=one.info.type,
            device=snapshot.device_name(one.info.device_identifier),
            state=one.processing.status if one.processing is not None else None,
            running=one.running,
            waiting=one.waiting,
            context_length=one.info.context_length,
            parallel=one.parallel,
            gpu_offload=config.gpu_offload_ratio if config is not None else None,
            ttl_seconds=one.info.ttl_ms / 1000 if one.info.ttl_ms is not None else None,
            ttl_remaining_seconds=round(left_ms / 1000, 3) if left_ms is not None else None,
            last_used_ms=one.info.last_used_time,
        )


class InstancesResponse(BaseModel):
    """What a daemon has loaded."""

    daemon: str
    instances: list[InstanceResponse]
    unreadable: int = Field(description="Instances that the daemon lists and that cannot be read, at least.")


class MemoryResponse(BaseModel):
    """GPU memory of a daemon's host: what is free, and who holds the rest."""

    daemon: str
    source: str | None
    age_seconds: float | None = Field(description="Age of the oldest number; 0 when read now.")
    problem: str | None = Field(description="Why nothing is known.")
    gpus: list[dict[str, Any]]
    holders: list[dict[str, Any]]
    instances: dict[str, dict[str, int]] = Field(description="Bytes by GPU index of each instance.")

    @classmethod
    def of(cls, daemon: str, reading: MemoryReading | str) -> Self:
        """Describe a reading, or why there is none."""
        if isinstance(reading, str):
            return cls(
                daemon=daemon,
                source=None,
                age_seconds=None,
                problem=reading,
                gpus=[],
                holders=[],
                instances={},
            )
        return cls(
            daemon=daemon,
            source=reading.source,
            age_seconds=reading.age_s,
            problem=None,
            gpus=[asdict(gpu) for gpu in reading.gpus],
            holders=[asdict(holder) for holder in reading.holders],
            instances={
                name: {str(gpu): size for gpu, size in by_gpu.items()}
                for name, by_gpu in reading.held_by_instance.items()
            },
        )


class OperationResponse(BaseModel):
    """A command and its result, or how far it is."""

    id: str
    daemon: str
    action: str
    subject: str
    state: Literal["pending", "running", "done", "failed", "cancelled"]
    phase: str | None
    progress: float | None = Field(description="0 to 1.")
    actor: str
    person: str | None
    parameters: dict[str, Any]
    result: dict[str, Any] | None
    problem: dict[str, Any] | None
    created_ms: int
    finished_ms: int | None

    @classmethod
    def of(cls, operation: Operation) -> Self:
        """Describe an operation."""
        return cls(**operation.to_json())


class OperationsResponse(BaseModel):
    """Operations, newest first."""

    operations: list[OperationResponse]


class AuditEntryResponse(BaseModel):
    """One row of the audit."""

    seq: int
    at_ms: int
    kind: Literal["intent", "outcome", "denied", "event"]
    operation: str | None
    actor: str
    token_id: str | None
    person: str | None
    address: str | None
    action: str
    subject: str
    detail: dict[str, Any]
    covers: dict[str, str | None] | None = Field(
        description="Digests of rows of other tables that changed with this row."
    )
    hash: str

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Describe a row."""
        return cls.model_validate(entry, from_attributes=True)


class AuditResponse(BaseModel):
    """A page of the audit."""

    entries: list[AuditEntryResponse]


class DesiredResponse(BaseModel):
    """The desired state of a daemon."""

    daemon: str
    instances: list[dict[str, Any]] = Field(
        description="Parameters of a load each, and whether it is suspended."
    )
    reap_idle_seconds: float | None

    @classmethod
    def of(cls, daemon: str, state: DesiredState) -> Self:
        """Describe it."""
        instances = [one.to_json() for one in state.instances]
        return cls(daemon=daemon, instances=instances, reap_idle_seconds=state.reap_idle_seconds)


class PreflightResponse(BaseModel):
    """Whether a load fits, and every number behind the verdict."""

    verdict: Literal["fits", "tight", "does_not_fit", "unknown"]
    reasons: list[str]
    estimate: dict[str, Any] | None = Field(description="The daemon's own.")
    learned: dict[str, Any] | None = Field(description="What past loads took, over the estimate.")
    needed_bytes: int | None
    memory_source: str | None
    memory_age_seconds: float | None = Field(description="Age of the free memory; 0 when read now.")
    gpus: list[dict[str, Any]]
    holders: list[dict[str, Any]] = Field(description="Who holds the rest.")
    eject_would_free: list[dict[str, Any]]

    @classmethod
    def of(cls, preflight: Preflight) -> Self:
        """Describe a verdict."""
        return cls(**preflight.to_json())


class FitGpu(BaseModel):
    """One GPU in an answer to `fit`; bytes."""

    index: int
    name: str | None
    free_bytes: int
    freed_bytes: int = Field(description="By the ejects that are proposed.")
    needed_bytes: int


class FittingContext(BaseModel):
    """A context and what it needs; bytes."""

    context_length: int
    estimate_bytes: int = Field(description="The daemon's own.")
    expected_bytes: int = Field(description="Corrected by past loads.")
    needed_bytes: int = Field(description="Upper bound by past loads; this is what was compared.")
    gpus: list[FitGpu]


class WantedContext(FittingContext):
    """The context that does not fit now."""

    evict: list[str] | None = Field(description="What would have to go; null when that does not help.")
    is_minimal: bool | None


class KeptInstance(BaseModel):
    """An instance that is never proposed for an eject."""

    instance_id: str
    why: Literal["pinned", "busy", "state unknown", "memory unknown"]


class FitResponse(BaseModel):
    """Which context fits now, and what would have to go for more."""

    model: str
    fits: bool
    now: FittingContext | None = Field(description="The longest context that fits now.")
    wanted: WantedContext | None = Field(description="The context asked for, else the model's maximum.")
    kept: list[KeptInstance]
    max_context_length: int | None
    parallel: int | None
    samples: int = Field(description="Past loads of the model that corrected the estimate.")
    estimates: int = Field(description="Estimates that this cost the daemon.")
    max_estimates: int
    memory_source: str
    memory_age_seconds: float


class EngineResponse(BaseModel):
    """An installed engine."""

    engine: str
    version: str
    formats: list[str]
    selected_for: list[str] = Field(description="Model formats whose loads run on it.")


class AvailableEngineResponse(BaseModel):
    """An engine that can be downloaded."""

    engine: str
    version: str
    installed: bool | None = Field(description="null where the daemon does not say.")


class EnginesResponse(BaseModel):
    """The engines of a daemon."""

    daemon: str
    engines: list[EngineResponse]
    available: list[AvailableEngineResponse] | None = Field(description="Only with `search`.")
    unreadable: int = Field(
        description="Entries of the daemon's lists that cannot be read, and are not here."
    )


def errors(told: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Say what each status means: those of every route, and those of these.

    Not as FastAPI's `model`, which says application/json and makes 600 fields that nothing validates, in half the time
    that the routes take to make. So the application adds the schema to its document.
    """
    every = {
        400: "The request cannot be read",
        401: "A token is needed",
        413: "The body is too large",
        421: "The Host header is not one of the service's names",
        422: "A parameter is invalid; it is named",
        429: "Too many wrong tokens, or too many commands",
        **told,
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemResponse.__name__}"}}}
    return {status: {"content": content, "description": what} for status, what in sorted(every.items())}
