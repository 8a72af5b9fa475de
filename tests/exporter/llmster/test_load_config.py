"""Load configurations: partial ones are the normal case, and a missing key means what the schema says."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.lenient import UNDECODABLE
from exporter.llmster.load_config import DEFAULT_PARALLEL, LoadConfig, load_config_of, read_fields
from tests.exporter.llmster.test_state import results
from tests.exporter.strategies import JSON

AUTO_FIT = "llm.load.llama.autoFit"
CONTEXT = "llm.load.contextLength"
OFFLOAD = "llm.load.llama.acceleration.offloadRatio"
PARALLEL = "llm.load.numParallelSessions"
SPLIT = "load.gpuSplitConfig"
PLAIN_SPLIT = {"strategy": "evenly", "disabledGpus": [], "priority": [], "customRatio": []}


def config_in(value: object) -> LoadConfig:
    return load_config_of(read_fields(msgspec.Raw(json.dumps(value).encode())))


def test_every_recorded_load_config_is_read() -> None:
    for _, result in results("getLoadConfig"):
        fields = {field["key"]: field.get("value") for field in result["fields"]}
        config = config_in(result)
        assert config.parallel == fields.get(PARALLEL, DEFAULT_PARALLEL)
        asked = None if fields.get(AUTO_FIT) else fields.get(OFFLOAD)
        assert config.gpu_offload_ratio == (1.0 if asked == "max" else asked)
        assert config.context_length == fields.get(CONTEXT)


@pytest.mark.parametrize(
    ("value", "ratio"),
    [
        (0, 0.0),
        (0.25, 0.25),
        (1, 1.0),
        ("max", 1.0),
        ("off", 0.0),
        ("auto", None),
        (1.5, None),
        (-0.1, None),
        (True, None),
        (None, None),
        ({}, None),
    ],
)
def test_the_offload_ratio_is_a_share_or_unknown(value: object, ratio: float | None) -> None:
    assert load_config_of({OFFLOAD: value}).gpu_offload_ratio == ratio


@pytest.mark.parametrize(
    ("value", "parallel"), [(4, 4), (1, 1), (0, None), (-1, None), (True, None), ("4", None), (2.5, None)]
)
def test_parallel_sessions_are_a_positive_number_or_unknown(value: object, parallel: int | None) -> None:
    assert load_config_of({PARALLEL: value}).parallel == parallel


@pytest.mark.parametrize(
    ("format_", "parallel"),
    [("gguf", 4), ("GGUF", 4), ("safetensors", 4), ("torch_safetensors", 4), ("yuzu", None), (None, None)],
)
def test_a_config_without_parallel_sessions_has_the_default_of_its_engines_schema(
    format_: str | None, parallel: int | None
) -> None:
    assert load_config_of({}, format_=format_).parallel == parallel


@pytest.mark.parametrize(
    ("fields", "auto_fit", "ratio"),
    [
        ({AUTO_FIT: True, OFFLOAD: 0.5}, True, None),
        ({AUTO_FIT: False, OFFLOAD: 0.5}, False, 0.5),
        ({OFFLOAD: 0.5}, False, 0.5),
        ({CONTEXT: 8192}, False, None),
        ({}, True, None),
        ({PARALLEL: 2}, True, None),
        ({SPLIT: {**PLAIN_SPLIT, "disabledGpus": [1]}}, True, None),
        ({SPLIT: PLAIN_SPLIT}, False, None),
        ({SPLIT: {**PLAIN_SPLIT, "strategy": "priorityOrder"}}, False, None),
        ({SPLIT: "odd"}, True, None),
        ({AUTO_FIT: "yes", OFFLOAD: 1}, False, 1.0),
    ],
)
def test_auto_fit_is_told_as_the_official_sdk_tells_it_and_then_no_ratio_is_set(
    fields: dict[str, Any],
    auto_fit: bool,  # noqa: FBT001 - a case's expectation
    ratio: float | None,
) -> None:
    config = load_config_of(fields)

    assert (config.auto_fit, config.gpu_offload_ratio) == (auto_fit, ratio)


def test_an_engine_without_auto_fit_is_not_said_to_have_it_off() -> None:
    assert load_config_of({}, format_="torch_safetensors").auto_fit is None


@pytest.mark.parametrize(
    ("fields", "context", "asked"),
    [
        ({OFFLOAD: 0.5, "new.key": 1}, 4096, {OFFLOAD: 0.5, "new.key": 1, CONTEXT: 4096}),
        ({OFFLOAD: 0.5, CONTEXT: 8192}, 4096, {OFFLOAD: 0.5, CONTEXT: 4096}),
        ({OFFLOAD: 0.5}, None, {OFFLOAD: 0.5}),
        ({}, 4096, {CONTEXT: 4096, AUTO_FIT: True}),
        ({AUTO_FIT: True}, 4096, {CONTEXT: 4096, AUTO_FIT: True}),
    ],
)
def test_an_estimate_is_asked_for_with_what_was_set_and_the_context_there_is(
    fields: dict[str, Any], context: int | None, asked: dict[str, Any]
) -> None:
    assert load_config_of(fields).as_loaded(context) == asked


def test_a_field_without_a_value_is_not_set() -> None:
    assert config_in({"fields": [{"key": PARALLEL}, {"key": "new"}]}).fields == {}


@given(
    JSON | st.fixed_dictionaries({"fields": st.lists(st.fixed_dictionaries({"key": JSON, "value": JSON}))})
)
def test_an_arbitrary_load_config_is_read_or_refused(value: object) -> None:
    try:
        config = config_in(value)
    except UNDECODABLE:
        return
    assert config.parallel is None or config.parallel > 0
    assert config.gpu_offload_ratio is None or 0 <= config.gpu_offload_ratio <= 1


def test_an_answer_of_null_or_none_is_no_configuration() -> None:
    for raw in (None, msgspec.Raw(b"null")):
        with pytest.raises(msgspec.ValidationError, match="got `null`"):
            read_fields(raw)


@pytest.mark.parametrize(
    ("value", "length"), [(1, 1), (0, None), (-5, None), (True, None), ("8", None), (2, 2)]
)
def test_a_context_is_a_number_of_tokens_or_unknown(value: object, length: int | None) -> None:
    assert load_config_of({CONTEXT: value}).context_length == length


def test_only_a_context_is_by_hand_outside_of_gguf() -> None:
    assert load_config_of({OFFLOAD: 0.5}, format_="safetensors").auto_fit is True
    assert load_config_of({OFFLOAD: 0.5}, format_="GGUF").auto_fit is False
    assert load_config_of({CONTEXT: 1}, format_="safetensors").auto_fit is False
    assert load_config_of({}, format_=None).format == ""


def test_a_split_that_only_leaves_out_gpus_goes_together_with_auto_fit() -> None:
    assert load_config_of({SPLIT: {"disabledGpus": [1]}}).auto_fit is True
    assert load_config_of({SPLIT: {"strategy": "evenly", "disabledGpus": [1]}}).auto_fit is True
    assert load_config_of({SPLIT: {"strategy": "custom", "disabledGpus": [1]}}).auto_fit is False
    assert load_config_of({SPLIT: {**PLAIN_SPLIT, "disabledGpus": [1], "priority": [0]}}).auto_fit is False
