"""Every option of a load is on the wire what the official SDK makes of it, key by key."""

from typing import Any

import pytest

from actions.domain.load_keys import KEYS, ROWS
from actions.domain.load_options import contradiction, normal, wire_fields
from exporter.llmster import calls
from llmster_sim.server import Simulator
from tests.conformance.node_judge import judge

pytestmark = [pytest.mark.external("node"), pytest.mark.external("@lmstudio/sdk")]

LLM: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"contextLength": 8192}, {"context_length": 8192}),
    ({"autoFit": True}, {"auto_fit": True}),
    ({"autoFit": False}, {"auto_fit": False}),
    ({"gpu": {"ratio": 0.5}}, {"gpu_offload": 0.5}),
    ({"gpu": {"ratio": "max"}}, {"gpu_offload": "max"}),
    ({"gpu": {"ratio": "off"}}, {"gpu_offload": "off"}),
    ({"gpu": {"splitStrategy": "evenly"}}, {"split": "evenly"}),
    ({"gpu": {"splitStrategy": "favorMainGpu"}}, {"split": "priorityOrder"}),
    ({"gpu": {"mainGpu": 1}}, {"main_gpu": 1}),
    (
        {"gpu": {"mainGpu": 1, "splitStrategy": "favorMainGpu"}},
        {"split": "priorityOrder", "gpu_priority": [1]},
    ),
    ({"gpu": {"disabledGpus": [0, 2]}}, {"disabled_gpus": [2, 0]}),
    ({"gpu": {"disabledGpus": [0], "mainGpu": 1}}, {"disabled_gpus": [0], "main_gpu": 1}),
    ({"gpuStrictVramCap": True}, {"strict_vram_cap": True}),
    ({"gpuStrictVramCap": False}, {"strict_vram_cap": False}),
    ({"maxParallelPredictions": 8}, {"parallel": 8}),
    ({"useUnifiedKvCache": False}, {"unified_kv_cache": False}),
    ({"offloadKVCacheToGpu": False}, {"offload_kv_cache": False}),
    ({"llamaKCacheQuantizationType": "q8_0"}, {"k_cache_type": "q8_0"}),
    ({"llamaKCacheQuantizationType": False}, {"k_cache_type": "off"}),
    ({"llamaVCacheQuantizationType": "q4_0"}, {"v_cache_type": "q4_0"}),
    ({"llamaVCacheQuantizationType": False}, {"v_cache_type": "off"}),
    (
        {"llamaKCacheQuantizationType": "q8_0", "llamaVCacheQuantizationType": "q8_0"},
        {"kv_cache_type": "q8"},
    ),
    ({"useFp16ForKVCache": False}, {"fp16_kv_cache": False}),
    ({"flashAttention": True}, {"flash_attention": True}),
    ({"evalBatchSize": 1024}, {"batch_size": 1024}),
    ({"physicalBatchSize": 256}, {"physical_batch_size": 256}),
    ({"contextCheckpoints": 0}, {"context_checkpoints": 0}),
    ({"numExperts": 4}, {"experts": 4}),
    ({"gpu": {"numCpuExpertLayersRatio": 0.25}}, {"cpu_experts": 0.25}),
    (
        {"speculativeDraftSimple": True, "speculativeDraftModel": "a/draft"},
        {"draft_simple": True, "draft_model": "a/draft"},
    ),
    ({"speculativeDraftMtp": True}, {"draft_mtp": True}),
    ({"speculativeDraftMaxTokens": 5}, {"draft_max_tokens": 5}),
    ({"speculativeDraftMinTokens": 1}, {"draft_min_tokens": 1}),
    ({"speculativeDraftMinContinueProbability": 0.5}, {"draft_min_probability": 0.5}),
    ({"seed": 42}, {"seed": 42}),
    ({"seed": False}, {"seed": "off"}),
    ({"ropeFrequencyBase": 10000}, {"rope_base": 10000}),
    ({"ropeFrequencyBase": False}, {"rope_base": "off"}),
    ({"ropeFrequencyScale": 0.5}, {"rope_scale": 0.5}),
    ({"keepModelInMemory": False}, {"keep_in_memory": False}),
    ({"tryMmap": False}, {"mmap": False}),
    ({"tryDirectIO": True}, {"direct_io": True}),
    ({"mlxDiskCache": False}, {"mlx_disk_cache": False}),
    (
        {"mlxKvCacheQuantization": {"enabled": True, "bits": 4, "groupSize": 32, "quantizedStart": 0}},
        {"mlx_kv_bits": "4", "mlx_kv_group_size": "32", "mlx_kv_start": 0},
    ),
    (
        {"mlxKvCacheQuantization": {"enabled": True, "bits": 8, "groupSize": 64, "quantizedStart": 5000}},
        {"mlx_kv_bits": "8"},
    ),
    ({"mlxKvCacheQuantization": False}, {"mlx_kv_bits": "off"}),
    ({"reasoningBudgetMessage": "Enough."}, {"reasoning_budget_message": "Enough."}),
    (
        {
            "llamaCppArgumentsOverride": {
                "enabled": True,
                "disabledParameters": ["--mlock"],
                "overrideParameters": [
                    {"key": "--tensor-split", "value": "1,2"},
                    {"key": "--x", "value": "a=b"},
                ],
                "excludeAllConfig": False,
            }
        },
        {
            "llama_arguments": ["--tensor-split=1,2", "--x=a=b"],
            "llama_arguments_left_out": ["--mlock"],
        },
    ),
    (
        {
            "llamaCppArgumentsOverride": {
                "enabled": True,
                "disabledParameters": [],
                "overrideParameters": [],
                "excludeAllConfig": True,
            }
        },
        {"llama_arguments_only": True},
    ),
    (
        {"contextLength": 4096, "gpu": {"ratio": 1, "disabledGpus": [1]}, "flashAttention": False},
        {"context_length": 4096, "gpu_offload": 1, "disabled_gpus": [1], "flash_attention": False},
    ),
]
EMBEDDING: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"contextLength": 2048}, {"context_length": 2048}),
    ({"gpu": {"disabledGpus": [0]}}, {"disabled_gpus": [0]}),
    (
        {"gpu": {"mainGpu": 1, "splitStrategy": "favorMainGpu"}},
        {"split": "priorityOrder", "gpu_priority": [1]},
    ),
    (
        {"contextLength": 512, "gpu": {"mainGpu": 1, "disabledGpus": [0]}, "tryMmap": True},
        {"context_length": 512, "main_gpu": 1, "disabled_gpus": [0], "mmap": True},
    ),
    ({"ropeFrequencyBase": False, "ropeFrequencyScale": 0.5}, {"rope_base": "off", "rope_scale": 0.5}),
    ({"gpu": {"mainGpu": 1}}, {"main_gpu": 1}),
    ({"gpu": {"splitStrategy": "favorMainGpu"}}, {"split": "priorityOrder"}),
    ({"ropeFrequencyBase": 10000}, {"rope_base": 10000}),
    ({"ropeFrequencyScale": False}, {"rope_scale": "off"}),
    ({"keepModelInMemory": True}, {"keep_in_memory": True}),
    ({"tryMmap": False}, {"mmap": False}),
]
NOT_IN_THE_SDK = {
    "min_context_length",
    "gpu_ratio",
    "cpu_threads",
    "vllm_memory_share",
    "vllm_reasoning_parser",
    "vllm_tool_parser",
}
"""In the schema, and without a name in the SDK's public configuration."""
NOT_IN_THE_SDK_FOR_EMBEDDING = {"gpu_offload", "gpu_ratio", "strict_vram_cap", "batch_size", "seed"}
"""The same of an embedding model. Its conversion leaves `gpu.ratio` out, although the schema has the key."""


