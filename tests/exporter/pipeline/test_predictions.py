"""Predictions: portable times, honest estimates of phases, and content only when kept."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.events import (
    PredictionOutput,
    parse,
)
from exporter.pipeline.output.segments import Kind
from exporter.pipeline.phases import MAX_PHASES
from exporter.pipeline.predictions import (
    FinishedReason,
    PredictionBuilder,
)
from tests.exporter.pipeline.predicting import END, USER, given_input, given_output, one, predict

# --- times


def test_published_mlx_output_lasts_until_its_last_token_by_its_rate() -> None:
    prediction = one(
        "pong",
        tokens_per_second=131.135,
        time_to_first_token_s=0.598,
        prompt_tokens=19,
        predicted_tokens=2,
    )
    assert prediction.decode_s == pytest.approx(2 / 131.135)
    assert prediction.duration_s == pytest.approx(0.598 + 2 / 131.135)
    assert prediction.end_ns == END * 10**6
    assert prediction.start_ns == pytest.approx(END * 10**6 - 613_251_000, abs=1000)


def test_published_old_llama_cpp_output_has_the_same_duration_rule() -> None:
    prediction = one("x", tokens_per_second=2.04, time_to_first_token_s=15.08, predicted_tokens=10)
    assert prediction.duration_s == pytest.approx(15.08 + 10 / 2.04)


@pytest.mark.parametrize("missing", ["tokens_per_second", "time_to_first_token_s", "predicted_tokens"])
def test_a_duration_with_a_part_missing_is_unknown_and_the_input_gives_the_start(missing: str) -> None:
    stats: dict[str, Any] = {"tokens_per_second": 50.0, "time_to_first_token_s": 0.1, "predicted_tokens": 5}
    del stats[missing]
    (prediction,) = predict(given_input("p", END - 700), given_output("x", **stats))
    assert prediction.duration_s is None
    assert prediction.start_ns == (END - 700) * 10**6


def test_an_output_without_stats_invents_nothing() -> None:
    (prediction,) = predict(PredictionOutput(END, "m", "no stats", None))
    assert prediction.finished_reason is FinishedReason.UNKNOWN
    assert prediction.paired is False
    assert (prediction.turn, prediction.previous) == (1, None)
    assert {
        name: getattr(prediction, name)
        for name in (
            "start_ns",
            "time_to_first_token_s",
            "decode_s",
            "duration_s",
            "prompt_tokens",
            "predicted_tokens",
            "context_utilization",
            "reasoning_s",
            "reasoning_tokens_estimated",
            "draft_tokens",
            "conversation_id",
        )
        if getattr(prediction, name) is not None
    } == {}


def test_nothing_predicted_takes_no_decode_time() -> None:
    assert one("", predicted_tokens=0, time_to_first_token_s=0.2).duration_s == 0.2


def test_what_the_daemon_said_is_passed_on_as_it_is() -> None:
    prediction = one(
        "x", tokens_per_second=50.0, time_to_first_token_s=0.5, prompt_tokens=7, predicted_tokens=5
    )
    assert (prediction.daemon, prediction.model, prediction.model_path) == ("local", "m", "publisher/m")
    assert (prediction.time_to_first_token_s, prediction.tokens_per_second) == (0.5, 50.0)
    assert (prediction.prompt_tokens, prediction.predicted_tokens) == (7, 5)


def test_a_prediction_longer_than_the_epoch_began_with_it() -> None:
    (prediction,) = predict(
        given_output("x", 5, time_to_first_token_s=9.0, predicted_tokens=1, tokens_per_second=1.0)
    )
    assert prediction.start_ns == 0


def test_without_a_duration_a_prediction_never_starts_after_its_end() -> None:
    (prediction,) = predict(given_input("p", END + 300), given_output("x"))
    assert (prediction.paired, prediction.start_ns) == (True, END * 10**6)


# --- phases


def test_decode_time_is_shared_out_by_characters_of_content() -> None:
    prediction = one(
        "<think>123456</think>\n\n12", tokens_per_second=10.0, time_to_first_token_s=1.0, predicted_tokens=40
    )
    reasoning, answer = prediction.phases
    assert (reasoning.kind, reasoning.share, reasoning.offset_s, reasoning.duration_s) == (
        Kind.REASONING,
        0.75,
        0.0,
        3.0,
    )
    assert (answer.kind, answer.share, answer.offset_s, answer.duration_s) == (Kind.ANSWER, 0.25, 3.0, 1.0)
    assert prediction.reasoning_s == 3.0
    assert prediction.reasoning_tokens_estimated == 30


def test_a_model_told_not_to_think_has_no_reasoning() -> None:
    prediction = one("<think>\n\n</think>\n\nParis.", predicted_tokens=9, tokens_per_second=9.0)
    assert [phase.kind for phase in prediction.phases] == [Kind.ANSWER]
    assert (prediction.reasoning_s, prediction.reasoning_tokens_estimated) == (0.0, 0)


def test_reasoning_that_the_prompt_opened_is_reasoning() -> None:
    prediction = one("still thinking", prompt=USER.format("hi") + "<think>\n", predicted_tokens=3)
    assert prediction.reasoning_tokens_estimated == 3


def test_reasoning_between_tags_of_ones_own_is_reasoning() -> None:
    (prediction,) = predict(
        given_input("p"), given_output("<r>a</r>b", predicted_tokens=2), reasoning_tags=(("<r>", "</r>"),)
    )
    assert [phase.kind for phase in prediction.phases] == [Kind.REASONING, Kind.ANSWER]
    assert prediction.reasoning_tokens_estimated == 1


def test_tool_calls_are_named_in_order() -> None:
    prediction = one(
        '<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>\n'
        '<tool_call>\n{"name": "b", "arguments": {}}\n</tool_call>',
        stop_reason="toolCalls",
    )
    assert prediction.tool_calls == ("a", "b")
    assert [phase.tools for phase in prediction.phases] == [("a",), ("b",)]
    assert prediction.finished_reason is FinishedReason.TOOL_CALLS


def test_a_prediction_of_many_blocks_has_few_phases_that_still_cover_it() -> None:
    prediction = one("<think>a</think>" * 500 + "b", tokens_per_second=1.0, predicted_tokens=501)
    assert len(prediction.phases) == MAX_PHASES
    assert math.fsum(phase.share for phase in prediction.phases) == pytest.approx(1.0)


@pytest.mark.parametrize("blocks", [MAX_PHASES - 1, MAX_PHASES, MAX_PHASES + 1, MAX_PHASES + 9])
def test_what_is_too_much_joins_the_last_phase(blocks: int) -> None:
    output = "<think>abc</think>" * blocks
    phases = one(output, tokens_per_second=1.0, predicted_tokens=blocks).phases
    texts = [output[phase.start_char : phase.end_char] for phase in phases]
    joined = output[(MAX_PHASES - 1) * 18 + 7 : -8] if blocks >= MAX_PHASES else "abc"
    assert texts == ["abc"] * (min(blocks, MAX_PHASES) - 1) + [joined]
    assert [phase.share for phase in phases[:-1]] == [1 / blocks] * (len(phases) - 1)
    assert phases[-1].share == pytest.approx((blocks - len(phases) + 1) / blocks)
    assert phases[-1].offset_s == pytest.approx(len(phases) - 1)


def test_reasoning_in_several_blocks_is_added_up() -> None:
    prediction = one("<think>ab</think><think>cd</think>1234", tokens_per_second=1.0, predicted_tokens=8)
    assert (prediction.reasoning_s, prediction.reasoning_tokens_estimated) == (4.0, 4)


def test_an_output_of_nothing_is_no_reasoning() -> None:
    prediction = one("<think> </think>", tokens_per_second=1.0, predicted_tokens=8)
    assert (prediction.phases, prediction.reasoning_s, prediction.reasoning_tokens_estimated) == ((), 0.0, 0)


@given(st.text(max_size=300), st.integers(0, 1000))
def test_shares_sum_to_one_and_reasoning_never_exceeds_the_whole(output: str, predicted: int) -> None:
    prediction = one(output, tokens_per_second=7.0, predicted_tokens=predicted)
    total = math.fsum(phase.share for phase in prediction.phases)
    assert total == (pytest.approx(1.0) if prediction.phases else 0.0)
    if prediction.reasoning_tokens_estimated is None:
        assert all(phase.kind is not Kind.REASONING for phase in prediction.phases)
        return
    assert 0 <= prediction.reasoning_tokens_estimated <= predicted


# --- outcome


@pytest.mark.parametrize(
    ("stop_reason", "finished"),
    [
        ("eosFound", "stop"),
        ("stopStringFound", "stop"),
        ("maxPredictedTokensReached", "length"),
        ("contextLengthReached", "length"),
        ("toolCalls", "tool_calls"),
        ("userStopped", "abort"),
        ("modelUnloaded", "abort"),
        ("failed", "error"),
        ("cosmicRay", "unknown"),
        (None, "unknown"),
    ],
)
def test_every_stop_reason_has_a_finished_reason(stop_reason: str | None, finished: str) -> None:
    prediction = one("x", stop_reason=stop_reason)
    assert prediction.finished_reason == finished
    assert prediction.stop_reason == stop_reason


def test_context_utilization_needs_the_context_length() -> None:
    events = (given_input("p"), given_output("x", prompt_tokens=300, predicted_tokens=100))
    assert predict(*events)[0].context_utilization is None
    lengths: Callable[[str], int | None] = {"m": 4000}.get
    (prediction,) = predict(*events, context_length=lengths)
    assert (prediction.context_length, prediction.context_utilization) == (4000, 0.1)
    unknown = (given_input("p"), given_output("x", predicted_tokens=100))
    assert predict(*unknown, context_length=lengths)[0].context_utilization is None
    shorter: Callable[[str], int | None] = {"m": 300}.get
    assert predict(*events, context_length=shorter)[0].context_utilization == 1.0


def test_draft_counts_are_the_daemons() -> None:
    prediction = one("x", draft_model="d", draft_tokens=98, draft_tokens_accepted=81)
    assert (prediction.draft_model, prediction.draft_tokens, prediction.draft_tokens_accepted) == (
        "d",
        98,
        81,
    )


# --- content


def test_kept_prompts_are_bounded_in_size() -> None:
    builder = PredictionBuilder("local", keep_content=True)
    for number in range(10):
        builder.add(given_input(str(number) * 5_000_000, END + number))
    assert builder._kept_chars <= 32_000_000
    for number in range(10):
        prediction = builder.add(given_output("x", END + 100 + number))
        assert prediction is not None
    assert builder._kept_chars == 0


def test_content_is_dropped_unless_kept() -> None:
    events = (given_input("CANARY-IN"), given_output("<think>CANARY-R</think>CANARY-OUT"))
    (dropped,) = predict(*events)
    assert "CANARY" not in repr(dropped)
    (kept,) = predict(*events, keep_content=True)
    assert (kept.prompt, kept.output) == ("CANARY-IN", "<think>CANARY-R</think>CANARY-OUT")


# --- any event


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_whatever_parses_can_be_added(raw: bytes | str) -> None:
    predict(parse(raw))


@given(st.text(), st.text())
def test_no_content_raises(prompt: str, output: str) -> None:
    assert len(predict(given_input(prompt), given_output(output), given_input(prompt + output + prompt))) == 1


def test_without_ids_a_prediction_says_all_but_who_it_is() -> None:
    events = (
        given_input(USER.format("hi")),
        given_output("<think>a</think>b", predicted_tokens=7, tokens_per_second=7),
    )
    (named,), (unnamed,) = predict(*events), predict(*events, identify=False)
    assert (unnamed.trace_id, unnamed.span_id, unnamed.conversation_id, unnamed.previous) == (
        0,
        0,
        None,
        None,
    )
    identity = {"trace_id", "span_id", "conversation_id"}
    for field in set(named.__struct_fields__) - identity:
        assert getattr(named, field) == getattr(unnamed, field), field


def test_reasoning_of_a_model_that_is_not_known_to_reason_is_not_known() -> None:
    assert one("pong", predicted_tokens=4).reasoning_tokens_estimated is None
    assert one("pong", tokens_per_second=1.0, predicted_tokens=4).reasoning_s is None
    assert one("<think>a</think>b", predicted_tokens=4).reasoning_tokens_estimated == 2


def test_a_model_that_is_known_to_reason_and_did_not_has_none() -> None:
    told = one("pong", prompt=USER.format("hi") + "<think>\n\n</think>\n\n", predicted_tokens=4)
    assert told.reasoning_tokens_estimated == 0, "its prompt tells"
    first, second, other = predict(
        given_output("<think>a</think>b", predicted_tokens=4),
        given_output("pong", predicted_tokens=4),
        given_output("pong", model="other", predicted_tokens=4),
    )
    assert [p.reasoning_tokens_estimated for p in (first, second, other)] == [2, 0, None]


@pytest.mark.parametrize(
    ("output", "calls"),
    [
        ("pong", ("unknown",)),
        ("", ("unknown",)),
        ("<think>never closed", ("unknown",)),
        ('<think>hm <tool_call>{"name": "f"}</tool_call>', ("f",)),
        ('<think>[/THINK] <tool_call>{"name": "f"}\n{"name": "g"}</tool_call>', ("f", "g")),
        ('<tool_call>{"name": "f"}</tool_call>', ("f",)),
    ],
)
def test_where_the_daemon_says_tool_calls_there_is_at_least_one(output: str, calls: tuple[str, ...]) -> None:
    assert one(output, stop_reason="toolCalls").tool_calls == calls
    if calls == ("unknown",):
        assert one(output).tool_calls == ()


def test_where_the_splitter_fails_the_daemons_word_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("exporter.pipeline.output.reader.split", fail)
    assert one("x", stop_reason="toolCalls").tool_calls == ("unknown",)
    assert one("x").tool_calls == ()


def test_markup_of_an_unknown_family_is_noted() -> None:
    assert one("<|new_tool|>{}").unrecognised_markup
    assert not one("pong").unrecognised_markup
