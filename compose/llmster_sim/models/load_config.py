"""Read and complete a load configuration: the key/value fields of the daemon's `loadConfigStack`.

Does not depend on instances or GPUs; unknown keys are kept as they came, as the daemon keeps them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmster_sim.models.catalogue import Model

Strategy = Literal["evenly", "priorityOrder", "tensor", "custom"]

CONTEXT = "llm.load.contextLength"
EMBEDDING_CONTEXT = "embedding.load.contextLength"
PARALLEL = "llm.load.numParallelSessions"
OFFLOAD = "llm.load.llama.acceleration.offloadRatio"
KV_ON_GPU = "llm.load.offloadKVCacheToGpu"
FLASH = "llm.load.llama.flashAttention"
BATCH = "llm.load.llama.evalBatchSize"
EXPERTS = "llm.load.numExperts"
SPLIT = "load.gpuSplitConfig"
STRICT = "load.gpuStrictVramCap"

# The order and the defaults that getLoadConfig answered with when it was recorded; MLX keys aside.
_LLAMA_DEFAULTS: tuple[tuple[str, Any], ...] = (
    (CONTEXT, 4096),
    ("llm.load.autoFitMinContextLength", 0),
    ("llm.load.seed", {"checked": False, "value": -1}),
    ("envVars", {}),
    (KV_ON_GPU, True),
    (PARALLEL, 4),
    ("llm.load.useUnifiedKvCache", True),
    ("llm.load.llama.autoFit", True),
    (OFFLOAD, "max"),
    ("llm.load.llama.cpuThreadPoolSize", 4),
    (BATCH, 512),
    ("llm.load.llama.physicalBatchSize", 512),
    (FLASH, True),
    ("llm.load.llama.contextCheckpoints", 32),
    ("llm.load.llama.keepModelInMemory", True),
    ("llm.load.llama.tryMmap", True),
    ("llm.load.llama.kCacheQuantizationType", {"checked": False, "value": "f16"}),
    ("llm.load.llama.vCacheQuantizationType", {"checked": False, "value": "f16"}),
    (SPLIT, {"strategy": "evenly", "disabledGpus": [], "priority": [], "customRatio": []}),
    (STRICT, False),
    (EXPERTS, 0),
    ("llm.load.numCpuExpertLayersRatio", "off"),
)
# Assumed: an MLX instance reports only what MLX knows; REST shows context_length and parallel alone.
_MLX_DEFAULTS: tuple[tuple[str, Any], ...] = ((CONTEXT, 4096), (PARALLEL, 4), ("llm.load.mlx.autoFit", True))
# Assumed: the embedding keys beyond the context length follow the llm ones.
_EMBEDDING_DEFAULTS: tuple[tuple[str, Any], ...] = (
    (EMBEDDING_CONTEXT, 2048),
    ("embedding.load.llama.acceleration.offloadRatio", "max"),
    (SPLIT, {"strategy": "evenly", "disabledGpus": [], "priority": [], "customRatio": []}),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Which GPUs to use and how: `load.gpuSplitConfig`."""

    strategy: Strategy = "evenly"
    disabled: tuple[int, ...] = ()
    priority: tuple[int, ...] = ()
    ratio: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadConfig:
    """A complete configuration of one instance; `fields` is what getLoadConfig answers."""

    fields: tuple[tuple[str, Any], ...]
    context_length: int
    parallel: int
    offload_ratio: float
    kv_on_gpu: bool
    flash_attention: bool
    eval_batch_size: int
    num_experts: int | None
    split: Split


def _ratio(value: object) -> float:
    if value == "off":
        return 0.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        return min(1.0, max(0.0, float(value)))
    return 1.0


def _split(value: Mapping[str, Any]) -> Split:
    return Split(
        strategy=value.get("strategy", "evenly"),
        disabled=tuple(value.get("disabledGpus", ())),
        priority=tuple(value.get("priority", ())),
        ratio=tuple(value.get("customRatio", ())),
    )


def complete(*, model: Model, overrides: Mapping[str, Any]) -> LoadConfig:
    """Lay `overrides` over the model's defaults; a context beyond the model's maximum is cut to it."""
    if model.type == "embedding":
        defaults, context_key, offload_key = (
            _EMBEDDING_DEFAULTS,
            EMBEDDING_CONTEXT,
            "embedding.load.llama.acceleration.offloadRatio",
        )
    else:
        defaults = _LLAMA_DEFAULTS if model.engine.model_format == "GGUF" else _MLX_DEFAULTS
        context_key, offload_key = CONTEXT, OFFLOAD
    values = dict(defaults)
    values[context_key] = model.default_context_length
    if model.num_experts is not None and EXPERTS in values:
        values[EXPERTS] = model.num_experts
    values.update({key: value for key, value in overrides.items() if value is not None})
    values[context_key] = min(int(values[context_key]), model.max_context_length)
    return LoadConfig(
        fields=tuple(values.items()),
        context_length=values[context_key],
        parallel=max(1, int(values.get(PARALLEL, 1))),
        offload_ratio=_ratio(values.get(offload_key, "max")),
        kv_on_gpu=bool(values.get(KV_ON_GPU, True)),
        flash_attention=bool(values.get(FLASH, True)),
        eval_batch_size=max(1, int(values.get(BATCH, 512))),
        num_experts=model.num_experts and int(values.get(EXPERTS, model.num_experts)),
        split=_split(values.get(SPLIT, {})),
    )


def overrides_of(stack: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a `kvConfigStack`; later layers win. A field without a value counts as not given."""
    merged: dict[str, Any] = {}
    layers: Iterable[Mapping[str, Any]] = stack["layers"]
    for layer in layers:
        for field in layer["config"]["fields"]:
            if "value" in field:
                merged[field["key"]] = field["value"]
    return merged
