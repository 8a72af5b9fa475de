"""Each token has its share of sessions, and loses its own oldest beyond it."""

from actions.mcp.session_limits import MAX_SESSIONS_OF_TOKEN, SESSION_IDLE_S, SessionLimits

MOST = MAX_SESSIONS_OF_TOKEN - 1


def test_the_oldest_unused_session_of_the_same_token_is_the_surplus() -> None:
    now = 0.0
    limits = SessionLimits(lambda: now)
    for number in range(MAX_SESSIONS_OF_TOKEN):
        assert limits.surplus("a", MOST) is None
        limits.used("a", f"s{number}")
    assert limits.surplus("b", MOST) is None
    limits.used("a", "s0")
    assert limits.surplus("a", MOST) == "s1"
    limits.ended("a", "s1")
    assert limits.surplus("a", MOST) is None
    limits.used("a", "more")
    now = SESSION_IDLE_S
    assert limits.surplus("a", MOST) is None  # all have ended by themselves
    limits.ended("a", "unknown")
