"""The one table of load options: API field, CLI flag, wire key, values, default, and where each is known from.

The API's parameters, the CLI's flags, the wire and the comparison with what is loaded are made from it.

Source: load configuration schema of LM Studio's official SDK 2.0.0 (`globalConfigSchematics`, conversion
`llmLoadModelConfigToKVConfig`); tests/conformance compares the frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from exporter.llmster.commands import Namespace

Kind = Literal["int", "number", "bool", "choice", "ratio", "indices", "shares", "text"]

AUTO_FIT: Final = ("llm.load.llama.autoFit", "llm.load.mlx.autoFit", "llm.load.yuzu.autoFit")
SPLIT: Final = "load.gpuSplitConfig"
CACHE_TYPES: Final = ("f32", "f16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
SHORT_CACHE_TYPES: Final[Mapping[str, str]] = {"q8": "q8_0", "q5": "q5_0", "q4": "q4_0"}
SPLIT_STRATEGIES: Final = ("evenly", "priorityOrder", "tensor", "custom")

UNKNOWN: Final = object()
"""A default that depends on the host or the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadKey:
    """One option of a load."""

    parameter: str
    help: str
    kind: Kind
    llm: str | None = None
    """Wire key for an LLM; None when it has none, or when the option is a part of another key."""
    embedding: str | None = None
    """Wire key for an embedding model."""
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    unchecked: Any = None
    """Of a key with a switch, `{checked, value}`: the value that goes with unchecked. The option takes "off", too."""
    default: Any = UNKNOWN
    """What a missing key means, by the schema; UNKNOWN where the schema says that it depends on the host."""
    is_manual: bool = False
    """Whether it switches autoFit off, under which it would be a mere default."""
    part_of: str | None = None
    """Wire key that it is a part of."""
    flag: str = ""
    sets: tuple[str, ...] = ()
    """Options that it stands for."""

    @property
    def cli_flag(self) -> str:
        """The flag of the command line."""
        return self.flag or "--" + self.parameter.replace("_", "-")

    def suits(self, namespace: Namespace) -> bool:
        """Whether a model of this domain has such a key."""
        return self.part_of == SPLIT or (self.llm if namespace == "llm" else self.embedding) is not None

    def encoded(self, value: Any) -> Any:
        """Write a value as the wire has it."""
        if self.unchecked is None:
            return value
        off = value == "off"
        return {"checked": not off, "value": self.unchecked if off else value}


