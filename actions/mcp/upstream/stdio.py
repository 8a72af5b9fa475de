"""The stdio transport, with a size limit per message.

The SDK's own stdio transport buffers a line without limit. The rest follows it: own process group; on stop close the
input, then SIGTERM, then SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Self

import anyio
import mcp_types as types
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage

from actions.mcp.upstream.answers import messages_of
from actions.mcp.upstream.large_messages import MAX_BYTES, reduced
from actions.mcp.upstream.sdk import TransportStreams
from actions.mcp.upstream.spec import Stdio

_LINES_PER_TURN: Final = 16
"""Lines of output that are read before others get a turn: reading what is there already never waits."""
_STOP_S: Final = 2.0
_STDERR_WAIT_S: Final = 0.2
_STDERR_LINES: Final = 20
_STDERR_LINE_BYTES: Final = 64 * 1024


class Program:
    """The state of the process, and how it ended."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self.fault: str | None = None
        """Why the gate stopped it."""
        self.exit_status: int | None = None
        self.stdin_closed = False
        """Whether it closed its standard input."""
        self.was_stopped = False
        """Whether it ran until the gate stopped it."""

    def reset(self) -> bool:
        """Prepare for a restart of a process that ended by itself; return whether there was one."""
        if self.fault is not None or not self.has_ended:
            return False
        self.exit_status, self.stdin_closed = None, False
        return True

    @property
    def has_ended(self) -> bool:
        """Whether it ended by itself, or was stopped for a fault."""
        return self.fault is not None or (self.exit_status is not None and not self.was_stopped)

    def with_stderr(self, fault: str) -> str:
        """Append the last lines of standard error, and of non-message output."""
        tail = " / ".join(line for line in list(self.stderr)[-5:] if line.strip())
        return f"{fault}: {tail}" if tail else fault

    def exit_reason(self) -> str:
        """Return how it ended, in one line."""
        if self.fault is not None:
            return self.fault
        if self.exit_status is None:
            return "it closed its output"
        if self.exit_status < 0:
            return f"it was killed by signal {-self.exit_status}"
        return f"it exited with status {self.exit_status}"


@contextlib.asynccontextmanager
async def stdio_transport(
    reach: Stdio, program: Program, on_end: Callable[[], None], *, whole_bytes: int
) -> AsyncIterator[TransportStreams]:
    """Start the program and connect to it. Messages above `whole_bytes` are reduced.

    `on_end` is called when its output ends. Raises OSError, ValueError.
    """
    process = await asyncio.create_subprocess_exec(
        reach.command,
        *reach.args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=get_default_environment() | dict(reach.env),
        cwd=reach.cwd,
        start_new_session=True,
        limit=MAX_BYTES,
    )
    program.pid = process.pid
    program.stderr.clear()
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise TypeError("the process has no pipes")
    stderr_reader = asyncio.create_task(_read_stderr(process.stderr, program), name="mcp stderr")
    try:
        yield (
            _Output(process.stdout, process, program, on_end, whole_bytes),
            _Input(process.stdin, process.stdout, program),
        )
    finally:
        with anyio.CancelScope(shield=True):
            program.was_stopped = (
                program.exit_status is None and process.returncode is None and not program.stdin_closed
            )
            try:
                await _stop(process)
                await asyncio.wait(
                    [stderr_reader], timeout=_STDERR_WAIT_S
                )  # child processes may hold the pipe open
            finally:  # also if the wait was cancelled
                program.exit_status = process.returncode
                stderr_reader.cancel()
                await asyncio.gather(stderr_reader, return_exceptions=True)


class _Stream:
    """The SDK's stream interface for both directions. The pipes close with the process."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def aclose(self) -> None:
        return None


class _Output(_Stream):
    """The program's standard output, message by message."""

    def __init__(
        self,
        lines: asyncio.StreamReader,
        process: asyncio.subprocess.Process,
        program: Program,
        on_end: Callable[[], None],
        whole_bytes: int,
    ) -> None:
        self._lines = lines
        self._process = process
        self._program = program
        self._on_end = on_end
        self._whole_bytes = whole_bytes
        self._read: deque[types.JSONRPCMessage | Exception] = deque()
        self._lines_read = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        if not self._read:
            self._read.extend(self._messages(await self._line()))
        message = self._read.popleft()
        return message if isinstance(message, Exception) else SessionMessage(message)

    def _messages(self, line: bytes) -> list[types.JSONRPCMessage | Exception]:
        """Read one line; keep what is no message for the error of a failed start."""
        short = reduced(line, self._whole_bytes)
        if short is None:
            return [ValueError("a message that is too large was dropped")]
        found = messages_of(short)
        if isinstance(found[0], Exception):
            self._program.stderr.append(line[:500].decode("utf-8", "replace").rstrip())
        return found

    async def _line(self) -> bytes:
        """Read a line that is not blank. Raises StopAsyncIteration."""
        line = b"\n"
        while line.isspace():
            self._lines_read += 1
            if self._lines_read % _LINES_PER_TURN == 0:
                await asyncio.sleep(0)
            try:
                line = await self._lines.readline()
            except ValueError:  # readline raises it for a LimitOverrunError
                self._program.fault = f"it sent a message of more than {MAX_BYTES} bytes"
                line = b""
            except ConnectionError:
                line = b""
        if not line:
            await self._end()
            raise StopAsyncIteration
        return line

    async def receive(self) -> SessionMessage | Exception:
        """Read one message. Raises anyio.EndOfStream."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise anyio.EndOfStream from None

    async def _end(self) -> None:
        """Get the exit status before the session fails waiting calls, for their error messages."""
        if self._program.fault is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    self._program.exit_status = await self._process.wait()
        self._on_end()


class _Input(_Stream):
    """The program's standard input, message by message."""

    def __init__(self, pipe: asyncio.StreamWriter, lines: asyncio.StreamReader, program: Program) -> None:
        self._pipe = pipe
        self._lines = lines
        self._program = program

    async def send(self, item: SessionMessage) -> None:
        """Write one message, when the program has read most of the others. Raises anyio.BrokenResourceError."""
        try:
            await self._pipe.drain()  # what is written stays, also when its call is given up
            text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
            self._pipe.write(text.encode() + b"\n")
            await self._pipe.drain()
        except (ConnectionError, RuntimeError) as error:
            self._program.stdin_closed = True
            self._lines.feed_eof()  # ends the session, so that the request does not hang
            raise anyio.BrokenResourceError from error


async def _read_stderr(stderr: asyncio.StreamReader, program: Program) -> None:
    rest = b""
    while chunk := await stderr.read(_STDERR_LINE_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[-_STDERR_LINE_BYTES:]
        for line in lines[-_STDERR_LINES:]:
            program.stderr.append(line[:500].decode("utf-8", "replace"))


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Close its input, then SIGTERM, then SIGKILL: the order of MCP's lifecycle section."""
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
    finally:  # also if the wait was cancelled
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # children that outlived it
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await process.wait()  # immediate, unless it was just killed
        # asyncio has no public way to close the pipes of a process that has ended.
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
        await asyncio.sleep(0)
