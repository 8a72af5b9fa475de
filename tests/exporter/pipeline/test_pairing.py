"""Pairing: an output finds its input without an id, and what never finds one is given up."""

import random
from typing import Any

import pytest

from exporter.llmster.events import (
    LogEvent,
)
from exporter.pipeline.log_stream import EventFlow
from exporter.pipeline.pairing import Pairing
from exporter.pipeline.predictions import (
    PredictionBuilder,
)
from tests.exporter.pipeline.predicting import END, given_input, given_output, predict
from tests.exporter.readings import instance, snapshot


def test_an_output_without_its_input_is_a_miss_and_still_a_prediction() -> None:
    builder = PredictionBuilder("local")
    builder.add(given_input("p", model="other"))
    prediction = builder.add(given_output("x"))
    assert prediction is not None
    assert (prediction.paired, prediction.model_path) == (False, None)
    assert (builder.outputs_missed, builder.inputs_missed, builder.waiting) == (1, 0, 1)
    builder.add(given_output("y"))
    assert builder.outputs_missed == 2


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
    for number in range(1000):
        builder.add(given_input("p", END, model=f"m{number}"))
    assert builder.waiting == 256


def flow_with(inputs: int) -> tuple[EventFlow, PredictionBuilder]:
    """Make a flow in which so many inputs wait for model m, which is loaded."""
    builder = PredictionBuilder("local", keep_content=True)
    flow = EventFlow(builder, [])
    for _ in range(inputs):
        flow.take(given_input("p" * 1000))
    flow.forget_unloaded(snapshot(instance(identifier="m"), monotonic_s=0))
    return flow, builder


def test_prompts_of_an_instance_that_is_gone_are_given_up_after_a_minute() -> None:
    flow, builder = flow_with(3)
    flow.forget_unloaded(snapshot(instance(identifier="other"), monotonic_s=10))
    flow.forget_unloaded(snapshot(monotonic_s=69))
    assert builder.waiting == 3
    flow.forget_unloaded(snapshot(monotonic_s=70))
    assert (builder.waiting, builder.inputs_missed, builder._kept_chars) == (0, 3, 0)


def test_an_output_that_comes_after_its_instance_is_gone_still_finds_its_prompt() -> None:
    flow, builder = flow_with(1)
    flow.forget_unloaded(snapshot(monotonic_s=10))
    prediction = builder.add(given_output("cut sho", stop_reason="modelUnloaded"))
    assert prediction is not None
    assert prediction.prompt == "p" * 1000
    assert builder.outputs_missed == 0


def test_prompts_of_an_instance_that_is_there_again_are_kept() -> None:
    flow, builder = flow_with(1)
    for at_s, there in ((10, False), (60, True), (100, False), (130, False)):
        flow.forget_unloaded(snapshot(*[instance(identifier="m")] * there, monotonic_s=at_s))
    assert builder.waiting == 1


def test_while_an_instance_cannot_be_read_no_prompts_are_given_up() -> None:
    flow, builder = flow_with(1)
    for at_s in (10, 100, 1000):
        flow.forget_unloaded(snapshot(unreadable_instances=1, monotonic_s=at_s))
    assert builder.waiting == 1


def test_a_wrong_clock_costs_no_later_pairs() -> None:
    builder = PredictionBuilder("local")
    builder.add(given_input("p", 10**14 - 1))
    builder.add(given_output("x", 10**14 - 1))
    builder.add(given_input("p", END))
    prediction = builder.add(given_output("x", END))
    assert prediction is not None
    assert prediction.paired


def prompt_of(*events: LogEvent) -> str | None:
    """Return the prompt that the last of the events, an output, was paired with."""
    return predict(*events, keep_content=True)[-1].prompt


def test_of_two_inputs_of_one_time_the_one_of_the_right_size_is_taken() -> None:
    inputs = (given_input("long " * 80), given_input("short"))
    assert prompt_of(*inputs, given_output("x", prompt_tokens=1)) == "short"
    assert prompt_of(*inputs, given_output("x", prompt_tokens=100)) == "long " * 80


def test_of_two_inputs_of_one_size_the_one_as_old_as_the_prediction_took_is_taken() -> None:
    inputs = (given_input("first", END - 9_000), given_input("again", END - 3_000))
    timed: dict[str, Any] = {"predicted_tokens": 10, "tokens_per_second": 10.0, "prompt_tokens": 1}
    assert prompt_of(*inputs, given_output("x", time_to_first_token_s=8.0, **timed)) == "first"
    assert prompt_of(*inputs, given_output("x", time_to_first_token_s=2.0, **timed)) == "again"


HOUR_MS = 3_600_000


def put(pairing: Pairing[str], *inputs: tuple[int, int, str]) -> list[str]:
    """Let (milliseconds before END, characters, value) wait for model m; return who was given up."""
    return [gone for ago, size, value in inputs for gone in pairing.put("m", END - ago, size, value)]


