"""The state of a daemon at one moment, as frozen values.

Pure. The only times in here are the daemon's own (milliseconds since the epoch, as on the wire).

Source: schemas of lmstudio-js (ModelInfo, ModelInstanceInfo, LLMInstanceProcessingState, LMLinkStatus) and frames
in tests/fixtures/protocol. Unused keys are not declared; keys that only some versions send are optional.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from exporter.llmster.load_config import LoadConfig

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
    """None on the daemon's own host, else the LM Link peer that holds it."""
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
    selected_variant: str | None = None
    """Which of the model's variants it is, such as `qwen/qwen3-8b@q4_k_m`; None of a model without."""


class ProcessingState(msgspec.Struct, frozen=True):
    """Source: getInstanceProcessingState. `queued` INCLUDES the requests being worked on."""

    status: str
    queued: int


class DaemonVersion(msgspec.Struct, frozen=True):
    """Source: system.version. All None while the daemon has not reported them."""

    version: str | None
    build: int | str | None = None


class DaemonProcess(msgspec.Struct, frozen=True, rename="camel"):
    """Source: system.info. All None while the daemon has not reported them."""

    pid: int | None
    is_daemon: bool | None
    """True for llmster, False when the desktop app serves."""


UNKNOWN_VERSION: Final = DaemonVersion(None)
UNKNOWN_PROCESS: Final = DaemonProcess(None, None)


class LinkPeer(msgspec.Struct, frozen=True, rename="camel"):
    """Another host of the user's LM Link network."""

    device_identifier: str
    device_name: str | None = None
    status: str | None = None
    """`connected` was recorded; other values are not known, so anything else counts as not connected."""


LINK_STATES: Final = ("offline", "starting", "online", "stopping")
"""Values of `status` in lmLinkStatus as of the official schema."""


LINK_ISSUES: Final = ("deviceDisabled", "notLoggedIn", "noAccess", "badVersion")
"""Values of `issues` in lmLinkStatus as of the official schema."""


class LinkStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Source: repository.lmLinkStatus."""

    device_identifier: str | None = None
    device_name: str | None = None
    peers: tuple[LinkPeer, ...] = ()
    status: str | None = None
    """One of LINK_STATES, or a value of a newer daemon."""
    issues: tuple[str, ...] | None = None
    """Why it is not online: deviceDisabled, notLoggedIn, noAccess, badVersion, or a value of a newer daemon."""


def device_name(link: LinkStatus | None, device_identifier: str | None) -> str:
    """Name a device for a label: `local`, the LM Link peer's name, else its identifier."""
    own = link.device_identifier if link is not None else None
    if device_identifier is None or device_identifier == own:
        return LOCAL
    for peer in link.peers if link is not None else ():
        if peer.device_identifier == device_identifier and peer.device_name:
            return peer.device_name
    return device_identifier


class Engine(msgspec.Struct, frozen=True, rename="camel"):
    """An inference engine the daemon has installed. Source: runtime.listEngines."""

    name: str
    version: str
    engine: str | None = None
    """llama.cpp, mlx-llm and so on; the name contains the platform."""
    supported_model_format_names: tuple[str, ...] = ()


class MemoryEstimate(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What the daemon believes a load takes. Source: `memory` of estimateModelUsage."""

    confidence: str | None = None
    total_vram_bytes: float
    total_bytes: float
    """On the GPUs and in RAM together."""


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
    """What the daemon itself believes it takes on its GPUs, asked once per load."""
    engine_slots: int | None = None
    """Slots that its engine said at its start to have."""

    @property
    def parallel(self) -> int | None:
        """Sessions it can run at the same time: as configured, else as its engine logged, else the schema's default."""
        config = self.config
        if self.engine_slots is None or (config is not None and config.sets_parallel):
            return config.parallel if config is not None else None
        return self.engine_slots

    @property
    def running(self) -> int | None:
        """Requests being worked on; None where it is not known how many can be at once.

        Assumed: of `queued` requests, as many run as there are parallel sessions; none while the status is idle.
        """
        if self.processing is None:
            return None
        if self.processing.status == "idle":
            return 0
        if self.processing.queued <= 1:
            return self.processing.queued
        return min(self.processing.queued, self.parallel) if self.parallel is not None else None

    @property
    def waiting(self) -> int | None:
        """Requests that wait for a session: queued minus running."""
        if self.processing is None or self.running is None:
            return None
        return self.processing.queued - self.running

    def ttl_remaining_ms(self, now_ms: float) -> float | None:
        """Idle time left before the daemon unloads it, never below 0; None without a TTL.

        Source: `lms ps`. `now_ms` is this host's clock, `last_used_time` the daemon's. Assumed: the two agree; a skew
        shows as an offset here.
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
    """Entries of listLoaded that could not be read, and one for each list that could not: loaded, and not among
    `instances`."""
    engines: tuple[Engine, ...] | None = None
    reasoning_models: frozenset[str] = frozenset()
    """Keys of the models that the daemon says can reason; empty where it was not asked or did not say."""
    unreadable_models: int = 0
    """Models on disk that are listed and cannot be read, and that are not among `models`."""
    unread_domains: tuple[str, ...] = ()
    """Domains whose list of loaded instances could not be read this time."""

    @property
    def is_complete(self) -> bool:
        """Whether what is not among `instances` is not loaded."""
        return not self.unreadable_instances

    def device_name(self, device_identifier: str | None) -> str:
        """Name a device for a label: `local`, the LM Link peer's name, else its identifier."""
        return device_name(self.link, device_identifier)
