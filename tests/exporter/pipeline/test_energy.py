"""Energy shared among requests: every joule is a model's or idle, whatever overlaps with whatever."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.pipeline import energy
from exporter.pipeline.energy import HOLD_S, EnergyLedger

A, B = ("local", "a"), ("local", "b")
BOTH = (0, 1)


def test_energy_of_a_time_without_requests_is_idle_once_nothing_can_claim_it() -> None:
    ledger = EnergyLedger()
    ledger.add(0, 100, 110, 500)

    assert ledger.idle_joules() == {0: 0}
    ledger.add(0, 110, 110 + HOLD_S, 0)
    assert ledger.idle_joules() == {0: 500}
    assert ledger.joules() == {}


def test_a_request_alone_has_all_the_energy_of_its_time() -> None:
    ledger = EnergyLedger()
    ledger.set_running(A, [0], 1, at_s=102)
    ledger.set_running(A, [0], 0, at_s=106)
    ledger.add(0, 100, 110, 1000)
    ledger.settle()

    assert ledger.joules() == {(0, A): pytest.approx(400)}
    assert ledger.idle_joules() == {0: pytest.approx(600)}
    assert ledger.claim(A, [0], 102, 106) == pytest.approx(400)


def test_requests_at_the_same_time_share_evenly_by_their_number() -> None:
    ledger = EnergyLedger()
    ledger.set_running(A, [0], 3, at_s=100)
    ledger.set_running(B, [0], 1, at_s=100)
    ledger.add(0, 100, 110, 400)

    assert ledger.joules() == {(0, A): pytest.approx(300), (0, B): pytest.approx(100)}
    assert ledger.claim(A, [0], 100, 110) == pytest.approx(100)
    assert ledger.claim(B, [0], 105, 110) == pytest.approx(50)


def test_a_model_on_two_gpus_uses_both() -> None:
    ledger = EnergyLedger()
    ledger.set_running(A, BOTH, 1, at_s=100)
    for gpu, joules in ((0, 100), (1, 60)):
        ledger.add(gpu, 100, 110, joules)

    assert ledger.claim(A, BOTH, 100, 110) == pytest.approx(160)


def test_a_model_that_moves_stops_using_the_gpu_it_left() -> None:
    ledger = EnergyLedger()
    ledger.set_running(A, [0], 1, at_s=100)
    ledger.set_running(A, [1], 1, at_s=105)
    for gpu in BOTH:
        ledger.add(gpu, 100, 110, 100)

    assert ledger.joules() == {(0, A): pytest.approx(50), (1, A): pytest.approx(50)}


def test_a_request_that_only_its_end_tells_of_takes_what_nobody_claimed() -> None:
    ledger = EnergyLedger()
    ledger.add(0, 100, 110, 1000)

    assert ledger.claim(A, [0], 102, 106) == pytest.approx(400)
    ledger.settle()
    assert ledger.joules() == {(0, A): pytest.approx(400)}
    assert ledger.idle_joules() == {0: pytest.approx(600)}


def test_the_same_energy_is_never_claimed_twice() -> None:
    ledger = EnergyLedger()
    ledger.add(0, 100, 110, 1000)

    assert ledger.claim(A, [0], 100, 110) == pytest.approx(1000)
    assert ledger.claim(B, [0], 100, 110) == pytest.approx(0)


@pytest.mark.parametrize(("start_s", "end_s"), [(99, 105), (105, 111)])
def test_a_request_outside_of_what_was_measured_is_not_guessed_at(start_s: float, end_s: float) -> None:
    ledger = EnergyLedger()
    ledger.add(0, 100, 110, 1000)

    assert ledger.claim(A, [0], start_s, end_s) is None
    assert ledger.claim(A, [0, 1], 101, 102) is None
    assert ledger.claim(A, [], 101, 102) is None


def test_a_gap_in_the_readings_makes_a_request_across_it_unknown() -> None:
    ledger = EnergyLedger()
    ledger.add(0, 100, 110, 10)
    ledger.add(0, 150, 160, 10)

    assert ledger.claim(A, [0], 105, 155) is None
    assert ledger.claim(A, [0], 151, 155) is not None


def test_a_change_that_comes_before_the_reading_of_its_time_counts_in_the_next_interval() -> None:
    ledger = EnergyLedger()
    ledger.set_running(A, [0], 1, at_s=112)
    ledger.add(0, 100, 110, 100)
    ledger.add(0, 110, 120, 100)

    assert ledger.joules() == {(0, A): pytest.approx(80)}


moments = st.floats(0, 1000, allow_nan=False)
requests = st.lists(
    st.tuples(st.sampled_from([A, B]), moments, st.floats(0.01, 400)), min_size=1, max_size=20
)


@given(
    requests, st.lists(st.floats(0, 1500), max_size=30), st.lists(st.floats(0, 700), min_size=31, max_size=31)
)
def test_requests_and_idle_add_up_to_what_the_gpu_used_under_any_overlap(
    requests: list[tuple[tuple[str, str], float, float]], readings: list[float], watts: list[float]
) -> None:
    spans = [(model, start, start + length) for model, start, length in requests]
    ledger = EnergyLedger()
    edges = sorted({0.0, 1600.0, *readings})
    events = sorted(
        [(start, model, 1) for model, start, _ in spans] + [(end, model, -1) for model, _, end in spans]
    )
    running = {A: 0, B: 0}
    total = 0.0
    for (from_s, until_s), power in zip(pairwise(edges), watts, strict=False):
        while events and events[0][0] <= until_s:
            at_s, model, change = events.pop(0)
            running[model] += change
            ledger.set_running(model, BOTH, running[model], at_s)
        for gpu in BOTH:
            ledger.add(gpu, from_s, until_s, power * (until_s - from_s))
            total += power * (until_s - from_s)
    ledger.settle()

    each = [ledger.claim(model, BOTH, start, end) for model, start, end in spans]
    idle = sum(ledger.idle_joules().values())
    models = sum(ledger.joules().values())

    assert models + idle == pytest.approx(total, rel=1e-6, abs=1e-6)
    assert None not in each
    assert sum(filter(None, each)) + idle == pytest.approx(total, rel=0.01, abs=1e-3)
    for model in (A, B):
        own = sum(joules or 0 for (name, _, _), joules in zip(spans, each, strict=True) if name == model)
        counted = sum(joules for (_, name), joules in ledger.joules().items() if name == model)
        assert own == pytest.approx(counted, rel=0.01, abs=1e-3)


def test_a_request_claims_every_unclaimed_piece_in_its_time() -> None:
    ledger = EnergyLedger()
    for at_s, joules in ((100, 100), (110, 40), (120, 10)):
        ledger.add(0, at_s, at_s + 10, joules)
    assert ledger.claim(A, [0], 105, 125) == pytest.approx(50 + 40 + 5)
    assert ledger.joules() == {(0, A): pytest.approx(95)}
    assert ledger.claim(A, [0], 100, 130) == pytest.approx(50 + 5)
    ledger.settle()
    assert ledger.idle_joules() == {0: pytest.approx(0)}


def test_less_than_a_joule_and_less_than_a_second_count() -> None:
    ledger = EnergyLedger()
    ledger.add(0, 100, 110, 0.5)
    assert ledger.claim(A, [0], 100, 100.5) == pytest.approx(0.025)


def test_a_request_that_begins_between_two_readings_has_its_part_of_the_curve() -> None:
    ledger = EnergyLedger()
    ledger.set_running(A, [0], 1, at_s=100)
    ledger.add(0, 100, 110, 1000)
    ledger.add(0, 110, 120, 100)
    assert ledger.claim(A, [0], 115, 118) == pytest.approx(30)
    assert ledger.claim(A, [0], 109, 111) == pytest.approx(110)


def test_energy_of_several_gpus_is_known_up_to_the_one_that_was_read_first() -> None:
    ledger = EnergyLedger()
    assert ledger.known_until_s([0]) is None
    ledger.add(0, 100, 110, 1)
    ledger.add(1, 100, 105, 1)
    assert ledger.known_until_s([0]) == 110
    assert ledger.known_until_s([0, 1]) == 105
    assert ledger.known_until_s([0, 2]) is None
    assert ledger.known_until_s([]) is None


def test_how_long_energy_stays_unclaimed_can_be_chosen() -> None:
    ledger = EnergyLedger(hold_s=5.0)
    ledger.add(0, 100, 110, 500)
    ledger.add(0, 110, 114, 0)
    assert ledger.idle_joules() == {0: 0}
    ledger.add(0, 114, 115, 0)
    assert ledger.idle_joules() == {0: 500}


def test_a_curve_keeps_its_latest_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "MOST_POINTS", 2)
    ledger = EnergyLedger()
    ledger.set_running(A, [0], 1, at_s=0)
    for at_s in range(4):
        ledger.add(0, at_s, at_s + 1, 10)
    assert ledger.claim(A, [0], 0, 1) is None, "its points are forgotten"
    assert ledger.claim(A, [0], 2, 4) == pytest.approx(20)


def test_of_two_models_that_change_each_change_counts() -> None:
    ledger = EnergyLedger()
    ledger.set_running(A, [0, 1], 1, at_s=100)
    ledger.set_running(A, [0, 1], 1, at_s=101)
    ledger.set_running(B, [1], 1, at_s=105)
    ledger.set_running(A, [1], 2, at_s=108)
    ledger.set_running(A, [1], 0, at_s=109)
    ledger.set_running(A, [1], 0, at_s=109.5)
    for gpu in (0, 1):
        ledger.add(gpu, 100, 110, 100)
    ledger.settle()
    assert ledger.joules() == {
        (0, A): pytest.approx(80),
        (1, A): pytest.approx(50 + 15 + 10 * 2 / 3),
        (1, B): pytest.approx(15 + 10 / 3 + 10),
    }
    assert ledger.idle_joules() == {0: pytest.approx(20), 1: 0}