@pytest.mark.parametrize(("namespace", "cases"), [("llm", LLM), ("embedding", EMBEDDING)])
async def test_every_option_is_sent_as_the_official_sdk_sends_it(
    sim: Simulator, namespace: Any, cases: list[tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    verdict = await judge(
        "loadFrames", sim.url, {"namespace": namespace, "configs": [official for official, _ in cases]}
    )
    frames = verdict.accept()
    assert len(frames) == len(cases)
    for (official, given), frame in zip(cases, frames, strict=True):
        options = normal(given)
        assert contradiction(options) is None
        ours = calls.stack_of(wire_fields(options, namespace))
        assert _fields(ours) == _fields(frame["loadConfigStack"]), official


def test_no_option_is_left_out() -> None:
    compared = {name for _, given in LLM for name in given}
    assert compared | NOT_IN_THE_SDK == set(KEYS)
    assert not compared & NOT_IN_THE_SDK
    of_embedding = {name for _, given in EMBEDDING for name in given}
    assert of_embedding | NOT_IN_THE_SDK_FOR_EMBEDDING == {row.parameter for row in ROWS if row.embedding}
    assert not of_embedding & NOT_IN_THE_SDK_FOR_EMBEDDING


def _fields(stack: dict[str, Any]) -> dict[str, Any]:
    """Flatten a stack; layers without a field say nothing."""
    return {
        field["key"]: field["value"]
        for layer in stack["layers"]
        for field in layer["config"]["fields"]
        if "value" in field
    }
