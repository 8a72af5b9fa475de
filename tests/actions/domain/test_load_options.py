"""Options of a load as a set: what is refused, what an instance is compared with, and what counts as evidence."""

from typing import Any

import pytest

from actions.domain.actor import Actor, Scope
from actions.domain.command import Load
from actions.domain.load_key import ARGUMENTS, LISTS, MLX_KV, SPLIT
from actions.domain.load_keys import KEYS
from actions.domain.load_options import contradiction, normal, wire_fields
from actions.domain.policy import Facts, decide
from exporter.llmster.state import InstanceInfo

OFFLOAD = "llm.load.llama.acceleration.offloadRatio"
PARALLEL = "llm.load.numParallelSessions"
FLASH = "llm.load.llama.flashAttention"
KV = "llm.load.llama.kCacheQuantizationType"
SETTLED = {"llm.load.llama.autoFit": False}
"""What shows that manual settings are settings and not mere defaults."""


def loaded(**changes: object) -> InstanceInfo:
    known: dict[str, object] = {"type": "llm", "model_key": "m", "identifier": "m", "instance_reference": "r"}
    return InstanceInfo(**{**known, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "info", "config", "different", "unknown"),
    [
        ({}, {}, {}, (), ()),
        ({"context_length": 4096}, {"context_length": 4096}, {}, (), ()),
        ({"context_length": 9999}, {"context_length": 4096, "max_context_length": 4096}, {}, (), ()),
        ({"context_length": 8192}, {"context_length": 4096}, {}, ("context_length",), ()),
        ({"context_length": 8192}, {}, {}, (), ("context_length",)),
        ({"gpu_offload": "max"}, {}, SETTLED | {OFFLOAD: 1.0}, (), ()),
        ({"gpu_offload": 0.0}, {}, SETTLED | {OFFLOAD: "off"}, (), ()),
        ({"gpu_offload": 0.5}, {}, SETTLED | {OFFLOAD: "max"}, ("gpu_offload",), ()),
        ({"gpu_offload": 0.5}, {}, {OFFLOAD: 0.5}, (), ("gpu_offload",)),
        ({"gpu_offload": 0.5}, {}, {}, (), ("gpu_offload",)),
        ({"gpu_offload": 0.5}, {}, SETTLED, (), ("gpu_offload",)),
        ({"parallel": 2}, {}, {PARALLEL: 4}, ("parallel",), ()),
        ({"parallel": 2}, {}, {}, ("parallel",), ()),
        ({"parallel": 4}, {}, {}, (), ()),
        ({"flash_attention": True}, {}, {}, ("flash_attention",), ()),
        ({"flash_attention": True}, {}, {FLASH: True}, (), ()),
        ({"k_cache_type": "q8_0"}, {}, {KV: {"checked": True, "value": "q8_0"}}, (), ()),
        ({"k_cache_type": "q8_0"}, {}, {KV: {"checked": False, "value": "q8_0"}}, ("k_cache_type",), ()),
        ({"k_cache_type": "off"}, {}, {KV: {"checked": False, "value": "q4_0"}}, (), ()),
        ({"k_cache_type": "off"}, {}, {}, (), ()),
        ({"auto_fit": True}, {}, {}, (), ("auto_fit",)),
        ({"auto_fit": True}, {}, SETTLED, ("auto_fit",), ()),
        ({"split": "tensor"}, {}, SETTLED | {SPLIT: {"strategy": "evenly"}}, ("split",), ()),
        ({"split": "evenly"}, {}, SETTLED, (), ()),
        ({"disabled_gpus": (0,)}, {}, {}, ("disabled_gpus",), ()),
        ({"cpu_threads": 4}, {}, {}, (), ("cpu_threads",)),
        ({"mlx_kv_bits": "4"}, {}, {}, ("mlx_kv_bits",), ()),
        ({"mlx_kv_bits": "off"}, {}, {MLX_KV: {"enabled": False, "bits": 4}}, (), ()),
        (
            {"mlx_kv_bits": "4"},
            {},
            {MLX_KV: {"enabled": True, "bits": 4, "groupSize": 64, "quantizedStart": 5000}},
            (),
            (),
        ),
        (
            {"llama_arguments": ("--threads=8",)},
            {},
            {
                ARGUMENTS: {
                    "enabled": True,
                    "disabledParameters": [],
                    "overrideParameters": [{"key": "--threads", "value": "4"}],
                    "excludeAllConfig": False,
                }
            },
            ("llama_arguments",),
            (),
        ),
        ({"rope_base": 1e4}, {"type": "embedding"}, {}, ("rope_base",), ()),
    ],
)
def test_nothing_counts_as_equal_without_evidence(
    *,
    options: dict[str, Any],
    info: dict[str, object],
    config: dict[str, Any],
    different: tuple[str, ...],
    unknown: tuple[str, ...],
) -> None:
    found = Load(daemon="d", model="m", options=options).compared(loaded(**info), config)
    assert (found.different, found.unknown) == (different, unknown)


