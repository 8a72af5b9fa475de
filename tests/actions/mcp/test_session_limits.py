"""Each token has its share of sessions, and loses its own oldest beyond it."""

from actions.mcp.session_limits import MAX_SESSIONS, MAX_SESSIONS_OF_TOKEN, SESSION_IDLE_S, SessionLimits

MOST = MAX_SESSIONS_OF_TOKEN - 1, MAX_SESSIONS - 1


def test_the_oldest_unused_session_of_the_same_token_is_the_surplus() -> None:
    now = 0.0
    limits = SessionLimits(lambda: now)
    for number in range(MAX_SESSIONS_OF_TOKEN):
        assert limits.surplus("a", *MOST) is None
        limits.used("a", f"s{number}")
    assert limits.surplus("b", *MOST) is None
    limits.used("a", "s0")
    assert limits.surplus("a", *MOST) == ("a", "s1")
    limits.ended("a", "s1")
    assert limits.surplus("a", *MOST) is None
    limits.used("a", "more")
    now = SESSION_IDLE_S
    assert limits.surplus("a", *MOST) is None  # all have ended by themselves
    limits.ended("a", "unknown")


def test_when_all_places_are_taken_the_token_with_the_most_sessions_gives_its_oldest() -> None:
    limits = SessionLimits(lambda: 0.0)
    for owner, session in (("a", "a1"), ("b", "b1"), ("b", "b2"), ("b", "b3")):
        limits.used(owner, session)
    assert limits.surplus("c", 9, 4) is None
    assert limits.surplus("c", 9, 3) == ("b", "b1")
    assert limits.surplus("a", 9, 3) == ("b", "b1")
    limits.ended("b", "b1")
    assert limits.surplus("a", 9, 2) is None  # all have the same, give or take one


def test_a_token_at_its_own_limit_gives_no_session_for_a_place_that_others_take() -> None:
    limits = SessionLimits(lambda: 0.0)
    for owner, session in (("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2"), ("b", "b3")):
        limits.used(owner, session)
    assert limits.surplus("a", 2, 4) is None


def test_sessions_that_idled_are_no_surplus_and_younger_ones_stay() -> None:
    now = 1000.0
    limits = SessionLimits(lambda: now)
    limits.used("a", "new")
    limits.used("b", "old")
    now = SESSION_IDLE_S + 999
    limits.used("a", "newer")
    limits.used("c", "c1")
    limits.used("c", "c2")
    limits.used("c", "c3")
    assert limits.surplus("a", 1, 9) == ("a", "new")
    now = SESSION_IDLE_S + 1000
    assert limits.surplus("a", 1, 4) is None, "of five that are told of, two have idled"
    assert limits.surplus("d", 9, 3) == ("c", "c1")


def test_a_token_without_sessions_is_forgotten() -> None:
    limits = SessionLimits(lambda: 0.0)
    limits.used("a", "a1")
    limits.used("a", "a2")
    limits.ended("a", "unknown")
    limits.ended("a", "a1")
    assert limits.surplus("a", 0, 9) == ("a", "a2")
    limits.ended("a", "a2")
    assert not limits._of
