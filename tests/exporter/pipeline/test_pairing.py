"""Pairing: an output finds its input without an id, and what never finds one is given up."""

import random
from typing import Any

import pytest

from exporter.llmster.events import (
    LogEvent,
)
from exporter.pipeline.predictions import (
    PredictionBuilder,
)
from tests.exporter.pipeline.predicting import END, given_input, given_output, predict


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


def prompt_of(*events: LogEvent) -> str | None:
    """Return the prompt that the last of the events, an output, was paired with."""
    return predict(*events, keep_content=True)[-1].prompt


def test_of_two_inputs_of_one_time_the_one_of_the_right_size_is_taken() -> None:
    inputs = (given_input("long " * 80), given_input("short"))
    assert prompt_of(*inputs, given_output("x", prompt_tokens=1)) == "short"
    assert prompt_of(*inputs, given_output("x", prompt_tokens=100)) == "long " * 80


def test_of_two_inputs_of_one_size_the_one_as_old_as_the_prediction_took_is_taken() -> None:
    inputs = (given_input("first", END - 9_000), given_input("again", END - 3_000))
    timed = {"predicted_tokens": 10, "tokens_per_second": 10.0, "prompt_tokens": 1}
    assert prompt_of(*inputs, given_output("x", time_to_first_token_s=8.0, **timed)) == "first"
    assert prompt_of(*inputs, given_output("x", time_to_first_token_s=2.0, **timed)) == "again"
