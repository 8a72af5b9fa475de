"""The demo's screen beside the programs that share its event loop."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from daemonpulse.demo.screen import DemoScreen


async def test_how_the_screen_begins_tasks_is_not_how_the_programs_beside_it_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From Python 3.12 on Textual sets a task factory, and asyncio of 3.13.0 cannot connect with it."""
    loop = asyncio.get_running_loop()
    over, told = asyncio.Event(), loop.create_future()

    def factory(loop: Any, coro: Any, **_: Any) -> Any:
        return asyncio.Task(coro, loop=loop)

    class Shown:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        async def run_async(self) -> None:
            loop.set_task_factory(factory)
            over.set()
            await told

        def exit(self) -> None:
            pass

    monkeypatch.setattr("daemonpulse.top.screen.Top", Shown)
    showing = asyncio.create_task(DemoScreen().show("http://x", "http://y", Path("token"), [told]))
    await over.wait()
    await asyncio.sleep(0)
    assert loop.get_task_factory() is None
    told.set_result(None)
    await showing
