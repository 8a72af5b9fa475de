"""What a daemon is and holds at one moment, as frozen values; and how its payloads are read into them.

Knows no socket, no metric and no time but the daemon's own stamps (milliseconds since the epoch, as on the wire).

Source: schemas of lmstudio-js (ModelInfo, ModelInstanceInfo, LLMInstanceProcessingState, LMLinkStatus) and frames
in tests/fixtures/protocol. Keys we do not use are not declared; keys that only some versions send are optional.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import msgspec

from exporter.llmster import lenient
from exporter.llmster.lenient import UNDECODABLE

PROCESSING_STATES: Final = ("idle", "processingPrompt", "generating", "computingEmbedding")
"""Values of `status` in getInstanceProcessingState as of the official schema."""

LOCAL: Final = "local"
"""Label of the daemon's own host, as opposed to an LM Link peer."""


class Quantization(msgspec.Struct, frozen=True):
    """`quantization` of a model: the name is for people, the bits are not used."""

    name: str | None = None


class DownloadedModel(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A model on disk, here or on an LM Link peer. Source: system.listDownloadedModels."""

    model_key: str
    type: str
    path: str | None = None
    """Below the daemon's models folder; a file, or the folder of a model of several files."""
    size_bytes: int | None = None
    """Bytes of the FILE; a 543 MB file was seen to need 1239 MB of VRAM."""
    format: str | None = None
    architecture: str | None = None
    quantization: Quantization | None = None
    params_string: str | None = None
    device_identifier: str | None = None
    """None on the daemon's own machine, else the LM Link peer that holds it."""
    vision: bool | None = None
    trained_for_tool_use: bool | None = None
    max_context_length: int | None = None


class InstanceInfo(DownloadedModel, frozen=True, rename="camel", kw_only=True):
    """A loaded instance as listed. Source: llm.listLoaded, embedding.listLoaded."""

    identifier: str
    instance_reference: str
    """New on every load: the only proof that two readings mean the same load."""
    ttl_ms: float | None = None
    """Idle time after which the daemon unloads it; None means never."""
    last_used_time: float | None = None
    """Milliseconds since the epoch by the daemon's clock; None if not used yet."""
    context_length: int | None = None
    """The effective context, also where autoFit chose it."""


class ProcessingState(msgspec.Struct, frozen=True):
    """Source: getInstanceProcessingState. `queued` INCLUDES the requests being worked on."""

    status: str
    queued: int


class DaemonVersion(msgspec.Struct, frozen=True):
    """Source: system.version."""

    version: str
    build: int | str | None = None


class DaemonProcess(msgspec.Struct, frozen=True, rename="camel"):
    """Source: system.info."""

    pid: int
    is_daemon: bool
    """True for llmster, False when the desktop app serves."""


class LinkPeer(msgspec.Struct, frozen=True, rename="camel"):
    """Another machine of the user's LM Link network."""

    device_identifier: str
    device_name: str | None = None
    status: str | None = None
    """`connected` was recorded; other values are not known, so anything else counts as not connected."""


class LinkStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Source: repository.lmLinkStatus."""

    device_identifier: str | None = None
    device_name: str | None = None
    peers: tuple[LinkPeer, ...] = ()


def device_name(link: LinkStatus | None, device_identifier: str | None) -> str:
    """Name a device for a label: `local`, the LM Link peer's name, else its identifier."""
    own = link.device_identifier if link is not None else None
    if device_identifier is None or device_identifier == own:
        return LOCAL
    for peer in link.peers if link is not None else ():
        if peer.device_identifier == device_identifier and peer.device_name:
            return peer.device_name
    return device_identifier


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """The part of an instance's load config that explains its behaviour.

    Source: llm.getLoadConfig, `{"fields":[{"key","value"?}]}`; any key may be missing. With autoFit, the context
    key is a default and not the effective value, so the context is not read from here.
    """

    parallel: int | None = None
    """`llm.load.numParallelSessions`."""
    gpu_offload_ratio: float | None = None
    """`llm.load.llama.acceleration.offloadRatio`, 0 to 1 ("off" and "max" on the wire)."""
    memory_fields: Mapping[str, Any] = field(default_factory=dict)
    """The keys, as on the wire, that decide how much memory a load takes."""


class MemoryEstimate(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What the daemon believes a load takes. Source: `memory` of estimateModelUsage."""

    confidence: str | None = None
    total_vram_bytes: float
    total_bytes: float
    """On the cards and in RAM together."""


class Estimate(msgspec.Struct, frozen=True, rename="camel"):
    """Source: estimateModelUsage."""

    memory: MemoryEstimate
    passes_guardrails: bool
    """Whether the daemon's own guardrail would let it load now. Observed: it does not see foreign processes."""


@dataclass(frozen=True, slots=True)
class LoadedInstance:
    """One loaded model with what it is doing now; a part that could not be read is None."""

    info: InstanceInfo
    processing: ProcessingState | None
    config: LoadConfig | None
    vram_estimate_bytes: float | None = None
    """What the daemon itself believes it takes on its cards, asked once per load."""

    @property
    def running(self) -> int | None:
        """Requests being worked on.

        Assumed: of `queued` requests, as many run as there are parallel sessions; one if that number is unknown,
        none while the status is idle.
        """
        if self.processing is None:
            return None
        if self.processing.status == "idle":
            return 0
        parallel = self.config.parallel if self.config is not None else None
        return min(self.processing.queued, parallel or 1)

    @property
    def waiting(self) -> int | None:
        """Requests that wait for a session: queued minus running."""
        if self.processing is None or self.running is None:
            return None
        return self.processing.queued - self.running

    def ttl_remaining_ms(self, now_ms: float) -> float | None:
        """Idle time left before the daemon unloads it, never below 0; None without a TTL.

        Source: `lms ps`. `now_ms` is our clock, `last_used_time` the daemon's.
        Assumed: the two differ by less than anyone minds; a skew shows as an offset here.
        """
        if self.info.ttl_ms is None:
            return None
        if self.info.last_used_time is None:
            return self.info.ttl_ms
        return min(max(self.info.ttl_ms - (now_ms - self.info.last_used_time), 0.0), self.info.ttl_ms)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one reading of one daemon found. Optional parts are None when they could not be read."""

    taken_at_s: float
    """Our wall clock, seconds since the epoch, when the reading was complete."""
    monotonic_s: float
    """The same moment by a clock that never jumps."""
    duration_s: float
    version: DaemonVersion
    process: DaemonProcess
    instances: tuple[LoadedInstance, ...]
    """Of what is loaded, all that could be read."""
    models: tuple[DownloadedModel, ...] | None
    link: LinkStatus | None
    auth_required: bool | None
    """Whether the daemon asks clients for an API token."""
    unreadable_instances: int = 0
    """Entries of listLoaded that could not be read: loaded, and not among `instances`."""

    def device_name(self, device_identifier: str | None) -> str:
        """Name a device for a label: `local`, the LM Link peer's name, else its identifier."""
        return device_name(self.link, device_identifier)


MEMORY_KEYS: Final = frozenset(
    {
        "llm.load.contextLength",
        "llm.load.llama.acceleration.offloadRatio",
        "llm.load.llama.evalBatchSize",
        "llm.load.llama.flashAttention",
        "llm.load.numExperts",
        "llm.load.numParallelSessions",
        "llm.load.offloadKVCacheToGpu",
        "load.gpuSplitConfig",
    }
)
"""Keys of a load config that decide how much memory it takes, as far as the official sources document them."""

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """The entries of a list that could be read, and how many there are besides."""

    read: tuple[T, ...]
    unreadable: int

    @property
    def is_complete(self) -> bool:
        """Whether what is not in `read` is not there at all."""
        return self.unreadable == 0


def read_each(raw: msgspec.Raw | None, shape: type[T], what: str, odd: Counter[str]) -> Listing[T]:
    """Read a list entry by entry, so that an odd entry costs only itself, and an odd optional field only that field.

    Both are counted in `odd`, as `what` and `what_field`. Raises one of UNDECODABLE when it is no list at all.
    """
    entries = msgspec.json.decode(raw if raw is not None else b"null", type=list[msgspec.Raw])
    read: list[T] = []
    for entry in entries:
        try:
            value, was_odd = lenient.decode(entry, shape)
        except UNDECODABLE:
            odd[what] += 1
        else:
            read.append(value)
            if was_odd:
                odd[f"{what}_field"] += 1
    return Listing(tuple(read), len(entries) - len(read))


class _Field(msgspec.Struct, frozen=True):
    key: str
    value: Any = None


class _Fields(msgspec.Struct, frozen=True):
    fields: tuple[_Field, ...] = ()


def read_fields(raw: msgspec.Raw | None) -> dict[str, Any]:
    """Read a key-value load config. Raises one of UNDECODABLE if it is none."""
    fields = msgspec.json.decode(raw if raw is not None else b"null", type=_Fields).fields
    return {field.key: field.value for field in fields}


def load_config_of(pairs: Mapping[str, Any]) -> LoadConfig:
    """Take from a key-value load config what is used of it; odd values read as None."""
    parallel = pairs.get("llm.load.numParallelSessions")
    return LoadConfig(
        parallel=parallel if type(parallel) is int and parallel > 0 else None,
        gpu_offload_ratio=_offload_ratio(pairs.get("llm.load.llama.acceleration.offloadRatio")),
        memory_fields={
            key: value for key, value in pairs.items() if key in MEMORY_KEYS and value is not None
        },
    )


def _offload_ratio(value: object) -> float | None:
    match value:
        case "max":
            return 1.0
        case "off":
            return 0.0
        case bool():
            return None
        case int() | float() if 0 <= value <= 1:
            return float(value)
        case _:
            return None
