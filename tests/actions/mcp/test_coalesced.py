"""Many ask, few run: one at a time, one more for all who came meanwhile, and none before its time."""

import asyncio
from collections.abc import Iterator

import pytest

from actions.mcp.upstream.change_notices import ChangeNotices
from actions.mcp.upstream.coalesced import Coalesced


async def test_all_who_ask_while_it_runs_share_the_next_run() -> None:
    may_end, began_once, began = asyncio.Event(), asyncio.Event(), 0

    async def work() -> int:
        nonlocal began
        began += 1
        mine = began
        began_once.set()
        await may_end.wait()
        return mine

    lists = Coalesced(work, pace_s=0)
    first = asyncio.create_task(lists.run())
    await began_once.wait()
    others = [asyncio.create_task(lists.run()) for _ in range(500)]
    await asyncio.sleep(0)
    others[0].cancel()
    may_end.set()
    assert await first == 1
    assert {await other for other in others[1:]} == {2}
    assert lists.runs == 2


async def test_a_failure_reaches_all_who_asked_for_that_run_and_no_later_one() -> None:
    outcomes: Iterator[int | Exception] = iter([ValueError("x"), 2])

    async def work() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    lists = Coalesced(work, pace_s=0)
    failed = await asyncio.gather(lists.run(), lists.run(), return_exceptions=True)
    assert [type(one) for one in failed] == [ValueError, ValueError]
    assert await lists.run() == 2
    lists.close()


async def test_a_server_that_cries_is_heard_once_a_round() -> None:
    heard: list[str] = []

    async def pass_on(what: str) -> None:
        heard.append(what)
        for _ in range(100):
            notices.notify("tools")

    notices = ChangeNotices(pass_on, pace_s=3600)
    for _ in range(1_000):
        notices.notify("tools")
        notices.notify("prompts")
    running = asyncio.create_task(notices.run())
    for _ in range(100):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert heard == ["prompts", "tools"]
