"""Runs the real programs as an operator does, for tests that look at them from outside."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("daemonpulse"))


@dataclass(slots=True)
class Program:
    """A program that runs, and all that it has printed."""

    process: asyncio.subprocess.Process
    printed: bytearray = field(default_factory=bytearray)
    url: str = ""

    async def read(self, serving: asyncio.Event) -> None:
        """Keep what it prints, and note where it serves."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.printed += line
            found = re.search(rb"started.* url=(\S+)", line)
            if found is not None:
                self.url = found[1].decode()
                serving.set()
        serving.set()

    async def stop(self) -> int | None:
        """Stop it as a supervisor does."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


Start = Callable[..., Awaitable[Program]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start programs with `await start("exporter", environment={...})`; all are stopped at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def starting(*arguments: str, environment: Mapping[str, str], umask: int = -1) -> Program:
            process = await _started(arguments, environment, umask)
            program = Program(process)
            serving = asyncio.Event()
            reading = asyncio.create_task(program.read(serving))
            stack.push_async_callback(asyncio.wait, [reading])
            stack.push_async_callback(program.stop)
            async with asyncio.timeout(60):
                await serving.wait()
            return program

        yield starting


async def _started(
    arguments: Sequence[str], environment: Mapping[str, str], umask: int
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean_environment() | dict(environment),
        umask=umask,
        limit=2**24,
    )


def clean_environment() -> dict[str, str]:
    """Our environment without any setting of the programs."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("DAEMONPULSE_", "OTEL_"))
    }


async def run(*arguments: str, environment: Mapping[str, str], umask: int = -1) -> tuple[int | None, str]:
    """Run a command to its end; returns its exit code and all that it printed."""
    process = await _started(arguments, environment, umask)
    async with asyncio.timeout(60):
        printed, _ = await process.communicate()
    return process.returncode, printed.decode()
