import asyncio

import pytest

from llmster_sim.clock import Clock


def test_callbacks_run_in_order_of_their_due_time_and_see_exactly_it() -> None:
    clock = Clock(manual=True)
    seen: list[tuple[str, float]] = []
    clock.call_later(2.0, lambda: seen.append(("late", clock.now_s)))
    clock.call_later(1.0, lambda: seen.append(("early", clock.now_s)))
    clock.advance(5.0)
    assert seen == [("early", 1.0), ("late", 2.0)]
    assert clock.now_s == 5.0


def test_callbacks_due_at_the_same_instant_run_in_the_order_they_were_made() -> None:
    clock = Clock(manual=True)
    seen: list[int] = []
    for number in range(5):
        clock.call_later(1.0, lambda number=number: seen.append(number))  # type: ignore[misc]
    clock.advance(1.0)
    assert seen == [0, 1, 2, 3, 4]


def test_callback_made_by_a_callback_runs_in_the_same_advance_when_it_is_due() -> None:
    clock = Clock(manual=True)
    seen: list[float] = []

    def first() -> None:
        clock.call_later(1.0, lambda: seen.append(clock.now_s))

    clock.call_later(1.0, first)
    clock.advance(3.0)
    assert seen == [2.0]


def test_cancelled_callback_never_runs() -> None:
    clock = Clock(manual=True)
    seen: list[int] = []
    clock.call_later(1.0, lambda: seen.append(1)).cancel()
    clock.advance(2.0)
    assert seen == []


def test_timestamps_are_epoch_milliseconds_from_the_given_start() -> None:
    clock = Clock(start_ms=1000, manual=True)
    clock.advance(1.5)
    assert clock.now_ms == 2500


def test_live_clock_refuses_to_be_advanced_by_hand() -> None:
    with pytest.raises(RuntimeError, match="manual_clock=True"):
        Clock().advance(1.0)


def test_time_cannot_go_back() -> None:
    with pytest.raises(ValueError, match="-1"):
        Clock(manual=True).advance(-1)


@pytest.mark.parametrize("speed", [0, -3])
def test_speed_must_be_positive(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        Clock(speed=speed)


async def test_live_clock_runs_a_due_callback_at_its_own_instant() -> None:
    clock = Clock(speed=1000.0)
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    clock.call_later(5.0, lambda: done.set_result(clock.now_s))
    clock.attach(asyncio.get_running_loop())
    assert await done == 5.0
    clock.detach()


async def test_live_clock_holds_time_still_while_one_request_is_served() -> None:
    clock = Clock(speed=1_000_000.0)
    clock.attach(asyncio.get_running_loop())
    clock.catch_up()
    assert clock.now_s == clock.now_s
    clock.detach()


async def test_detached_clock_stands_still_and_keeps_its_callbacks() -> None:
    clock = Clock(speed=1000.0)
    loop = asyncio.get_running_loop()
    clock.attach(loop)
    clock.detach()
    done: asyncio.Future[None] = loop.create_future()
    clock.call_later(1.0, lambda: done.set_result(None))
    before = clock.now_s
    await asyncio.sleep(0)
    assert clock.now_s == before
    clock.attach(loop)
    await done
    clock.detach()


async def test_failing_callback_does_not_stop_a_live_clock() -> None:
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    clock = Clock(speed=1000.0)
    done: asyncio.Future[None] = loop.create_future()
    failure = RuntimeError("boom")

    def fail() -> None:
        raise failure

    clock.call_later(1.0, fail)
    clock.call_later(5.0, lambda: done.set_result(None))
    clock.attach(loop)
    await done
    assert reported == [failure]
    clock.detach()


async def test_the_clock_on_the_wall_goes_on_at_its_own_pace_whatever_the_speed() -> None:
    loop = asyncio.get_running_loop()
    clock = Clock(start_ms=1_000_000, speed=1000.0)
    clock.attach(loop)
    began = loop.time()
    await asyncio.sleep(0.02)
    clock.detach()
    clock.speed = 100.0
    clock.attach(loop)
    await asyncio.sleep(0.02)
    shown_ms, virtual_ms = clock.wall_ms - 1_000_000, clock.now_ms - 1_000_000
    assert 40 <= shown_ms <= (loop.time() - began) * 1000 + 1
    assert virtual_ms >= 20_000
    clock.detach()
