"""Predictions: portable times, honest estimates, pairing without ids, conversations without text, replay."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.events import (
    LogEvent,
    PredictionInput,
    PredictionOutput,
    PredictionStats,
    parse,
    parse_message,
)
from exporter.pipeline.predictions import (
    MAX_PHASES,
    FinishedReason,
    Prediction,
    PredictionBuilder,
    child_span_id,
)
from exporter.pipeline.segments import Kind

FIXTURES = Path(__file__).parents[2] / "fixtures" / "protocol"
END = 1_786_253_679_909
USER = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def given_input(prompt: str, at_ms: int = END, model: str = "m") -> PredictionInput:
    return PredictionInput(at_ms, model, f"publisher/{model}", prompt)


def given_output(output: str, at_ms: int = END, model: str = "m", **stats: Any) -> PredictionOutput:
    return PredictionOutput(at_ms, model, output, PredictionStats(**{"stop_reason": "eosFound", **stats}))


def predict(*events: LogEvent, **settings: Any) -> list[Prediction]:
    builder = PredictionBuilder("local", **settings)
    return [prediction for event in events if (prediction := builder.add(event)) is not None]


def one(output: str, prompt: str = USER.format("hi"), **stats: Any) -> Prediction:
    (prediction,) = predict(given_input(prompt), given_output(output, **stats))
    return prediction


# --- times


def test_published_mlx_output_ignores_the_total_time() -> None:
    prediction = one(
        "pong",
        tokens_per_second=131.135,
        time_to_first_token_s=0.598,
        total_time_s=0.016,
        prompt_tokens=19,
        predicted_tokens=2,
    )
    assert prediction.decode_s == pytest.approx(2 / 131.135)
    assert prediction.duration_s == pytest.approx(0.598 + 2 / 131.135)
    assert prediction.end_ns == END * 10**6
    assert prediction.start_ns == pytest.approx(END * 10**6 - 613_251_000, abs=1000)


def test_published_old_llama_cpp_output_has_the_same_duration_rule() -> None:
    prediction = one(
        "x", tokens_per_second=2.04, time_to_first_token_s=15.08, total_time_s=4.903, predicted_tokens=10
    )
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


@given(st.text(max_size=300), st.integers(0, 1000))
def test_shares_sum_to_one_and_reasoning_never_exceeds_the_whole(output: str, predicted: int) -> None:
    prediction = one(output, tokens_per_second=7.0, predicted_tokens=predicted)
    total = math.fsum(phase.share for phase in prediction.phases)
    assert total == pytest.approx(1.0) if prediction.phases else not output.strip()
    assert prediction.reasoning_tokens_estimated is not None
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
    assert predict(*events, context_length=lengths)[0].context_utilization == 0.1


def test_draft_counts_are_the_daemons() -> None:
    prediction = one("x", draft_model="d", draft_tokens=98, draft_tokens_accepted=81)
    assert (prediction.draft_model, prediction.draft_tokens, prediction.draft_tokens_accepted) == (
        "d",
        98,
        81,
    )


# --- pairing


def test_an_output_without_its_input_is_a_miss_and_still_a_prediction() -> None:
    builder = PredictionBuilder("local")
    builder.add(given_input("p", model="other"))
    prediction = builder.add(given_output("x"))
    assert prediction is not None
    assert (prediction.paired, prediction.model_path) == (False, None)
    assert (builder.outputs_missed, builder.inputs_missed, builder.waiting) == (1, 0, 1)


def simulate(*, logs_at_end: bool, parallel: int, seed: int, count: int = 200) -> tuple[int, int]:
    """Run `count` overlapping predictions; return how many were paired with their own prompt, and how many not."""
    rng = random.Random(seed)
    free_at = [0.0] * parallel
    events: list[tuple[float, int, LogEvent]] = []
    for number in range(count):
        worker = min(range(parallel), key=free_at.__getitem__)
        start = free_at[worker] + rng.expovariate(2.0)
        prompt_tokens, predicted = rng.randint(10, 4000), rng.randint(5, 800)
        ttft, rate = 0.0005 * prompt_tokens + rng.random() * 0.05, rng.uniform(20, 80)
        end = free_at[worker] = start + ttft + predicted / rate + rng.random() * 0.02
        prompt = (f"{number}|" + "word " * prompt_tokens)[
            : max(8, round(prompt_tokens * rng.uniform(3.6, 4.6)))
        ]
        at = end if logs_at_end else start
        events.append((at, 2 * number, given_input(prompt, END + round(at * 1000))))
        stats: dict[str, Any] = {
            "prompt_tokens": prompt_tokens,
            "predicted_tokens": predicted,
            "time_to_first_token_s": ttft,
            "tokens_per_second": rate,
        }
        events.append((end, 2 * number + 1, given_output(str(number), END + round(end * 1000), **stats)))
    predictions = predict(
        *(event for _, _, event in sorted(events, key=lambda item: item[:2])), keep_content=True
    )
    right = sum((p.prompt or "").split("|")[0] == p.output for p in predictions)
    return right, len(predictions) - right


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("parallel", [1, 2, 4, 8])
def test_inputs_logged_with_their_outputs_are_always_paired_right(parallel: int, seed: int) -> None:
    assert simulate(logs_at_end=True, parallel=parallel, seed=seed) == (200, 0)


def test_sequential_predictions_logged_at_their_start_are_paired_right() -> None:
    assert simulate(logs_at_end=False, parallel=1, seed=0) == (200, 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("parallel", [2, 4, 8])
def test_overlapping_predictions_logged_at_their_start_are_paired_right_almost_always(
    parallel: int, seed: int
) -> None:
    _, wrong = simulate(logs_at_end=False, parallel=parallel, seed=seed)
    assert wrong <= 4


def test_lost_outputs_do_not_shift_the_pairs_that_follow() -> None:
    builder = PredictionBuilder("local", keep_content=True)
    for number in range(100):
        at = END + 10_000 * number
        builder.add(given_input(f"{number}|" + "word " * 100, at))
        if number % 10:
            prediction = builder.add(
                given_output(
                    str(number),
                    at + 2000,
                    prompt_tokens=125,
                    predicted_tokens=50,
                    time_to_first_token_s=1.0,
                    tokens_per_second=50.0,
                )
            )
            assert prediction is not None
            assert (prediction.prompt or "").split("|")[0] == str(number)
    assert builder.waiting == 10


def test_waiting_inputs_are_bounded_in_number_and_age() -> None:
    builder = PredictionBuilder("local", keep_content=True)
    for number in range(1000):
        builder.add(given_input("p", END + number))
    assert (builder.waiting, builder.inputs_missed) == (256, 744)
    builder.add(given_input("p", END + 7 * 3_600_000))
    assert builder.waiting == 1
    builder.forget("m")
    assert builder.waiting == 0
    for number in range(1000):
        builder.add(given_input("p", END, model=f"m{number}"))
    assert builder.waiting == 256


def test_a_wrong_clock_costs_no_later_pairs() -> None:
    builder = PredictionBuilder("local")
    builder.add(given_input("p", 10**14 - 1))
    builder.add(given_output("x", 10**14 - 1))
    builder.add(given_input("p", END))
    prediction = builder.add(given_output("x", END))
    assert prediction is not None
    assert prediction.paired


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


# --- conversations


def chat(*turns: tuple[str, str], between: str = "") -> list[Prediction]:
    """Predict each (prompt, output) in turn; `between` is a stranger's prompt sent after each."""
    events: list[LogEvent] = []
    for number, (prompt, output) in enumerate(turns):
        at = END + 1000 * number
        events += [given_input(prompt, at), given_output(output, at)]
        if between:
            events += [given_input(between, at + 1), given_output("stranger", at + 1)]
    return [p for p in predict(*events, keep_content=True) if p.output != "stranger"]


