"""Circuit breakers by a hand-driven clock."""

from actions.mcp.upstream.limits import Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_opens_lets_one_call_try_and_closes_when_it_works() -> None:
    clock = Clock()
    breaker = Breaker(2, 30, clock)
    breaker.failed()
    assert breaker.wait_s() == 0
    breaker.failed()
    assert breaker.wait_s() == 30
    clock.now = 30
    assert breaker.wait_s() == 0
    assert breaker.wait_s() == 30  # one tries, the others wait
    breaker.failed()
    assert breaker.wait_s() == 30
    clock.now = 60
    assert breaker.wait_s() == 0
    breaker.abandoned()
    assert breaker.wait_s() == 0
    breaker.succeeded()
    assert not breaker.is_open
    assert [breaker.wait_s() for _ in range(3)] == [0, 0, 0]
