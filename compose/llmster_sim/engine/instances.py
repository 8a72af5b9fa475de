"""Hold a loaded (or loading) instance of a model and describe it as the daemon does.

Does not depend on queue policy or placement, which use it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from llmster_sim.host.cpu import CpuTime

if TYPE_CHECKING:
    from llmster_sim.clock import Timer
    from llmster_sim.engine.queueing import Queue
    from llmster_sim.models.catalogue import Model
    from llmster_sim.models.load_config import LoadConfig


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class Instance:
    """One instance. `queue` is set as soon as it is made; `pid` is None on an LM Link peer.

    `speed` scales the model's rates (1 fully on a GPU, less with layers on the CPU).
    """

    identifier: str
    reference: str
    model: Model
    config: LoadConfig
    ttl_ms: int | None
    jit: bool
    pid: int | None
    vram_bytes: int
    speed: float
    last_used_ms: int | None
    loaded: bool = False
    gone: bool = False
    expiry: Timer | None = None
    cpu: CpuTime = dataclasses.field(default_factory=CpuTime)
    _queue: Queue | None = None

    @property
    def queue(self) -> Queue:
        """The jobs of this instance."""
        if self._queue is None:
            raise RuntimeError(f"instance {self.identifier} has no queue yet")
        return self._queue

    @queue.setter
    def queue(self, queue: Queue) -> None:
        self._queue = queue

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        return self._queue is not None and self._queue.queued > 0

    def remaining_ttl_ms(self, now_ms: int) -> int | None:
        """Milliseconds of idle time left; None for an instance that never expires."""
        if self.ttl_ms is None:
            return None
        return self.ttl_ms if self.last_used_ms is None else self.ttl_ms - (now_ms - self.last_used_ms)


def model_info(model: Model) -> dict[str, Any]:
    """`LLMInfo` or `EmbeddingModelInfo`; optional fields are left out when unknown."""
    info: dict[str, Any] = {
        "type": model.type,
        "modelKey": model.key,
        "format": model.format,
        "displayName": model.display_name,
        "publisher": model.publisher,
        "path": model.path,
        "sizeBytes": model.size_bytes,
        "indexedModelIdentifier": model.path,
        "deviceIdentifier": model.device_identifier,
    }
    if model.params is not None:
        info["paramsString"] = model.params
    info["architecture"] = model.architecture
    info["quantization"] = {"name": model.quantization[0], "bits": model.quantization[1]}
    if model.variants:
        info["variants"] = list(model.variants)
        info["selectedVariant"] = model.variants[0]
    if model.type == "llm":
        info["vision"] = model.vision
        info["trainedForToolUse"] = model.tools
    info["maxContextLength"] = model.max_context_length
    return info


def instance_info(instance: Instance) -> dict[str, Any]:
    """`LLMInstanceInfo` or `EmbeddingModelInstanceInfo`."""
    return {
        **model_info(instance.model),
        "identifier": instance.identifier,
        "instanceReference": instance.reference,
        "ttlMs": instance.ttl_ms,
        "lastUsedTime": instance.last_used_ms,
        "contextLength": instance.config.context_length,
    }
