"""The transport to a program: it leaves no process behind, however it ends."""

import asyncio
import sys
from typing import Any

import anyio
import mcp_types as types
import psutil
import pytest
from mcp.shared.message import SessionMessage

from actions.mcp.upstream.large_messages import WHOLE_BYTES
from actions.mcp.upstream.spec import Stdio
from actions.mcp.upstream.stdio import Program, stdio_transport

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("{}", flush=True)
time.sleep(600)
"""
"""Neither a closed input nor a polite signal ends it."""

DEAF = """
import os, time
os.close(0)
print("{}", flush=True)
time.sleep(600)
"""
"""It speaks, and hears nothing."""

PING = SessionMessage(types.JSONRPCRequest(jsonrpc="2.0", id=1, method="ping"))


async def test_a_stop_that_is_cut_short_kills_and_leaves_no_zombie() -> None:
    program, inside = Program(), asyncio.Event()

    async def use() -> None:
        async with stdio_transport(
            Stdio(sys.executable, ("-c", STUBBORN)), program, lambda: None, whole_bytes=WHOLE_BYTES
        ) as (
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


async def test_a_program_that_closes_its_input_ends_the_connection() -> None:
    ended: list[None] = []
    reach = Stdio(sys.executable, ("-c", DEAF))
    async with stdio_transport(reach, Program(), lambda: ended.append(None), whole_bytes=WHOLE_BYTES) as (
        said,
        told,
    ):
        await said.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await told.send(PING)
        with pytest.raises(anyio.EndOfStream):
            await said.receive()
        assert ended


async def test_a_flood_leaves_others_their_turn() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    flood = "import time; print('{}\\n' * 1000, flush=True); time.sleep(600)"
    async with stdio_transport(
        Stdio(sys.executable, ("-c", flood)), Program(), lambda: None, whole_bytes=WHOLE_BYTES
    ) as (said, _):
        await said.receive()
        counting = asyncio.create_task(count())
        for _ in range(999):
            await said.receive()
        counting.cancel()
    assert turns >= 999 // 16 - 1


async def test_calls_of_a_program_that_does_not_read_them_do_not_pile_up_when_they_are_given_up() -> None:
    reach = Stdio(sys.executable, ("-c", "import time; print('{}', flush=True); time.sleep(600)"))
    params = {"arguments": {"text": "x" * 1_000_000}}
    call = types.JSONRPCRequest(jsonrpc="2.0", id=1, method="tools/call", params=params)
    async with stdio_transport(reach, Program(), lambda: None, whole_bytes=WHOLE_BYTES) as (said, told):
        await said.receive()
        sending = [asyncio.create_task(told.send(SessionMessage(call))) for _ in range(50)]
        for _ in range(10):
            await asyncio.sleep(0)  # each has had its turn
        assert not any(one.done() for one in sending)
        for one in sending:
            one.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        pipe: Any = told
        assert pipe._pipe.transport.get_write_buffer_size() < 2_000_000
