"""Buckets of acts by a hand-driven clock: so many at once, then as they come in, each owner its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.domain import rate_limit
from actions.domain.rate_limit import Bucket, Buckets, Shares, gives_way


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 20))
def test_no_minute_has_more_acts_than_twice_the_rate(gaps: list[float], per_minute: int) -> None:
    clock = Clock()
    bucket = Bucket(per_minute, 60 / per_minute, clock)
    taken: list[float] = []
    for gap in gaps:
        clock.now += gap
        if bucket.take() == 0:
            taken.append(clock.now)
    for start in taken:  # a full bucket and its refill
        assert len([at for at in taken if start <= at < start + 60]) <= 2 * per_minute


def test_a_minutes_worth_may_be_spent_at_once_and_then_as_it_comes_in() -> None:
    clock = Clock()
    bucket = Bucket(60, 1.0, clock)
    assert [bucket.take() for _ in range(61)] == [0.0] * 60 + [1.0]
    clock.now = 1.0
    assert (bucket.take(), bucket.take()) == (0, 1)
    clock.now = 1_000_000.0
    assert [bucket.take() for _ in range(61)].count(0.0) == 60


def test_less_than_one_a_minute_is_one_every_so_many_minutes() -> None:
    clock = Clock()
    bucket = Bucket(0.5, 120.0, clock)
    assert bucket.take() == 0
    assert bucket.take() == pytest.approx(120)
    clock.now += 1000
    assert [bucket.take() == 0 for _ in range(2)] == [True, False]


def test_asking_takes_nothing() -> None:
    clock = Clock()
    bucket = Bucket(1, 10.0, clock)
    assert [bucket.wait_s() for _ in range(3)] == [0.0] * 3
    assert bucket.take() == 0
    clock.now = 4.0
    assert [bucket.wait_s() for _ in range(3)] == pytest.approx([6.0] * 3)


def test_every_owner_has_a_bucket() -> None:
    buckets = Buckets(1, 10.0, Clock())
    assert buckets.of("10.0.0.5", "unknown").take() == 0
    assert buckets.of("10.0.0.5", "unknown").wait_s() == 10
    assert buckets.of("10.0.0.5", "abcdefgh").wait_s() == 0
    assert buckets.of("10.0.0.6", "unknown").wait_s() == 0


def test_the_owner_not_seen_for_longest_is_forgotten_first() -> None:
    buckets = Buckets(1, 10.0, Clock())
    for number in range(rate_limit._MAX_BUCKETS):
        buckets.of(number).take()
    buckets.of(0)
    buckets.of("new")
    assert len(buckets._buckets) == rate_limit._MAX_BUCKETS
    assert (buckets.of(0).wait_s(), buckets.of(1).wait_s()) == (10, 0)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=200))
def test_places_that_are_all_taken_go_from_who_has_most_to_who_has_least(comers: list[int]) -> None:
    held: list[tuple[int, int]] = []
    for number, owner in enumerate(comers):
        if len(held) == 5:
            leaving = gives_way(held, owner)
            if leaving is None:
                continue
            held = [(one, place) for one, place in held if place != leaving]
        held.append((owner, number))
    most = max(comers.count(owner) for owner in set(comers))
    shares = [sum(one == owner for one, _ in held) for owner in set(comers)]
    assert sum(shares) == min(5, len(comers))
    waits = [min(comers.count(owner), most) - share for owner, share in zip(set(comers), shares, strict=True)]
    starved = [share for share, left in zip(shares, waits, strict=True) if left > 0]
    assert not starved or max(shares) - min(starved) <= 1 or len(set(comers)) > 5


def test_the_first_place_of_the_owner_with_the_most_is_given() -> None:
    held = [("a", 1), ("b", 2), ("b", 3), ("b", 4)]
    assert gives_way(held, "new") == 2
    assert gives_way(held, "a") == 2
    assert gives_way(held, "b") is None
    assert gives_way(held[:3], "a") is None


def test_one_act_that_has_come_in_is_enough() -> None:
    clock = Clock()
    bucket = Bucket(3, 1.0, clock)
    assert [bucket.take() for _ in range(3)] == [0.0] * 3
    clock.now = 1.0
    assert bucket.wait_s() == 0


def test_each_owner_holds_at_most_its_share_until_it_gives_back() -> None:
    shares = Shares(2)
    assert [shares.take("a") for _ in range(3)] == [True, True, False]
    assert shares.take("b")
    assert len(shares) == 3
    shares.give_back("a")
    assert len(shares) == 2
    assert [shares.take("a") for _ in range(2)] == [True, False]
    for _ in range(2):
        shares.give_back("a")
    assert len(shares) == 1
    assert shares._held.keys() == {"b"}, "an owner that holds nothing is not remembered"
