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
