"""What the builder is told from elsewhere, what it gives up, and what a bug in one of its steps costs."""

from collections.abc import Callable

import pytest

from exporter.pipeline import predictions
from exporter.pipeline.output.ending import ending
from exporter.pipeline.output.segments import Kind
from exporter.pipeline.predictions import FORGET_AFTER_S, Prediction, PredictionBuilder
from tests.exporter.pipeline.predicting import END, USER, given_input, given_output, predict


def completed(builder: PredictionBuilder, output: str = "<think>a</think>b", model: str = "m") -> Prediction:
    made = builder.add(
        given_output(output, model=model, prompt_tokens=30, predicted_tokens=9, tokens_per_second=9.0)
    )
    assert made is not None
    return made


def noted(builder: PredictionBuilder) -> dict[str, int]:
    return {stage: count for stage, count in builder.errors.counts.items() if count}


def fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError


def test_an_instance_that_is_gone_for_long_enough_gives_up_what_waits_for_it() -> None:
    builder = PredictionBuilder("local", keep_content=True)
    for model in ("m", "gone"):
        builder.add(given_input("prompt", model=model))
    builder.keep_only({"m"}, now_s=1000.0)
    builder.keep_only({"m"}, now_s=999.9 + FORGET_AFTER_S)
    assert (builder.waiting, builder.inputs_missed) == (2, 0)
    builder.keep_only({"m"}, now_s=1000.0 + FORGET_AFTER_S)
    assert (builder.waiting, builder.inputs_missed) == (1, 1)
    assert builder._kept_chars == len("prompt")
    assert completed(builder).prompt == "prompt"
    assert (builder.waiting, builder.outputs_missed, builder._kept_chars) == (0, 0, 0)
    assert not completed(builder).paired
    assert builder.outputs_missed == 1


def test_an_instance_that_came_back_was_not_gone() -> None:
    builder = PredictionBuilder("local")
    builder.add(given_input("prompt"))
    for now_s, loaded in ((0.0, set()), (30.0, {"m"}), (60.0, set()), (119.9, set())):
        builder.keep_only(loaded, now_s=now_s)
    assert builder.waiting == 1
    builder.keep_only(set(), now_s=120.0)
    assert builder.waiting == 0


def test_a_prompt_that_is_not_kept_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_MAX_KEPT_CHARS", 100)
    builder = PredictionBuilder("local", keep_content=True)
    for number, size in enumerate((95, 6, 5, 1)):
        builder.add(given_input("x" * size, END - number, f"m{number}"))
    assert builder._kept_chars == 100
    kept = [completed(builder, model=f"m{number}").prompt for number in range(4)]
    assert [None if prompt is None else len(prompt) for prompt in kept] == [95, None, 5, None]
    assert builder._kept_chars == 0


def test_a_model_that_is_known_to_reason_from_elsewhere_has_none_where_it_did_not() -> None:
    builder = PredictionBuilder("local")
    builder.reasons("m")
    assert completed(builder, "pong").reasoning_tokens_estimated == 0
    assert completed(builder, "pong", model="other").reasoning_tokens_estimated is None


def test_a_call_between_tags_of_ones_own_is_a_call() -> None:
    output = given_output('<t>{"name": "f"}</t>')
    assert [made.tool_calls for made in predict(output, tool_tags=(("<t>", "</t>"),))] == [("f",)]
    assert [made.tool_calls for made in predict(output)] == [()]


def test_where_engines_tell_what_came_from_the_cache_it_is_asked_for() -> None:
    asked: list[tuple[object, ...]] = []

    def told(*about: object) -> int:
        asked.append(about)
        return 25

    builder = PredictionBuilder("local")
    assert completed(builder).cached_tokens is None
    builder.cached_tokens = told
    assert completed(builder).cached_tokens == 25
    assert asked == [("m", 30, 9, END)]


def test_a_prediction_says_how_it_ends_only_if_that_is_wanted() -> None:
    output = given_output("<think>a</think>It is so.")
    assert [made.ending for made in predict(output)] == [0]
    assert [made.ending for made in predict(output, sum_endings=True)] == [ending("It is so.")]


@pytest.mark.parametrize(
    ("step", "stage"),
    [
        ("exporter.pipeline.predictions.Pairing.take", "pair"),
        ("exporter.pipeline.output.reader.OutputReader.read", "split"),
        ("exporter.pipeline.predictions.conversations.whole", "conversation"),
    ],
)
def test_a_bug_in_one_step_is_counted_and_costs_what_that_step_adds(
    monkeypatch: pytest.MonkeyPatch, step: str, stage: str
) -> None:
    def made() -> tuple[Prediction, dict[str, int]]:
        builder = PredictionBuilder("local")
        builder.add(given_input(USER.format("hi")))
        return completed(builder), noted(builder)

    whole, nothing = made()
    assert nothing == {}
    monkeypatch.setattr(step, fail)
    found, faults = made()
    assert faults == {stage: 1}
    assert (found.end_ns, found.predicted_tokens, found.decode_s) == (END * 10**6, 9, 1.0)
    assert (found.paired, whole.paired) == (stage != "pair", True)
    assert [phase.kind for phase in found.phases] == (
        [] if stage == "split" else [Kind.REASONING, Kind.ANSWER]
    )
    assert (found.trace_id == 0) == (stage == "conversation")
    assert (found.conversation_id is None) == (stage in {"pair", "conversation"})
    assert found.turn == 1


def test_a_bug_in_what_is_asked_of_engines_costs_the_cached_tokens() -> None:
    builder = PredictionBuilder("local")
    broken: Callable[..., int | None] = fail
    builder.cached_tokens = broken
    assert completed(builder).cached_tokens is None
    assert noted(builder) == {"slots": 1}


def test_every_stage_of_the_pipeline_is_counted_from_0() -> None:
    assert set(PredictionBuilder("local").errors.counts) == set(predictions.STAGES)
    assert set(PredictionBuilder("local").errors.counts.values()) == {0}