def test_a_prompt_that_goes_on_after_prompt_and_output_is_the_next_turn() -> None:
    first = USER.format("What is 2 + 2?")
    second = f"{first}4.<|im_end|>\n{USER.format('And 3 + 3?')}"
    third = f"{second}6.<|im_end|>\n{USER.format('Thanks')}"
    one_, two, three = chat((first, "4."), (second, "6."), (third, "!"), between=USER.format("What is"))
    assert one_.conversation_id == two.conversation_id == three.conversation_id
    assert [p.turn for p in (one_, two, three)] == [1, 2, 3]
    assert one_.previous is None
    for before, after in ((one_, two), (two, three)):
        assert after.previous is not None
        assert after.previous.exact
        assert (after.previous.turn.trace_id, after.previous.turn.span_id) == (
            before.trace_id,
            before.span_id,
        )


# Each: what the template adds for the model, the output, how history shows it. Source: the templates named in `tags`.
STRIPPED = {
    "Qwen3": ("", "<think>\nhm\n</think>\n\nParis.", "Paris."),
    "Qwen3 thinking: opened by the prompt": ("<think>\n", "hm\n</think>\n\nParis.", "Paris."),
    "Qwen3 told not to think": ("<think>\n\n</think>\n\n", "Paris.", "Paris."),
    "Qwen3 tool loop: reasoning kept, trimmed": (
        "<think>\n",
        "hm \n\n</think>\nParis.",
        "<think>\nhm\n</think>\n\nParis.",
    ),
    "Gemma 4 told not to think": ("<|channel>thought\n<channel|>", "Paris.", "Paris."),
    "Gemma 4": ("", "<|channel>thought\nhm\n<channel|>Paris.", "Paris."),
    "Seed-OSS": ("", "<seed:think>hm</seed:think>\nParis.", "Paris."),
    "gpt-oss": (
        "<|start|>assistant",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Paris.<|return|>",
        "<|start|>assistant<|channel|>final<|message|>Paris.",
    ),
    "a call written anew": (
        "",
        '<think>\nhm\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {"a":1}}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>',
    ),
}


