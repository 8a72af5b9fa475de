"""Fit: the search stays within its budget, evictions are minimal, and what is called fitting does fit."""

import random
from collections.abc import Callable, Mapping
from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.domain.correction import Sample, corrected
from actions.domain.fit import (
    MAX_ESTIMATES,
    STEP,
    ContextSearch,
    Evictable,
    Eviction,
    evict,
    lacking,
)

GIB = 1024**3
LOADS = 2000


def search(
    most: int, need: float, free: float, per_token: float, *, budget: int = MAX_ESTIMATES
) -> ContextSearch:
    """Search with a need that is affine in the context."""
    looking = ContextSearch(least=2048, most=most, budget=budget)
    while (context := looking.next()) is not None:
        looking.tell(context, need + per_token * context - free)
    return looking


@given(
    most=st.integers(1, 1_000_000),
    need=st.floats(0, 50),
    free=st.floats(0, 80),
    per_token=st.floats(0, 1e-3),
    budget=st.integers(1, MAX_ESTIMATES),
)
def test_the_search_keeps_its_budget_and_only_calls_fitting_what_fits(
    most: int, need: float, free: float, per_token: float, budget: int
) -> None:
    found = search(most, need, free, per_token, budget=budget)
    assert found.asked <= budget
    if found.fitting is not None:
        assert need + per_token * found.fitting <= free
        assert found.fitting <= most


@given(need=st.floats(0, 10), share=st.floats(0.05, 0.95), most=st.integers(8192, 1_000_000))
def test_the_search_comes_within_a_few_percent_of_the_longest_context(
    need: float, share: float, most: int
) -> None:
    per_token = 1e-4
    longest = 2048 + share * (most - 2048)
    found = search(most, need, need + per_token * longest, per_token)
    assert found.fitting is not None
    assert found.fitting >= 0.95 * longest - 2 * STEP


def test_a_model_that_fits_whole_costs_one_estimate_and_one_that_does_not_fit_at_all_two() -> None:
    assert (search(131072, 1, 99, 1e-5).asked, search(131072, 1, 99, 1e-5).fitting) == (1, 131072)
    assert (search(131072, 50, 9, 1e-5).asked, search(131072, 50, 9, 1e-5).fitting) == (2, None)


def asked(excess: Callable[[int], float], *, most: int = 131072) -> list[int]:
    """List the contexts that a search asks for."""
    looking, contexts = ContextSearch(least=2048, most=most), []
    while (context := looking.next()) is not None:
        contexts.append(context)
        looking.tell(context, excess(context))
    return contexts


def test_the_search_interpolates_and_every_third_time_halves() -> None:
    assert asked(lambda context: (context - 50_000) * 1000.0) == [131072, 2048, 49920, 90368, 50176]
    steep = asked(lambda context: float(2 ** (context / 4096) - 2**8))
    assert steep == [131072, 2048, 2304, 66560, 2560, 2816, 34560, 26112]
    flat = asked(lambda context: -1.0 if context < 40_000 else 1.0)
    assert flat == [131072, 2048, 66560, 34304, 50432, 42240, 38144, 40192]


def test_what_fits_to_the_byte_fits_and_ends_the_search() -> None:
    whole = ContextSearch(least=2048, most=8192)
    whole.tell(8192, 0)
    assert (whole.fitting, whole.next()) == (8192, None)
    least = ContextSearch(least=2048, most=8192)
    least.tell(8192, 1000)
    least.tell(2048, 0)
    assert least.fitting == 2048
    assert least.next() is not None
    least.tell(4096, 0)
    assert least.fitting == 4096


def test_the_search_ends_when_one_step_is_left_open() -> None:
    looking = ContextSearch(least=2048, most=2048 + STEP)
    looking.tell(2048 + STEP, 1)
    looking.tell(2048, -1)
    assert looking.next() is None
    wider = ContextSearch(least=2048, most=2048 + STEP + 1)
    wider.tell(2048 + STEP + 1, 1)
    wider.tell(2048, -1)
    assert wider.next() == 2048 + STEP


@pytest.mark.parametrize(
    ("shares", "free", "freed", "expected"),
    [
        ({}, {0: 5}, {}, 0),
        ({0: 0, 1: 5}, {1: 7}, {}, -2),
        ({0: 5, 1: 5}, {0: 9, 1: 6}, {}, -1),
        ({0: 5, 1: 5}, {0: 3, 1: 1}, {}, 6),
        ({0: 5, 1: 5}, {0: 3, 1: 9}, {}, 2),
        ({0: 5}, {0: 3}, {0: 2, 1: 9}, 0),
        ({0: 5}, {}, {}, 5),
        ({0: 5}, {0: 4}, {}, 1),
    ],
)
def test_what_lacks_is_the_sum_of_all_gpus_and_room_that_of_the_fullest(
    shares: dict[int, int], free: dict[int, int], freed: dict[int, int], expected: int
) -> None:
    assert lacking(shares, free, freed) == expected


def test_what_frees_nothing_is_never_evicted_and_a_byte_counts() -> None:
    candidates = [Evictable("nothing", {0: 0}), Evictable("byte", {0: 1})]
    assert evict(candidates, lambda freed: freed.get(0, 0) >= 1) == Eviction(("byte",), is_minimal=True)
    assert evict(candidates, lambda _freed: True) == Eviction((), is_minimal=True)
    assert evict(candidates[:1], bool) is None


