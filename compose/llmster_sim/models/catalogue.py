"""List the models on the simulated disk: what the daemon says of them and how fast they run.

Does not depend on loading, queues or wire formats; sizes and rates are data, never behaviour.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

Family = Literal["think", "think_open", "harmony", "gemma", "gemma_thought", "mistral", "plain"]
Wording = Literal["n_gen", "n_decoded"]

# Observed: the local device and its LM Link peer as a recorded lmLinkStatus names them.
LOCAL_DEVICE_IDENTIFIER = "3f0c9a4e7b1d42d89e55aa10c7f2b6d1"
LOCAL_DEVICE_NAME = "gpu-box"
PEER_DEVICE_IDENTIFIER = "b81e5c07d2f94f0c8a6630e9d41b7c52"
PEER_DEVICE_NAME = "studio-mac"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One runtime extension; `includes_prefill` says what `totalTimeSec` means on it.

    `prompt_at_start`: the input event is stamped at the start (MLX) rather than with the output (llama.cpp).
    `reports_gpu_layers`: only some engines send `numGpuLayers`.
    """

    name: str
    version: str
    type: str
    model_format: Literal["GGUF", "MLX"]
    wording: Wording | None
    includes_prefill: bool
    prompt_at_start: bool
    reports_gpu_layers: bool


