"""Options of a load as a set: what is refused, what an instance is compared with, and what counts as evidence."""

from typing import Any

import pytest

from actions.domain.actor import Actor, Scope
from actions.domain.command import Load
from actions.domain.load_key import ARGUMENTS, LISTS, MLX_KV, SPLIT
from actions.domain.load_keys import KEYS
from actions.domain.load_options import Invalid, contradiction, normal, wire_fields
from actions.domain.policy import Facts, decide
from exporter.llmster.state import InstanceInfo

OFFLOAD = "llm.load.llama.acceleration.offloadRatio"
EMBEDDING_OFFLOAD = KEYS["gpu_offload"].embedding or ""
PARALLEL = "llm.load.numParallelSessions"
FLASH = "llm.load.llama.flashAttention"
KV = "llm.load.llama.kCacheQuantizationType"
MANUAL = "does not go with the manual setting "
SETTLED = {"llm.load.llama.autoFit": False}
"""What shows that manual settings are settings and not mere defaults."""


def loaded(**changes: object) -> InstanceInfo:
    known: dict[str, object] = {
        "type": "llm", "format": "gguf", "model_key": "m", "identifier": "m", "instance_reference": "r"
    }  # fmt: skip
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
        ({"gpu_offload": 0.5}, {"type": "embedding"}, {EMBEDDING_OFFLOAD: 0.5}, (), ()),
        ({"gpu_offload": 0.5}, {"type": "embedding"}, {EMBEDDING_OFFLOAD: 1}, ("gpu_offload",), ()),
        ({"gpu_offload": 0.5}, {"type": "llm"}, SETTLED | {EMBEDDING_OFFLOAD: 0.5}, (), ("gpu_offload",)),
        ({"auto_fit": False}, {}, SETTLED, (), ()),
        ({"auto_fit": False}, {}, SETTLED | {"llm.load.mlx.autoFit": True}, (), ("auto_fit",)),
        (
            {"gpu_offload": 0.5},
            {},
            {"llm.load.llama.autoFit": True, "llm.load.mlx.autoFit": False, OFFLOAD: 0.5},
            (),
            ("gpu_offload",),
        ),
        ({"parallel": 4}, {"format": "onnx"}, {}, (), ("parallel",)),
        ({"parallel": 4}, {"format": None}, {}, (), ("parallel",)),
        ({"parallel": 4}, {"format": "onnx"}, {"llm.load.numParallelSessions": 4}, (), ()),
        ({"parallel": 4}, {"format": "safetensors"}, {}, (), ()),
        ({"mlx_kv_bits": "off"}, {}, {MLX_KV: {"bits": 4}}, ("mlx_kv_bits",), ()),
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
    ("options", "parameter", "why", "other"),
    [
        ({"split": "custom"}, "gpu_ratio", "needs a share above 0, such as 2,1, with ", "split"),
        (
            {"split": "custom", "gpu_ratio": [0, 0]},
            "gpu_ratio",
            "needs a share above 0, such as 2,1, with ",
            "split",
        ),
        ({"gpu_ratio": [1]}, "gpu_ratio", "needs the value custom of ", "split"),
        ({"gpu_priority": [1]}, "gpu_priority", "needs the value priorityOrder of ", "split"),
        (
            {"split": "priorityOrder", "gpu_priority": [1], "main_gpu": 1},
            "main_gpu",
            "is the first GPU of the other; leave out ",
            "gpu_priority",
        ),
        ({"auto_fit": True, "context_length": 1}, "auto_fit", MANUAL, "context_length"),
        ({"auto_fit": True, "strict_vram_cap": False}, "auto_fit", MANUAL, "strict_vram_cap"),
        ({"draft_mtp": True, "draft_simple": True}, "draft_simple", "does not go with ", "draft_mtp"),
        ({"draft_simple": True}, "draft_model", "is required by ", "draft_simple"),
        ({"draft_model": "x"}, "draft_model", "needs ", "draft_simple"),
        (
            {"draft_min_tokens": 5, "draft_max_tokens": 2},
            "draft_min_tokens",
            "is more than ",
            "draft_max_tokens",
        ),
        ({"mlx_kv_group_size": "64"}, "mlx_kv_group_size", "needs a number of ", "mlx_kv_bits"),
        ({"mlx_kv_bits": "off", "mlx_kv_start": 0}, "mlx_kv_start", "needs a number of ", "mlx_kv_bits"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_option(
    options: dict[str, Any], parameter: str, why: str, other: str
) -> None:
    assert contradiction(normal(options)) == Invalid(parameter, why, other)
    assert {parameter, other} <= KEYS.keys()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"split": "custom", "gpu_ratio": [0, 1]},
        {"split": "priorityOrder", "gpu_priority": [1]},
        {"main_gpu": 1},
        {"auto_fit": True},
        {"auto_fit": False, "context_length": 1},
        {"draft_mtp": True},
        {"draft_simple": True, "draft_model": "x"},
        {"draft_min_tokens": 2, "draft_max_tokens": 2},
        {"draft_min_tokens": 2},
        {"draft_max_tokens": 0},
        {"mlx_kv_bits": "4", "mlx_kv_start": 0, "mlx_kv_group_size": "32"},
    ],
)
def test_what_goes_together_is_not_refused(options: dict[str, Any]) -> None:
    assert contradiction(normal(options)) is None


