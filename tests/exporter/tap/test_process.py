"""The tap as a process: killed or told to end while an answer is under way."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from daemonpulse.demo.programs import free_port
from tests.exporter.tap.scripted import END, HEAD, chunk, event, upstream, whole
from tests.exporter.tap.tapping import LIMIT_S

PROGRAM = str(Path(sys.executable).parent / "daemonpulse")
FIRST = chunk(event({"choices": [{"delta": {"content": "a"}}]}))


@asynccontextmanager
async def tap_process(daemon_port: int, *flags: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(PROGRAM, "tap", "--upstream", f"http://127.0.0.1:{daemon_port}"),
        *("--listen", f"127.0.0.1:{port}", "--reports-listen", f"127.0.0.1:{free_port()}", *flags),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(30):
            line = await process.stderr.readline()
        assert b"tap started" in line
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_tap_that_is_killed_is_a_connection_error_for_both_sides() -> None:
    never = asyncio.Event()
    async with upstream([HEAD, FIRST, never.wait]) as daemon, tap_process(daemon.port) as (process, url):
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.TransportError):  # noqa: PT012
                async with client.stream("POST", f"{url}/v1/chat/completions", json={}) as answer:
                    async for _ in answer.aiter_bytes():
                        process.kill()
            await process.wait()
            with pytest.raises(httpx.ConnectError):
                await client.get(url)
        never.set()
        async with asyncio.timeout(LIMIT_S):
            await daemon.closed.wait()


async def test_a_tap_that_is_told_to_end_lets_an_answer_end_and_takes_no_more() -> None:
    going = asyncio.Event()
    async with upstream([HEAD, FIRST, going.wait, END]) as daemon, tap_process(daemon.port) as (process, url):
        async with (
            httpx.AsyncClient(trust_env=False) as client,
            client.stream("POST", f"{url}/v1/chat/completions", json={}) as answer,
        ):
            pieces = answer.aiter_bytes()
            await anext(pieces)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(LIMIT_S):
                await until_refused(url)
            going.set()
            assert [piece async for piece in pieces] == []
        async with asyncio.timeout(LIMIT_S):
            assert await process.wait() == 0


async def test_a_tap_that_may_not_wait_ends_at_once() -> None:
    never = asyncio.Event()
    async with (
        upstream([HEAD, FIRST, never.wait]) as daemon,
        tap_process(daemon.port, "--drain-seconds", "0") as (process, url),
        httpx.AsyncClient(trust_env=False) as client,
    ):
        with pytest.raises(httpx.TransportError):  # noqa: PT012
            async with client.stream("POST", f"{url}/v1/chat/completions", json={}) as answer:
                async for _ in answer.aiter_bytes():
                    process.send_signal(signal.SIGTERM)
        never.set()
        async with asyncio.timeout(LIMIT_S):
            assert await process.wait() == 0


async def test_a_port_that_is_taken_is_one_line() -> None:
    async with upstream(whole({})) as daemon:
        process = await asyncio.create_subprocess_exec(
            *(PROGRAM, "tap", "--upstream", "http://127.0.0.1:1", "--listen", f"127.0.0.1:{daemon.port}"),
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            _, said = await process.communicate()
    assert process.returncode == 2
    assert said.count(b"\n") == 1
    assert b"choose another port" in said


async def until_refused(url: str) -> None:
    """Wait until new connections are refused."""
    with contextlib.suppress(ConnectionRefusedError):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.close()
            await asyncio.sleep(0.02)