LLAMA_SERVER = Engine(
    name="llama.cpp-linux-x86_64-nvidia-cuda12-avx2",
    version="2.41.0",
    type="llama.cpp",
    model_format="GGUF",
    wording="n_gen",
    includes_prefill=True,
    prompt_at_start=False,
    reports_gpu_layers=False,
)
# Observed: older llama.cpp builds report decode time only and print n_decoded. Assumed: this version number.
LLAMA_OLDER = dataclasses.replace(
    LLAMA_SERVER,
    version="1.52.0",
    wording="n_decoded",
    includes_prefill=False,
    reports_gpu_layers=True,
)
# Assumed: one daemon serving both engines at once. A real host has one of the two; tests need both.
MLX = Engine(
    name="mlx-llm-mac-arm64-apple-metal-advsimd",
    version="1.4.0",
    type="mlx",
    model_format="MLX",
    wording=None,
    includes_prefill=False,
    prompt_at_start=True,
    reports_gpu_layers=True,
)
ENGINES = (LLAMA_SERVER, LLAMA_OLDER, MLX)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model on disk. Rates are tokens per second with one prediction running.

    `kv_bytes_per_token` sizes the context; `overhead_bytes` is what the engine process takes on top of
    the estimate (Observed: 854 MB estimated, 1239 MB measured for a 543 MB file).
    """

    type: Literal["llm", "embedding", "decision"]
    key: str
    display_name: str
    publisher: str
    path: str
    size_bytes: int
    architecture: str
    quantization: tuple[str, int]
    max_context_length: int
    family: Family
    engine: Engine
    params: str | None = None
    vision: bool = False
    tools: bool = False
    variants: tuple[str, ...] = ()
    reasoning_options: tuple[str, ...] = ()
    reasoning_default: str | None = None
    device_identifier: str | None = None
    default_context_length: int = 4096
    num_experts: int | None = None
    draft_key: str | None = None
    prefill_tps: float = 2400.0
    decode_tps: float = 80.0
    kv_bytes_per_token: int = 65_536
    overhead_bytes: int = 403_701_760

    @property
    def format(self) -> str:
        """`ModelCompatibilityType` of the WebSocket schemas; REST says `mlx` for safetensors."""
        return "gguf" if self.engine.model_format == "GGUF" else "safetensors"

    @property
    def reasons(self) -> bool:
        """Whether the model thinks before it answers unless told not to."""
        return self.family in {"think", "think_open", "harmony", "gemma_thought", "mistral"}


def _gguf(folder: str, file: str) -> str:
    return f"lmstudio-community/{folder}-GGUF/{file}.gguf"


QWEN3_8B = Model(
    type="llm",
    key="qwen/qwen3-8b",
    display_name="Qwen3 8B",
    publisher="qwen",
    path=_gguf("Qwen3-8B", "Qwen3-8B-Q4_K_M"),
    size_bytes=5_027_784_512,
    architecture="qwen3",
    quantization=("Q4_K_M", 4),
    max_context_length=40_960,
    family="think",
    engine=LLAMA_SERVER,
    params="8B",
    tools=True,
    variants=("qwen/qwen3-8b@q4_k_m", "qwen/qwen3-8b@q8_0"),
    reasoning_options=("off", "on"),
    reasoning_default="on",
    default_context_length=8192,
    draft_key="qwen/qwen3-0.6b",
    prefill_tps=3400.0,
    decode_tps=96.0,
    kv_bytes_per_token=147_456,
)
QWEN3_06B = Model(
    type="llm",
    key="qwen/qwen3-0.6b",
    display_name="Qwen3 0.6B",
    publisher="qwen",
    path=_gguf("Qwen3-0.6B", "Qwen3-0.6B-Q8_0"),
    size_bytes=639_446_688,
    architecture="qwen3",
    quantization=("Q8_0", 8),
    max_context_length=40_960,
    family="think",
    engine=LLAMA_SERVER,
    params="0.6B",
    tools=True,
    reasoning_options=("off", "on"),
    reasoning_default="on",
    prefill_tps=14_000.0,
    decode_tps=310.0,
    kv_bytes_per_token=114_688,
)
GPT_OSS_20B = Model(
    type="llm",
    key="openai/gpt-oss-20b",
    display_name="GPT-OSS 20B",
    publisher="openai",
    path=_gguf("gpt-oss-20b", "gpt-oss-20b-MXFP4"),
    size_bytes=12_109_566_560,
    architecture="gpt-oss",
    quantization=("MXFP4", 4),
    max_context_length=131_072,
    family="harmony",
    engine=LLAMA_SERVER,
    params="20B",
    tools=True,
    variants=("openai/gpt-oss-20b@mxfp4",),
    reasoning_options=("low", "medium", "high"),
    reasoning_default="medium",
    num_experts=4,
    prefill_tps=2900.0,
    decode_tps=118.0,
)
GEMMA3_12B = Model(
    type="llm",
    key="google/gemma-3-12b",
    display_name="Gemma 3 12B",
    publisher="google",
    path=_gguf("gemma-3-12b-it", "gemma-3-12b-it-Q4_K_M"),
    size_bytes=8_148_690_528,
    architecture="gemma3",
    quantization=("Q4_K_M", 4),
    max_context_length=131_072,
    family="gemma",
    engine=LLAMA_OLDER,
    params="12B",
    vision=True,
    prefill_tps=2100.0,
    decode_tps=62.0,
    kv_bytes_per_token=98_304,
)
GEMMA4_26B = Model(
    type="llm",
    key="google/gemma-4-26b-a4b",
    display_name="Gemma 4 26B A4B",
    publisher="google",
    path=_gguf("gemma-4-26B-A4B-it", "gemma-4-26B-A4B-it-Q4_K_M"),
    size_bytes=17_990_911_801,
    architecture="gemma4",
    quantization=("Q4_K_M", 4),
    max_context_length=262_144,
    family="gemma_thought",
    engine=LLAMA_SERVER,
    params="26B-A4B",
    vision=True,
    tools=True,
    variants=("google/gemma-4-26b-a4b@q4_k_m",),
    reasoning_options=("off", "on"),
    reasoning_default="on",
    num_experts=8,
    prefill_tps=2600.0,
    decode_tps=104.0,
)
NOMIC_EMBED = Model(
    type="embedding",
    key="text-embedding-nomic-embed-text-v1.5",
    display_name="Nomic Embed Text v1.5",
    publisher="nomic-ai",
    path="nomic-ai/nomic-embed-text-v1.5-GGUF/nomic-embed-text-v1.5.Q4_K_M.gguf",
    size_bytes=84_106_624,
    architecture="nomic-bert",
    quantization=("Q4_K_M", 4),
    max_context_length=2048,
    family="plain",
    engine=LLAMA_OLDER,
    default_context_length=2048,
    prefill_tps=9000.0,
    decode_tps=1.0,
    overhead_bytes=209_715_200,
)
R1_QWEN3_8B = Model(
    type="llm",
    key="deepseek/deepseek-r1-0528-qwen3-8b",
    display_name="DeepSeek R1 0528 Qwen3 8B",
    publisher="deepseek",
    path="mlx-community/DeepSeek-R1-0528-Qwen3-8B-4bit",
    size_bytes=4_623_190_016,
    architecture="qwen3",
    quantization=("4bit", 4),
    max_context_length=131_072,
    family="think_open",
    engine=MLX,
    params="8B",
    tools=True,
    reasoning_options=("on",),
    reasoning_default="on",
    prefill_tps=900.0,
    decode_tps=58.0,
    kv_bytes_per_token=147_456,
)
MAGISTRAL = Model(
    type="llm",
    key="mistralai/magistral-small-2509",
    display_name="Magistral Small 2509",
    publisher="mistralai",
    path=_gguf("Magistral-Small-2509", "Magistral-Small-2509-Q4_K_M"),
    size_bytes=14_333_908_832,
    architecture="mistral3",
    quantization=("Q4_K_M", 4),
    max_context_length=131_072,
    family="mistral",
    engine=LLAMA_OLDER,
    params="24B",
    vision=True,
    tools=True,
    reasoning_options=("off", "on"),
    reasoning_default="on",
    prefill_tps=1500.0,
    decode_tps=41.0,
    kv_bytes_per_token=163_840,
)
PEER_QWEN3_32B = Model(
    type="llm",
    key="qwen/qwen3-32b",
    display_name="Qwen3 32B",
    publisher="qwen",
    path="lmstudio-community/Qwen3-32B-MLX-4bit",
    size_bytes=18_432_000_000,
    architecture="qwen3",
    quantization=("4bit", 4),
    max_context_length=40_960,
    family="think",
    engine=MLX,
    params="32B",
    tools=True,
    reasoning_options=("off", "on"),
    reasoning_default="on",
    device_identifier=PEER_DEVICE_IDENTIFIER,
    prefill_tps=240.0,
    decode_tps=19.0,
    kv_bytes_per_token=262_144,
)

CATALOGUE: tuple[Model, ...] = (
    QWEN3_8B,
    GPT_OSS_20B,
    GEMMA3_12B,
    NOMIC_EMBED,
    R1_QWEN3_8B,
    MAGISTRAL,
    PEER_QWEN3_32B,
    GEMMA4_26B,
    QWEN3_06B,
)


def catalogue_of(count: int | None) -> tuple[Model, ...]:
    """Give `count` models: the first of the catalogue, then made-up copies of its smallest LLM."""
    if count is None or count == len(CATALOGUE):
        return CATALOGUE
    copies = (
        dataclasses.replace(
            QWEN3_06B,
            key=f"{QWEN3_06B.key}-copy-{number}",
            display_name=f"{QWEN3_06B.display_name} copy {number}",
            path=_gguf(f"Qwen3-0.6B-copy-{number}", "Qwen3-0.6B-Q8_0"),
        )
        for number in range(1, count - len(CATALOGUE) + 1)
    )
    return (*CATALOGUE[:count], *copies)