instances = st.lists(st.dictionaries(st.integers(0, 2), st.integers(0, 9), max_size=3), max_size=7).map(
    lambda held: [Evictable(f"i{number}", frees) for number, frees in enumerate(held)]
)


@given(
    candidates=instances,
    free=st.fixed_dictionaries({gpu: st.integers(0, 9) for gpu in range(3)}),
    wanted=st.fixed_dictionaries({gpu: st.integers(0, 25) for gpu in range(3)}),
)
def test_an_eviction_is_the_least_that_brute_force_finds(
    candidates: list[Evictable], free: dict[int, int], wanted: dict[int, int]
) -> None:
    def fits(freed: Mapping[int, int]) -> bool:
        return lacking(wanted, free, freed) <= 0

    def frees(chosen: tuple[Evictable, ...]) -> dict[int, int]:
        return {gpu: sum(one.frees.get(gpu, 0) for one in chosen) for gpu in range(3)}

    subsets = chain.from_iterable(combinations(candidates, size) for size in range(len(candidates) + 1))
    possible = [chosen for chosen in subsets if fits(frees(chosen))]
    found = evict(candidates, fits)
    if not possible:
        assert found is None
        return
    assert found is not None
    assert found.is_minimal
    chosen = tuple(one for one in candidates if one.instance_id in found.instances)
    assert fits(frees(chosen))
    least = min((len(one), sum(part.total for part in one)) for one in possible)
    assert (len(chosen), sum(one.total for one in chosen)) == least


def test_with_too_many_combinations_the_plan_is_irreducible_and_says_so() -> None:
    many = [Evictable(f"i{number:02}", {0: number + 1}) for number in range(40)]

    def fits(freed: Mapping[int, int]) -> bool:
        return freed.get(0, 0) >= 600

    found = evict(many, fits)
    assert isinstance(found, Eviction)
    assert not found.is_minimal
    sizes = {one.instance_id: one.total for one in many}
    total = sum(sizes[name] for name in found.instances)
    assert total >= 600
    assert all(total - sizes[name] < 600 for name in found.instances)


class Law:
    """What loads of one model really take, which nobody is told: weights, KV cache and overhead, noise and drift."""

    def __init__(self, rng: random.Random) -> None:
        self.weights = rng.uniform(0.5, 40) * GIB
        self.per_token = rng.uniform(0.02, 0.25) * GIB / 1000
        self.weights_ratio = rng.uniform(0.95, 1.12)
        self.context_ratio = rng.uniform(0.9, 1.25)
        self.overhead = rng.uniform(0.1, 0.6) * GIB
        self._rng = rng

    def estimate(self, context: int) -> int:
        return round(self.weights + self.per_token * context)

    def take(self, context: int) -> int:
        exact = (
            self.weights * self.weights_ratio + self.per_token * context * self.context_ratio + self.overhead
        )
        return round(exact * self._rng.gauss(1, 0.005))

    def drift(self) -> None:
        """An engine update changes what loads take by a few percent."""
        self.weights_ratio *= self._rng.uniform(0.99, 1.012)
        self.context_ratio *= self._rng.uniform(0.98, 1.025)


def simulate(seed: int) -> tuple[int, int, float]:
    """Do 2,000 loads; return how many were called fitting, how many of those failed, and the share of memory used."""
    rng = random.Random(seed)
    laws = [Law(rng) for _ in range(20)]
    history: dict[int, list[Sample]] = {number: [] for number in range(len(laws))}
    fitting, failed, used = 0, 0, 0.0
    for number in range(LOADS):
        if number % 100 == 99:
            for law in laws:
                law.drift()
        chosen = rng.randrange(len(laws))
        law = laws[chosen]
        free = rng.uniform(4, 80) * GIB
        looking = ContextSearch(least=2048, most=131072)
        while (context := looking.next()) is not None:
            looking.tell(context, corrected(law.estimate(context), history[chosen]).upper - free)
        if looking.fitting is None:
            continue
        fitting += 1
        taken = law.take(looking.fitting)
        if taken > free:
            failed += 1
            continue
        used += taken / free if looking.fitting < 131072 else 1.0
        history[chosen].insert(0, Sample(law.estimate(looking.fitting), taken))
    return fitting, failed, used / (fitting - failed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_of_two_thousand_loads_called_fitting_at_most_two_in_a_hundred_fail(seed: int) -> None:
    fitting, failed, used = simulate(seed)
    assert fitting > 1000
    assert failed / fitting <= 0.02
    assert used > 0.85, "a planner that never says yes would be safe, and of no use"


@given(
    estimated=st.integers(0, 200 * GIB),
    samples=st.lists(st.builds(Sample, st.integers(0, 99 * GIB), st.integers(0, 99 * GIB)), max_size=20),
)
def test_the_upper_bound_is_never_below_what_is_expected(estimated: int, samples: list[Sample]) -> None:
    found = corrected(estimated, samples)
    assert found.upper >= found.expected >= 0


def test_a_measuring_error_does_not_count() -> None:
    odd = [Sample(GIB, 100 * GIB), Sample(0, GIB), Sample(GIB, 1)]
    assert corrected(GIB, odd) == corrected(GIB, [])
