"""A transport of the SDK's kind for a program's standard input and output, with an end to what it may send at once.

Knows no MCP beyond one message per line; the SDK's own stdio transport buffers a line without limit, so that a tool
server could fill our memory with one answer. The rest follows it: own process group, polite stop, then kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Self

import anyio
import mcp_types as types
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage

from actions.mcp.upstream.sdk import TransportStreams
from actions.mcp.upstream.spec import Stdio

log = logging.getLogger(__name__)

MAX_LINE_BYTES: Final = 32 * 1024 * 1024
"""One message. A 10 MB result passes and is then cut; beyond this the server is stopped."""

_IN_THREAD_BYTES: Final = 512 * 1024
"""Longer messages are parsed in a thread, so that others do not wait for them."""

_STOP_S: Final = 2.0
_LAST_WORDS_S: Final = 0.2
_STDERR_LINES: Final = 20
_STDERR_LINE_BYTES: Final = 64 * 1024


class Program:
    """What became of the process: filled while it runs, read when it has ended."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self.fault: str | None = None
        """Why we gave it up ourselves."""
        self.exit_status: int | None = None
        self.is_deaf = False
        """Whether it closed its input."""
        self.was_stopped = False
        """Whether it ran until it was stopped from here."""

    def begin_again(self) -> bool:
        """Forget a process that has ended by itself, to start another; tell whether there was one."""
        if self.exit_status is None or self.fault is not None or self.was_stopped:
            return False
        self.exit_status, self.is_deaf = None, False
        return True

    def with_last_words(self, fault: str) -> str:
        """Add what it wrote last to standard error, or to standard output in another form than messages."""
        tail = " / ".join(line for line in list(self.stderr)[-5:] if line.strip())
        return f"{fault}: {tail}" if tail else fault

    def obituary(self) -> str:
        """Say how it ended, in one line."""
        if self.fault is not None:
            return self.fault
        if self.exit_status is None:
            return "it closed its output"
        if self.exit_status < 0:
            return f"it was ended by signal {-self.exit_status}"
        return f"it exited with status {self.exit_status}"


@contextlib.asynccontextmanager
async def stdio_transport(
    reach: Stdio, program: Program, on_end: Callable[[], None]
) -> AsyncIterator[TransportStreams]:
    """Start the program and speak with it; `on_end` is called when it stops speaking. Raises OSError, ValueError."""
    process = await asyncio.create_subprocess_exec(
        reach.command,
        *reach.args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=get_default_environment() | dict(reach.env),
        cwd=reach.cwd,
        start_new_session=True,
        limit=MAX_LINE_BYTES,
    )
    program.pid = process.pid
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise TypeError("the process has no pipes")
    hearing = asyncio.create_task(_read_stderr(process.stderr, program), name="mcp stderr")
    try:
        yield (
            _Output(process.stdout, process, program, on_end),
            _Input(process.stdin, process.stdout, program),
        )
    finally:
        with anyio.CancelScope(shield=True):
            program.was_stopped = (
                program.exit_status is None and process.returncode is None and not program.is_deaf
            )
            try:
                await _stop(process)
                await asyncio.wait([hearing], timeout=_LAST_WORDS_S)  # children may hold the pipe open
            finally:  # also where the wait was cut short
                program.exit_status = process.returncode
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)


class _Stream:
    """What the SDK asks of both directions. It reads and writes in its own tasks; the pipes end with the process."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def aclose(self) -> None:
        return None


class _Output(_Stream):
    """What the program writes, read a message at a time."""

    def __init__(
        self,
        lines: asyncio.StreamReader,
        process: asyncio.subprocess.Process,
        program: Program,
        on_end: Callable[[], None],
    ) -> None:
        self._lines = lines
        self._process = process
        self._program = program
        self._on_end = on_end

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        line = b"\n"
        while line.isspace():
            await asyncio.sleep(
                0
            )  # reading a line that is there already never waits; a flood must not hold up others
            try:
                line = await self._lines.readline()
            except ValueError:  # what readline makes of a LimitOverrunError
                self._program.fault = f"it sent a message of more than {MAX_LINE_BYTES} bytes"
                line = b""
            except ConnectionError:
                line = b""
        if not line:
            await self._end()
            raise StopAsyncIteration
        said = await asyncio.to_thread(_parse, line) if len(line) > _IN_THREAD_BYTES else _parse(line)
        if isinstance(said, Exception):
            self._program.stderr.append(line[:500].decode("utf-8", "replace").rstrip())
        return said

    async def receive(self) -> SessionMessage | Exception:
        """Read one message. Raises anyio.EndOfStream."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise anyio.EndOfStream from None

    async def _end(self) -> None:
        """Find out why it ended before the session fails what waits, so that those calls can say it."""
        if self._program.fault is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    self._program.exit_status = await self._process.wait()
        self._on_end()


class _Input(_Stream):
    """What the program reads, written a message at a time."""

    def __init__(self, pipe: asyncio.StreamWriter, lines: asyncio.StreamReader, program: Program) -> None:
        self._pipe = pipe
        self._lines = lines
        self._program = program

    async def send(self, item: SessionMessage) -> None:
        """Write one message. Raises anyio.BrokenResourceError."""
        text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
        try:
            self._pipe.write(text.encode() + b"\n")
            await self._pipe.drain()
        except (ConnectionError, RuntimeError) as error:
            self._program.is_deaf = True
            self._lines.feed_eof()  # the session sees the connection end, instead of a request that hangs
            raise anyio.BrokenResourceError from error


async def _read_stderr(stderr: asyncio.StreamReader, program: Program) -> None:
    rest = b""
    while chunk := await stderr.read(_STDERR_LINE_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[-_STDERR_LINE_BYTES:]
        for line in lines[-_STDERR_LINES:]:
            program.stderr.append(line[:500].decode("utf-8", "replace"))


def _parse(line: bytes) -> SessionMessage | Exception:
    """Read one line; what is no message is handed to the session as the error that it is."""
    try:
        return SessionMessage(types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Close its input, wait, ask, wait, kill: the order of the specification's lifecycle section."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
                    break
    finally:  # also where our patience was cut short
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # children that outlived it
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await process.wait()  # at once, unless it had to be killed just now
        # A process that has ended may still be heard of on its pipes; there is no public way to stop listening.
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
        await asyncio.sleep(0)
