"""The transport to a program: it leaves no process behind, however it ends."""

import asyncio
import sys

import psutil

from actions.mcp.servers import Stdio
from actions.mcp.stdio import Program, stdio_transport

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("{}", flush=True)
time.sleep(600)
"""
"""Neither a closed input nor a polite signal ends it."""


async def test_a_stop_that_is_cut_short_kills_and_leaves_no_zombie() -> None:
    program, inside = Program(), asyncio.Event()

    async def use() -> None:
        async with stdio_transport(Stdio(sys.executable, ("-c", STUBBORN)), program, lambda: None) as (
            said,
            _,
        ):
            await said.receive()
            inside.set()

    using = asyncio.create_task(use())
    await inside.wait()
    await asyncio.sleep(0.1)  # it is being stopped now, and does not want to
    assert psutil.pid_exists(program.pid or 0)
    using.cancel()
    await asyncio.wait([using])
    assert not psutil.pid_exists(program.pid or 0), "a zombie has its number still"
