"""The correction of an estimate by past loads: its middle, its upper bound, and what is no evidence."""

import pytest

from actions.domain.correction import MIB, Corrected, Sample, corrected

GIB = 1024 * MIB


def upper(estimated: int, *samples: tuple[int, int]) -> int:
    return corrected(estimated, [Sample(*one) for one in samples]).upper


def test_without_a_measured_load_the_margin_is_a_quarter_and_768_mib() -> None:
    assert corrected(4 * GIB, []) == Corrected(4 * GIB, 5 * GIB + 768 * MIB, 0)


def test_below_three_samples_the_margin_of_none_stays_the_least() -> None:
    exact = (4 * GIB, 4 * GIB)
    assert upper(4 * GIB, exact, exact) == 5 * GIB + 768 * MIB
    assert upper(4 * GIB, exact, exact, exact) == round(4 * GIB * 1.03) + 64 * MIB
    assert upper(4 * GIB, (4 * GIB, 8 * GIB)) == round(8 * GIB * 1.03) + 64 * MIB


def test_what_is_expected_is_the_middle_of_what_was_seen() -> None:
    samples = [Sample(100 * MIB, taken * MIB) for taken in (100, 120, 390)]
    assert corrected(1000 * MIB, samples) == Corrected(
        1200 * MIB, round(3900 * MIB * 1.13) + 64 * MIB, 3
    )  # more than twice as large as any


@pytest.mark.parametrize(
    ("estimated", "beyond"),
    [(1000, 0.0), (2000, 0.0), (2500, 0.025), (3000, 0.05), (4000, 0.1), (9000, 0.1)],
)
def test_a_load_larger_than_any_measured_has_a_further_margin(estimated: int, beyond: float) -> None:
    samples = [Sample(size * MIB, size * MIB) for size in (2000, 1000, 500)]
    expected = round(estimated * MIB * (1 + 0.03 + beyond)) + 64 * MIB
    found = corrected(estimated * MIB, samples)
    assert (found.expected, found.samples) == (estimated * MIB, 3)
    assert found.upper == pytest.approx(expected, abs=2)


def test_of_a_lack_that_grows_and_one_that_does_not_the_worse_is_assumed() -> None:
    samples = ((1000 * MIB, 1500 * MIB),) * 3
    assert upper(500 * MIB, *samples) == round(1000 * MIB * 1.03) + 64 * MIB
    assert upper(1000 * MIB, *samples) == round(1500 * MIB * 1.03) + 64 * MIB
    assert upper(1500 * MIB, *samples) == pytest.approx(2250 * MIB * 1.08 + 64 * MIB, abs=2)


@pytest.mark.parametrize(
    ("sample", "counts"),
    [
        ((100, 25), True),
        ((100, 24), False),
        ((100, 400), True),
        ((100, 401), False),
        ((1, 1), True),
        ((0, 1), False),
        ((-1, -1), False),
    ],
)
def test_a_measuring_error_is_no_evidence(sample: tuple[int, int], *, counts: bool) -> None:
    assert corrected(GIB, [Sample(*sample)]).samples == counts


def test_only_the_latest_twelve_count_and_errors_do_not_take_their_place() -> None:
    latest = [Sample(GIB, 0), *[Sample(GIB, GIB)] * 12]
    assert corrected(GIB, [*latest, Sample(GIB, 3 * GIB)]) == corrected(GIB, latest)
    assert corrected(GIB, latest).samples == 12
    assert corrected(GIB, [*latest[:-1], Sample(GIB, 3 * GIB)]).upper > corrected(GIB, latest).upper