BY_HAND = dict.fromkeys(("llm.load.llama.autoFit", "llm.load.mlx.autoFit", "llm.load.yuzu.autoFit"), False)
EVEN = {"strategy": "evenly", "disabledGpus": [], "priority": [], "customRatio": []}
ARGUED = {"enabled": True, "disabledParameters": [], "overrideParameters": [], "excludeAllConfig": False}
DRAFT = "llm.load.llama.speculativeDecoding."


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"parallel": 2}, {PARALLEL: 2}),
        ({"context_length": 4096}, {**BY_HAND, "llm.load.contextLength": 4096}),
        (
            {"context_length": 4096, "auto_fit": True},
            {**dict.fromkeys(BY_HAND, True), "llm.load.contextLength": 4096},
        ),
        ({"auto_fit": False}, BY_HAND),
        (
            {"split": "tensor", "disabled_gpus": (2, 1)},
            {**BY_HAND, SPLIT: {**EVEN, "strategy": "tensor", "disabledGpus": [2, 1]}},
        ),
        ({"main_gpu": 1}, {**BY_HAND, SPLIT: {**EVEN, "priority": [1]}}),
        (
            {"split": "priorityOrder", "gpu_priority": (2, 0)},
            {**BY_HAND, SPLIT: {**EVEN, "strategy": "priorityOrder", "priority": [2, 0]}},
        ),
        (
            {"split": "custom", "gpu_ratio": (2, 1)},
            {**BY_HAND, SPLIT: {**EVEN, "strategy": "custom", "customRatio": [2, 1]}},
        ),
        (
            {"mlx_kv_bits": "4", "mlx_kv_group_size": "32", "mlx_kv_start": 7},
            {MLX_KV: {"enabled": True, "bits": 4, "groupSize": 32, "quantizedStart": 7}},
        ),
        (
            {"mlx_kv_bits": "off"},
            {MLX_KV: {"enabled": False, "bits": 8, "groupSize": 64, "quantizedStart": 5000}},
        ),
        (
            {"llama_arguments": ("--a=b=c", "--flag"), "llama_arguments_left_out": ("--x",)},
            {
                ARGUMENTS: {
                    **ARGUED,
                    "disabledParameters": ["--x"],
                    "overrideParameters": [{"key": "--a", "value": "b=c"}, {"key": "--flag", "value": ""}],
                }
            },
        ),
        ({"llama_arguments_only": True}, {ARGUMENTS: {**ARGUED, "excludeAllConfig": True}}),
        ({"llama_arguments_only": False}, {ARGUMENTS: {**ARGUED, "enabled": False}}),
        *(
            (
                {name: value},
                {
                    DRAFT + name.title().replace("_", "").replace("D", "d", 1): value,
                    **dict.fromkeys(
                        (f"{DRAFT}draft{kind}Sidecar" for kind in ("Dflash", "Dspark", "Mtp")), False
                    ),
                },
            )
            for name, value in (("draft_model", "d"), ("draft_simple", True), ("draft_mtp", True))
        ),
    ],
)
def test_options_are_written_as_the_official_client_writes_them(
    options: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert wire_fields(options, "llm") == fields


def test_an_embedding_model_is_told_only_what_it_has_a_key_for() -> None:
    options = {"context_length": 4096, "auto_fit": True, "parallel": 2}
    assert wire_fields(options, "embedding") == {"embedding.load.contextLength": 4096}


def test_what_is_not_set_or_not_known_is_left_out_and_the_rest_is_in_one_order() -> None:
    given = {
        "disabled_gpus": [3, 1, 3],
        "split": None,
        "gpu_ratio": [],
        "gpu_priority": (),
        "x": 5,
        "parallel": 0,
    }
    found = normal({**given, "context_length": 1, "kv_cache_type": "off"})
    assert list(found.items()) == sorted(found.items(), key=lambda item: list(KEYS).index(item[0]))
    assert found == {
        "disabled_gpus": (1, 3), "parallel": 0, "context_length": 1, "k_cache_type": "off", "v_cache_type": "off",
    }  # fmt: skip


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
