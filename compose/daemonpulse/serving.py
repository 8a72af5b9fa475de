"""Runs a server of the products as a task of this process: the demo's parts, and the exporter of `top`.

Does not depend on what it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any


@contextlib.asynccontextmanager
async def serving(
    serve: Callable[..., Coroutine[Any, Any, None]],
    *args: Any,
    on_ready: Callable[[], None] = lambda: None,
    **parts: Any,
) -> AsyncIterator[tuple[asyncio.Task[None], tuple[Any, ...]]]:
    """Run a server; give its task and what it calls its `ready` with. `on_ready` is called in the same moment.

    Raises what ends the server, before it is ready and at the end.
    """
    ready: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()

    def serves(*told: Any) -> None:
        on_ready()
        ready.set_result(told)

    task = asyncio.create_task(serve(*args, ready=serves, **parts))
    first: set[asyncio.Future[Any]] = {task, ready}
    try:
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield task, ready.result()
    finally:
        await end(task)


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it is over. Raises what ended it."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