@pytest.mark.parametrize(
    ("ttl_seconds", "ttl_ms", "different"),
    [(60, 60_000, ()), (60, None, ("ttl_seconds",)), (None, 60_000, ())],
)
def test_the_ttl_is_compared_too(
    ttl_seconds: int | None, ttl_ms: float | None, different: tuple[str, ...]
) -> None:
    command = Load(daemon="d", model="m", ttl_seconds=ttl_seconds)
    assert command.compared(loaded(ttl_ms=ttl_ms), {}).different == different


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"split": "custom"}, "gpu_ratio"),
        ({"split": "custom", "gpu_ratio": [0, 0]}, "gpu_ratio"),
        ({"gpu_ratio": [1]}, "gpu_ratio"),
        ({"gpu_priority": [1]}, "gpu_priority"),
        ({"split": "priorityOrder", "gpu_priority": [1], "main_gpu": 1}, "main_gpu"),
        ({"auto_fit": True, "context_length": 1}, "auto_fit"),
        ({"auto_fit": True, "strict_vram_cap": False}, "auto_fit"),
        ({"draft_mtp": True, "draft_simple": True}, "draft_simple"),
        ({"draft_simple": True}, "draft_model"),
        ({"draft_model": "x"}, "draft_model"),
        ({"draft_min_tokens": 5, "draft_max_tokens": 2}, "draft_min_tokens"),
        ({"mlx_kv_group_size": "64"}, "mlx_kv_group_size"),
        ({"mlx_kv_bits": "off", "mlx_kv_start": 0}, "mlx_kv_start"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_option(
    options: dict[str, Any], parameter: str
) -> None:
    wrong = contradiction(normal(options))
    assert wrong is not None
    assert wrong.parameter == parameter
    assert wrong.other in KEYS


def test_a_shorthand_stands_for_both_caches_and_yields_to_an_explicit_one() -> None:
    assert normal({"kv_cache_type": "q8"}) == {"k_cache_type": "q8_0", "v_cache_type": "q8_0"}
    mixed = normal({"kv_cache_type": "q4", "v_cache_type": "f16"})
    assert mixed == {"k_cache_type": "q4_0", "v_cache_type": "f16"}


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if key.is_manual])
def test_a_manual_setting_switches_auto_fit_off(name: str) -> None:
    fields = wire_fields({name: (1,) if KEYS[name].kind in LISTS else 1}, "llm")
    assert fields["llm.load.llama.autoFit"] is False


@pytest.mark.parametrize(
    "options", [{"llama_arguments": ("--log-file=/etc/x",)}, {"llama_arguments_only": True}]
)
def test_arguments_of_the_engine_need_an_admin(options: dict[str, Any]) -> None:
    command = Load(daemon="d", model="m", options=options)
    assert decide(Actor("token:me", Scope.OPERATE), command, Facts()).rule == "scope"
    assert decide(Actor("token:root", Scope.ADMIN), command, Facts()).allowed


def test_every_wire_key_belongs_to_one_option() -> None:
    for wires in (
        [key.llm for key in KEYS.values() if not key.sets and not key.is_part],
        [key.embedding for key in KEYS.values() if not key.is_part],
    ):
        named = [wire for wire in wires if wire is not None]
        assert len(named) == len(set(named))
