"""Estimate what a load needs and decide whether the guardrail lets it pass.

Pure arithmetic over a model, a configuration and GPUs; it allocates nothing.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmster_sim.host.gpus import Gpus
    from llmster_sim.models.catalogue import Model
    from llmster_sim.models.load_config import LoadConfig

Guardrail = Literal["off", "low", "medium", "high", "custom"]

RAM_BYTES = 67_430_838_272
# Weights in memory per byte of file, as estimateModelUsage answered when it was recorded.
_WEIGHTS_PER_FILE_BYTE = 1.04


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """`EstimatedModelMemoryUsage`: what the daemon believes, which is less than what it will take."""

    model_vram_bytes: int
    context_vram_bytes: int
    model_bytes: int
    context_bytes: int

    @property
    def total_vram_bytes(self) -> int:
        """Weights and context on the GPUs."""
        return self.model_vram_bytes + self.context_vram_bytes

    @property
    def total_bytes(self) -> int:
        """Weights and context wherever they lie."""
        return self.model_bytes + self.context_bytes

    def to_wire(self, *, passes: bool) -> dict[str, Any]:
        """`EstimatedResourcesUsage`."""
        return {
            "memory": {
                "confidence": "high",
                "modelVramBytes": self.model_vram_bytes,
                "contextVramBytes": self.context_vram_bytes,
                "totalVramBytes": self.total_vram_bytes,
                "modelBytes": self.model_bytes,
                "contextBytes": self.context_bytes,
                "totalBytes": self.total_bytes,
            },
            "passesGuardrails": passes,
        }


def estimate(*, model: Model, config: LoadConfig, has_gpu: bool) -> Estimate:
    """Estimate a load as the daemon would tell it."""
    model_bytes = int(model.size_bytes * _WEIGHTS_PER_FILE_BYTE)
    context_bytes = config.context_length * model.kv_bytes_per_token
    ratio = config.offload_ratio if has_gpu else 0.0
    return Estimate(
        model_vram_bytes=int(model_bytes * ratio),
        context_vram_bytes=context_bytes if config.kv_on_gpu and ratio > 0 else 0,
        model_bytes=model_bytes,
        context_bytes=context_bytes,
    )


def needed_vram(*, model: Model, config: LoadConfig, has_gpu: bool) -> int:
    """Tell what the engine process will really take: the estimate and its own overhead."""
    vram = estimate(model=model, config=config, has_gpu=has_gpu).total_vram_bytes
    return vram + model.overhead_bytes if vram else 0


def passes_guardrail(
    *,
    guardrail: Guardrail,
    needs: Estimate,
    gpus: Gpus,
    config: LoadConfig,
    own_pids: Iterable[int],
) -> bool:
    """Whether the daemon would start the load. Observed: it does not see foreign processes.

    Assumed: `high` keeps a fifth of the memory free, `medium` a tenth, `low` and `custom` nothing.
    """
    if guardrail == "off":
        return True
    keep = {"high": 0.8, "medium": 0.9}.get(guardrail, 1.0)
    own = set(own_pids)
    usable = gpus.usable(config.split)
    total = sum(gpu.spec.total_bytes for gpu in usable)
    used = sum(size for gpu in usable for pid, size in gpu.processes.items() if pid in own)
    in_ram = needs.total_bytes - needs.total_vram_bytes
    return needs.total_vram_bytes <= total * keep - used and in_ram <= RAM_BYTES * keep
