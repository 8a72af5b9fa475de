"""An instance's load configuration: what of it explains the instance's behaviour, and what its missing keys mean.

Pure. Source: `getLoadConfig`, `{"fields":[{"key","value"?}]}`, and the load schematics of the official SDK
(lmstudio-js, `llm.load`). A configuration holds only what was set: a missing key means the schema's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

DEFAULT_PARALLEL: Final = 4
"""Default of `llm.load.numParallelSessions`, in the schemas of the engines that have the key."""
PARALLEL_FORMATS: Final = frozenset({"gguf", "safetensors", "torch_safetensors"})
"""Formats of those engines: llama.cpp, MLX and vLLM. The schemas of others (yuzu, ONNX) do not have the key."""

CONTEXT: Final = "llm.load.contextLength"
OFFLOAD_RATIO: Final = "llm.load.llama.acceleration.offloadRatio"
PARALLEL: Final = "llm.load.numParallelSessions"
SPLIT: Final = "load.gpuSplitConfig"
STRICT_VRAM: Final = "load.gpuStrictVramCap"
EXPERTS_ON_CPU: Final = "llm.load.numCpuExpertLayersRatio"
AUTO_FIT: Final = {
    "gguf": "llm.load.llama.autoFit",
    "safetensors": "llm.load.mlx.autoFit",
}
"""By format. While it is true, the daemon chooses context, offload and placement by what fits."""

_EVEN_SPLIT: Final[Mapping[str, Any]] = {"strategy": "evenly", "priority": [], "customRatio": []}


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """What one instance was loaded with."""

    parallel: int | None = None
    """Sessions at the same time: `llm.load.numParallelSessions`, else the schema's default, else None."""
    gpu_offload_ratio: float | None = None
    """Share of the layers asked to be on GPUs, 0 to 1 ("off" and "max" on the wire); None while autoFit decides."""
    context_length: int | None = None
    """The context length the configuration asks for, in tokens; the effective one is InstanceInfo.context_length."""
    auto_fit: bool | None = None
    """Whether the daemon fits context and offload to the memory; None where the engine has no such choice."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Every key that was set, as on the wire."""
    format: str = ""
    """The model's format, in small letters: it decides which keys the engine knows."""

    @property
    def sets_parallel(self) -> bool:
        """Whether `parallel` was set, and is not the schema's default."""
        return self.parallel is not None and PARALLEL in self.fields

    def as_loaded(self, context_length: int | None) -> dict[str, Any]:
        """Give the keys to ask for an estimate of this very load with: all that was set, and the effective context."""
        fields = dict(self.fields)
        if context_length is not None:
            fields[CONTEXT] = context_length
        if self.auto_fit and not any(key in fields for key in AUTO_FIT.values()):
            # Else the context would read as one that was chosen by hand, which turns autoFit off.
            fields[AUTO_FIT[self.format]] = True
        return fields


class _Field(msgspec.Struct, frozen=True):
    key: str
    value: Any = None


class ConfigFields(msgspec.Struct, frozen=True):
    """Source: getLoadConfig. An answer without `fields` is no configuration, rather than one of defaults."""

    fields: tuple[_Field, ...]


def read_fields(raw: msgspec.Raw | None) -> dict[str, Any]:
    """Read a key-value load configuration. Raises one of UNDECODABLE if it is none."""
    fields = msgspec.json.decode(raw if raw is not None else b"null", type=ConfigFields).fields
    return {field.key: field.value for field in fields}


def load_config_of(pairs: Mapping[str, Any], *, format_: str | None = "gguf") -> LoadConfig:
    """Take from a key-value configuration what is used of it; odd values read as not set. `format_` is the model's."""
    fields = {key: value for key, value in pairs.items() if value is not None}
    kind = (format_ or "").lower()
    auto_fit = _auto_fit(fields, kind)
    context = fields.get(CONTEXT)
    return LoadConfig(
        parallel=_parallel(fields, kind),
        gpu_offload_ratio=None if auto_fit else _offload_ratio(fields.get(OFFLOAD_RATIO)),
        context_length=context if type(context) is int and context > 0 else None,
        auto_fit=auto_fit,
        fields=fields,
        format=kind,
    )


def _parallel(fields: Mapping[str, Any], format_: str) -> int | None:
    if PARALLEL not in fields:
        return DEFAULT_PARALLEL if format_ in PARALLEL_FORMATS else None
    value = fields[PARALLEL]
    return value if type(value) is int and value > 0 else None


def _auto_fit(fields: Mapping[str, Any], format_: str) -> bool | None:
    """Tell whether autoFit is on, as the official SDK does: older clients set things by hand without turning it off."""
    key = AUTO_FIT.get(format_)
    if key is None:
        return None
    value = fields.get(key)
    if isinstance(value, bool):
        return value
    by_hand = (CONTEXT, STRICT_VRAM, OFFLOAD_RATIO, EXPERTS_ON_CPU) if format_ == "gguf" else (CONTEXT,)
    return not any(key in fields for key in by_hand) and not _splits_by_hand(fields.get(SPLIT))


def _splits_by_hand(split: Any) -> bool:
    """Tell whether a GPU split is more than the filter of disabled GPUs that goes together with autoFit."""
    if not isinstance(split, dict):
        return False
    is_plain = all(split.get(key, default) == default for key, default in _EVEN_SPLIT.items())
    return not is_plain or not split.get("disabledGpus")


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
