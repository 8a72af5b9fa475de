"""Exact phases from the live events of a chat we send ourselves."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource

from exporter.llmster import rest_commands
from exporter.pipeline.exact import Timeline
from exporter.pipeline.predictions import FinishedReason, Prediction
from exporter.pipeline.segments import Kind
from exporter.telemetry.spans import build
from llmster_sim.server import SimConfig, Simulator

MS = 1_000_000
STATS = {
    "input_tokens": 35,
    "total_output_tokens": 8,
    "reasoning_output_tokens": 3,
    "tokens_per_second": 57.7,
    "time_to_first_token_seconds": 0.107,
}


def told(*events: tuple[str, int], result: object = None) -> Prediction:
    timeline = Timeline(daemon="box", model="m")
    for type_, at_ms in events:
        made = timeline.take(type_, at_ms * MS, result=result, tool="search" if "tool" in type_ else "")
        if made is not None:
            return made
    raise AssertionError("the chat did not end")


def test_phases_lie_where_their_events_came() -> None:
    made = told(
        ("chat.start", 0), ("prompt_processing.start", 0), ("prompt_processing.end", 90),
        ("prompt_processing.end", 95), ("reasoning.start", 100), ("reasoning.delta", 150), ("reasoning.end", 400),
        ("message.start", 400), ("message.delta", 500), ("message.end", 900), ("chat.end", 900),
        result={"stats": STATS},
    )  # fmt: skip
    assert made.timing == "exact"
    assert made.time_to_first_token_s == pytest.approx(0.1)
    assert made.decode_s == pytest.approx(0.8)
    assert [phase.kind for phase in made.phases] == [Kind.REASONING, Kind.ANSWER]
    assert [phase.offset_s for phase in made.phases] == pytest.approx([0.0, 0.3])
    assert [phase.duration_s for phase in made.phases] == pytest.approx([0.3, 0.5])
    assert (made.prompt_tokens, made.predicted_tokens, made.reasoning_tokens_estimated) == (35, 8, 3)


def test_loading_a_model_is_not_part_of_the_prediction() -> None:
    made = told(
        ("chat.start", 0), ("model_load.start", 0), ("model_load.end", 7000), ("prompt_processing.start", 7010),
        ("message.start", 7100), ("message.end", 7200), ("chat.end", 7200),
    )  # fmt: skip
    assert made.duration_s == pytest.approx(0.19)
    assert made.time_to_first_token_s == pytest.approx(0.09)


def test_an_error_event_marks_the_prediction_as_failed_and_tool_calls_keep_their_name() -> None:
    made = told(
        ("chat.start", 0), ("tool_call.start", 10), ("tool_call.arguments", 12), ("tool_call.success", 30),
        ("error", 40), ("chat.end", 50),
    )  # fmt: skip
    assert made.finished_reason is FinishedReason.ERROR
    assert made.tool_calls == ("search",)
    assert [phase.kind for phase in made.phases] == [Kind.TOOL_CALL]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["chat.start", "model_load.end", "prompt_processing.start", "reasoning.start", "reasoning.delta",
                 "reasoning.end", "message.start", "message.end", "tool_call.start", "tool_call.failure", "error",
                 "surprise.delta"]
            ),
            st.integers(0, 1000),
        )
    ),
    st.sampled_from([None, {}, {"stats": {"input_tokens": "x"}}, {"stats": {"input_tokens": -1}}, {"stats": STATS}]),
)  # fmt: skip
def test_any_order_of_events_gives_phases_inside_the_prediction(
    events: list[tuple[str, int]], result: object
) -> None:
    at, ordered = 0, []
    for type_, step in events:
        at += step
        ordered.append((type_, at))
    made = told(*ordered, ("chat.end", at + 1), result=result)
    assert made.start_ns is not None
    assert made.start_ns <= made.end_ns
    for span in build(made, lambda _: Resource({})):
        assert span.start_time is not None
        assert span.end_time is not None
        assert made.start_ns <= span.start_time <= span.end_time <= made.end_ns


async def test_a_real_chat_with_the_simulator_is_told_exactly(tmp_path: Path) -> None:
    async with Simulator(SimConfig(scenario="idle", speed=20, home=tmp_path)) as sim:
        timeline = Timeline(daemon="box", model="qwen/qwen3-8b")
        made = None
        async for event in rest_commands.chat_events(
            sim.url,
            token=None,
            model="qwen/qwen3-8b",
            prompt="hi",
            max_output_tokens=60,
            silence_s=10,
            total_s=30,
        ):
            made = timeline.take(event.type, time.time_ns(), result=event.result)
    assert made is not None
    assert made.phases[0].kind is Kind.REASONING
    assert made.predicted_tokens is not None
    assert made.reasoning_tokens_estimated is not None
    assert 0 < made.reasoning_tokens_estimated <= made.predicted_tokens <= 60