ROWS: Final[tuple[LoadKey, ...]] = (
    LoadKey(
        parameter="context_length",
        help="Context in tokens.",
        kind="int",
        least=1,
        most=100_000_000,
        llm="llm.load.contextLength",
        embedding="embedding.load.contextLength",
        is_manual=True,
    ),
    LoadKey(
        parameter="auto_fit",
        help="Let the engine choose context and offload by the free memory. Not with a manual setting.",
        kind="bool",
        llm=AUTO_FIT[0],
    ),
    LoadKey(
        parameter="min_context_length",
        help="Least context in tokens that auto fit may choose.",
        kind="int",
        least=0,
        most=100_000_000,
        llm="llm.load.autoFitMinContextLength",
    ),
    LoadKey(
        parameter="gpu_offload",
        help='Share of the layers on GPUs, 0 to 1, or "max" or "off".',
        kind="ratio",
        is_manual=True,
        llm="llm.load.llama.acceleration.offloadRatio",
        embedding="embedding.load.llama.acceleration.offloadRatio",
    ),
    LoadKey(
        parameter="split",
        help="How to spread over several GPUs.",
        kind="choice",
        choices=SPLIT_STRATEGIES,
        part_of=SPLIT,
        default="evenly",
        is_manual=True,
    ),
    LoadKey(
        parameter="main_gpu",
        help="Index of the GPU that is filled first.",
        kind="int",
        least=0,
        most=255,
        part_of=SPLIT,
        is_manual=True,
    ),
    LoadKey(parameter="disabled_gpus", help="Indices of GPUs to leave alone.", kind="indices", part_of=SPLIT),
    LoadKey(
        parameter="gpu_priority",
        help="With split priorityOrder: indices, the first to fill first.",
        kind="indices",
        part_of=SPLIT,
        is_manual=True,
    ),
    LoadKey(
        parameter="gpu_ratio",
        help="With split custom: shares by index.",
        kind="shares",
        part_of=SPLIT,
        is_manual=True,
    ),
    LoadKey(
        parameter="strict_vram_cap",
        help="Never use more than the dedicated memory of the GPUs.",
        kind="bool",
        llm="load.gpuStrictVramCap",
        embedding="load.gpuStrictVramCap",
        default=False,
        is_manual=True,
    ),
    LoadKey(
        parameter="parallel",
        help="Requests worked on at once.",
        kind="int",
        least=1,
        most=1023,
        llm="llm.load.numParallelSessions",
        default=4,
    ),
    LoadKey(
        parameter="unified_kv_cache",
        help="One KV cache shared by all parallel requests.",
        kind="bool",
        llm="llm.load.useUnifiedKvCache",
        default=True,
    ),
    LoadKey(
        parameter="offload_kv_cache",
        help="KV cache in GPU memory.",
        kind="bool",
        llm="llm.load.offloadKVCacheToGpu",
        default=True,
    ),
    LoadKey(
        parameter="kv_cache_type",
        help="Quantization of K and V cache, such as q8.",
        kind="choice",
        choices=(*CACHE_TYPES, *SHORT_CACHE_TYPES),
        unchecked="f16",
        flag="--kv",
        sets=("k_cache_type", "v_cache_type"),
        llm="llm.load.llama.kCacheQuantizationType",
    ),
    LoadKey(
        parameter="k_cache_type",
        help="Quantization of the K cache.",
        kind="choice",
        choices=CACHE_TYPES,
        unchecked="f16",
        default="off",
        llm="llm.load.llama.kCacheQuantizationType",
    ),
    LoadKey(
        parameter="v_cache_type",
        help="Quantization of the V cache.",
        kind="choice",
        choices=CACHE_TYPES,
        unchecked="f16",
        default="off",
        llm="llm.load.llama.vCacheQuantizationType",
    ),
    LoadKey(
        parameter="fp16_kv_cache",
        help="16-bit KV cache.",
        kind="bool",
        default=True,
        llm="llm.load.llama.useFp16ForKVCache",
    ),
    LoadKey(
        parameter="flash_attention",
        help="Flash attention.",
        kind="bool",
        default=False,
        llm="llm.load.llama.flashAttention",
    ),
    LoadKey(
        parameter="batch_size",
        help="Prompt tokens evaluated at once.",
        kind="int",
        least=1,
        most=1_000_000,
        default=2048,
        llm="llm.load.llama.evalBatchSize",
        embedding="embedding.load.llama.evalBatchSize",
    ),
    LoadKey(
        parameter="physical_batch_size",
        help="Prompt tokens in one pass of the engine.",
        kind="int",
        least=1,
        most=1_000_000,
        default=512,
        llm="llm.load.llama.physicalBatchSize",
    ),
    LoadKey(
        parameter="context_checkpoints",
        help="Context checkpoints kept per slot; 0 keeps none.",
        kind="int",
        least=0,
        most=100_000,
        default=32,
        llm="llm.load.llama.contextCheckpoints",
    ),
    LoadKey(
        parameter="cpu_threads",
        help="CPU threads of the engine.",
        kind="int",
        least=1,
        most=4096,
        llm="llm.load.llama.cpuThreadPoolSize",
    ),
    LoadKey(
        parameter="experts",
        help="Experts used per token, for mixture-of-experts models.",
        kind="int",
        least=0,
        most=4096,
        llm="llm.load.numExperts",
        default=0,
    ),
    LoadKey(
        parameter="cpu_experts",
        help='Share of the expert layers in RAM, 0 to 1, or "max" or "off".',
        kind="ratio",
        llm="llm.load.numCpuExpertLayersRatio",
        is_manual=True,
    ),
    LoadKey(
        parameter="draft_model",
        help="Model key of the draft model; with draft_simple.",
        kind="text",
        default="",
        llm="llm.load.llama.speculativeDecoding.draftModel",
    ),
    LoadKey(
        parameter="draft_simple",
        help="Speculative decoding with a separate draft model.",
        kind="bool",
        default=False,
        llm="llm.load.llama.speculativeDecoding.draftSimple",
    ),
    LoadKey(
        parameter="draft_mtp",
        help="Speculative decoding with the model's own multi-token prediction heads.",
        kind="bool",
        default=False,
        llm="llm.load.llama.speculativeDecoding.draftMtp",
    ),
    LoadKey(
        parameter="draft_max_tokens",
        help="Most tokens drafted at once.",
        kind="int",
        least=0,
        most=100_000,
        default=3,
        llm="llm.load.llama.speculativeDecoding.draftMaxTokens",
    ),
    LoadKey(
        parameter="draft_min_tokens",
        help="Least drafted tokens that are verified.",
        kind="int",
        least=0,
        most=100_000,
        default=0,
        llm="llm.load.llama.speculativeDecoding.draftMinTokens",
    ),
    LoadKey(
        parameter="draft_min_probability",
        help="Drafting goes on while a token's probability is at least this, 0 to 1.",
        kind="number",
        least=0,
        most=1,
        default=0,
        llm="llm.load.llama.speculativeDecoding.draftMinContinueProbability",
    ),
    LoadKey(
        parameter="seed",
        help='Seed of the engine, or "off".',
        kind="int",
        least=-1,
        most=2**53,
        unchecked=0,
        default="off",
        llm="llm.load.seed",
        embedding="embedding.load.seed",
    ),
    LoadKey(
        parameter="rope_base",
        help='RoPE base frequency, or "off" for the model\'s own.',
        kind="number",
        least=0,
        most=1e12,
        unchecked=0,
        default="off",
        llm="llm.load.llama.ropeFrequencyBase",
        embedding="embedding.load.llama.ropeFrequencyBase",
    ),
    LoadKey(
        parameter="rope_scale",
        help='RoPE frequency scale, or "off" for the model\'s own.',
        kind="number",
        least=0,
        most=1e12,
        unchecked=0,
        default="off",
        llm="llm.load.llama.ropeFrequencyScale",
        embedding="embedding.load.llama.ropeFrequencyScale",
    ),
    LoadKey(
        parameter="keep_in_memory",
        help="Keep the model's pages in RAM.",
        kind="bool",
        default=True,
        llm="llm.load.llama.keepModelInMemory",
        embedding="embedding.load.llama.keepModelInMemory",
    ),
    LoadKey(
        parameter="mmap",
        help="Map the model's file into memory.",
        kind="bool",
        default=True,
        llm="llm.load.llama.tryMmap",
        embedding="embedding.load.llama.tryMmap",
    ),
    LoadKey(
        parameter="direct_io",
        help="Read the model's file past the page cache.",
        kind="bool",
        default=False,
        llm="llm.load.llama.tryDirectIO",
    ),
    LoadKey(
        parameter="mlx_disk_cache",
        help="MLX: keep prompt caches on disk.",
        kind="bool",
        llm="llm.load.mlx.diskCache",
    ),
    LoadKey(
        parameter="vllm_memory_share",
        help="vLLM: share of the GPU memory to take, 0 to 1.",
        kind="number",
        least=0,
        most=1,
        llm="llm.load.vllm.gpuMemoryUtilization",
        default=0.92,
    ),
)
KEYS: Final[Mapping[str, LoadKey]] = {row.parameter: row for row in ROWS}