@pytest.mark.parametrize(("adds", "output", "history"), STRIPPED.values(), ids=STRIPPED)
def test_templates_that_strip_reasoning_from_history_still_link(adds: str, output: str, history: str) -> None:
    first = USER.format("Capital of France?")
    second = f"{first}{history}<|im_end|>\n{USER.format('And Italy?')}"
    before, after = chat((first + adds, output), (second + adds, "Rome."), between=USER.format("Capital of"))
    assert after.conversation_id == before.conversation_id
    assert after.previous is not None
    assert after.turn == 2


def test_strangers_who_began_alike_are_not_joined() -> None:
    first = USER.format("hi")
    mine = f"{first}Hello Ann!<|im_end|>\n{USER.format('x')}"
    theirs = f"{first}Hello Bob!<|im_end|>\n{USER.format('x')}"
    before, stranger, after = chat((first, "Hello Ann!"), (theirs, "?"), (mine, "!"))
    assert stranger.conversation_id != before.conversation_id
    assert after.conversation_id == before.conversation_id


def test_a_repeated_prompt_is_not_its_own_next_turn() -> None:
    first, again = chat((USER.format("hi"), "a"), (USER.format("hi"), "a"))
    assert again.previous is None
    assert again.conversation_id != first.conversation_id


def test_long_prompts_link_across_any_block_boundary() -> None:
    for length in (1, *range(90, 140), 1000, 4095, 4096):
        first = USER.format("é" * length)
        for answer in ("a", "b" * 500):
            second = f"{first}{answer}<|im_end|>\n{USER.format('next')}"
            _, after = chat((first, answer), (second, "c"))
            assert after.previous is not None, (length, len(answer))
            assert after.previous.exact


def test_conversations_are_bounded_and_the_oldest_is_forgotten_first() -> None:
    builder = PredictionBuilder("local", turns=10)
    firsts = [USER.format(f"question {number}") for number in range(30)]
    for number, prompt in enumerate(firsts):
        builder.add(given_input(prompt, END + number))
        builder.add(given_output("an answer", END + number))
    assert len(builder._conversations) == 10
    assert sum(map(len, builder._conversations._marks.values())) <= 20
    links = []
    for number in (0, 29):
        builder.add(given_input(f"{firsts[number]}an answer<|im_end|>\n{USER.format('more')}", END + 99))
        prediction = builder.add(given_output("x", END + 99))
        assert prediction is not None
        links.append(prediction.previous is not None)
    assert links == [False, True]


def test_no_text_is_kept_between_turns() -> None:
    builder = PredictionBuilder("local")
    builder.add(given_input(USER.format("CANARY-PROMPT " * 20)))
    builder.add(given_output("CANARY-OUTPUT " * 20))
    seen = (
        repr(builder._conversations._marks)
        + repr(builder._conversations._turns)
        + repr(builder._pairing.__dict__)
    )
    assert "CANARY" not in seen


# --- identity


def captured_events() -> list[LogEvent]:
    events: list[LogEvent] = []
    for name in ("10-streamLogs.jsonl", "27-lms-log-stream.jsonl"):
        for line in (FIXTURES / name).read_text().splitlines():
            record = json.loads(line)
            frame = json.loads(record["data"]) if record["dir"] == "s2c" and record["op"] == "text" else {}
            if frame.get("type") == "channelSend":
                events.append(parse_message(json.dumps(frame["message"])))
    return events


def test_captured_stream_yields_its_two_predictions() -> None:
    first, second = predict(*captured_events())
    assert (first.model, first.prompt_tokens, first.predicted_tokens) == ("qwen/qwen3-8b", 13, 12)
    assert [phase.kind for phase in first.phases] == [Kind.REASONING, Kind.ANSWER]
    assert first.paired
    assert second.paired
    assert first.conversation_id != second.conversation_id


def test_replay_gives_the_same_predictions_and_ids() -> None:
    assert predict(*captured_events()) == predict(*captured_events())


def test_another_daemon_gives_other_ids() -> None:
    here = PredictionBuilder("a").add(given_output("x"))
    there = PredictionBuilder("b").add(given_output("x"))
    assert here is not None
    assert there is not None
    assert here.trace_id != there.trace_id


def test_twins_within_one_millisecond_have_their_own_ids() -> None:
    events: list[LogEvent] = [given_input("p"), given_input("p"), given_output("x"), given_output("x")]
    first, second = predict(*events)
    assert first.trace_id != second.trace_id
    assert [p.trace_id for p in predict(*events)] == [first.trace_id, second.trace_id]


any_events = st.lists(
    st.builds(given_input, st.text(max_size=40), st.integers(END, END + 3))
    | st.builds(given_output, st.text(max_size=40), st.integers(END, END + 3)),
    max_size=20,
)


@given(any_events)
def test_ids_are_deterministic_valid_and_distinct(events: list[LogEvent]) -> None:
    predictions = predict(*events)
    assert predictions == predict(*events)
    spans = [p.span_id for p in predictions]
    spans += [child_span_id(p, index) for p in predictions for index in range(3)]
    assert all(0 < span < 2**64 for span in spans)
    assert all(0 < p.trace_id < 2**128 for p in predictions)
    by_ms = {(p.end_ns, p.trace_id) for p in predictions}
    assert len(by_ms) == len({p.trace_id for p in predictions})


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