def test_who_waits_too_long_or_behind_too_many_is_given_up_by_name() -> None:
    pairing: Pairing[str] = Pairing()
    assert put(pairing, (6 * HOUR_MS + 1, 1, "old"), (6 * HOUR_MS, 1, "just"), (0, 1, "new")) == ["old"]
    assert put(pairing, *((0, 1, f"{number}") for number in range(254))) == []
    assert put(pairing, (0, 1, "one too many")) == ["just"]
    assert (pairing.inputs_missed, len(pairing)) == (2, 256)
    assert pairing.forget("m")[:2] == ["new", "0"]
    assert (pairing.inputs_missed, len(pairing)) == (258, 0)
    assert pairing.forget("m") == []


def test_of_too_many_models_the_oldest_goes_with_all_that_waits_for_it() -> None:
    pairing: Pairing[int] = Pairing()
    for number in range(256):
        assert pairing.put(f"m{number}", END, 1, number) == []
    assert pairing.put("m0", END, 1, 1000) == []
    assert pairing.put("one more", END, 1, 256) == [0, 1000]
    assert pairing.inputs_missed == 2


def test_an_input_may_be_six_hours_old_and_a_second_late_but_no_more() -> None:
    for ago, found in ((6 * HOUR_MS, "x"), (6 * HOUR_MS + 1, None), (-1000, "x"), (-1001, None)):
        pairing: Pairing[str] = Pairing()
        put(pairing, (ago, 1, "x"))
        assert pairing.take("m", END, None, None) == found
        assert pairing.outputs_missed == (found is None)


def test_a_prompt_far_longer_than_its_tokens_is_another_one() -> None:
    for size, found in ((16 * 132, "x"), (16 * 132 + 1, None)):
        pairing: Pairing[str] = Pairing()
        put(pairing, (0, size, "x"))
        assert pairing.take("m", END, None, 100) == found


@pytest.mark.parametrize(
    ("size", "tokens", "learnt"),
    [(800, 100, 4.8), (400, 100, 4.0), (10, 100, 3.3), (2112, 100, 6.4), (0, 100, 4.0), (800, None, 4.0)],
)
def test_characters_per_token_are_learnt_step_by_step_and_in_bounds(
    size: int, tokens: int | None, learnt: float
) -> None:
    pairing: Pairing[str] = Pairing()
    put(pairing, (0, size, "x"))
    pairing.take("m", END, None, tokens)
    assert pairing._models["m"].characters_per_token == pytest.approx(learnt)


def test_nothing_is_learnt_about_size_where_two_could_be_meant() -> None:
    pairing: Pairing[str] = Pairing()
    put(pairing, (0, 800, "x"), (0, 801, "y"))
    assert pairing.take("m", END, None, 100) == "x"
    assert pairing._models["m"].characters_per_token == 4.0


def after(*lessons: tuple[int, float], ask: tuple[int, ...] = (10_000, 0)) -> int | None:
    """Teach with inputs so many ms before outputs that took so many seconds; say which of `ask` is then taken."""
    pairing: Pairing[int] = Pairing()
    for ago, took_s in lessons:
        pairing.put("m", END - ago, 0, 0)
        assert pairing.take("m", END, took_s, None) == 0
    for ago in ask:
        pairing.put("m", END - ago, 0, ago)
    return pairing.take("m", END, 10.0, None)


AT_END, AT_START = (0, 10.0), (10_000, 10.0)


def test_whether_inputs_come_at_the_start_or_with_the_output_is_learnt() -> None:
    assert after() == 10_000
    assert after(AT_END) == 0
    assert after(AT_START, ask=(0, 10_000)) == 10_000
    assert after(AT_END, AT_START) == 10_000


def test_what_was_learnt_about_the_time_is_soon_unlearnt() -> None:
    assert after(*[AT_END] * 100, *[AT_START] * 3) == 0
    assert after(*[AT_END] * 100, *[AT_START] * 5, ask=(0, 10_000)) == 10_000
    assert after(*[AT_START] * 100, *[AT_END] * 5) == 0
    assert after(*[AT_START] * 100, *[AT_END] * 3, ask=(0, 10_000)) == 10_000


def test_only_a_prediction_long_enough_teaches_where_its_input_was() -> None:
    assert after((0, 0.05)) == 10_000
    assert after((0, 0.051)) == 0
    assert after((5, 10.0)) == 0
    assert after((6, 10.0)) == 10_000


def test_an_input_later_than_the_start_fits_three_times_worse_than_one_before_it() -> None:
    assert after(AT_START, ask=(9_000, 12_900)) == 12_900
    assert after(AT_START, ask=(9_000, 13_100)) == 9_000
    assert after(AT_END, ask=(1_100, 1_000)) == 1_000


def test_without_a_duration_any_earlier_input_fits_and_the_first_is_taken() -> None:
    pairing: Pairing[int] = Pairing()
    for _ in range(2):
        pairing.put("m", END - 10_000, 0, 0)
        pairing.take("m", END, 10.0, None)
    for ago in (9_000, 10_000, 0):
        pairing.put("m", END - ago, 0, ago)
    assert pairing.take("m", END, None, None) == 9_000


def test_the_longer_a_prediction_took_the_less_its_time_weighs_against_its_size() -> None:
    for took_s, expected in ((1.0, 400), (100.0, 800)):
        pairing: Pairing[int] = Pairing()
        pairing.put("m", END - round(took_s * 1000), 400, 400)
        pairing.put("m", END - round(took_s * 1000) - 300, 800, 800)
        assert pairing.take("m", END, took_s, 200) == expected
