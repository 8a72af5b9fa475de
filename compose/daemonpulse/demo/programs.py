"""Real programs of the stack as child processes: found on PATH, started with the shipped files, always ended.

Starts and stops processes; their files are in compose/.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

START_S: Final = 90.0
STOP_S: Final = 5.0


class ProgramFailed(Exception):
    """A program ended or did not serve in time; the message ends with its last output."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program to run."""

    name: str
    binary: str
    arguments: Callable[[int], list[str]]
    """Command-line arguments for a port on the loopback interface."""
    ready_path: str
    """Path that answers 200 once it serves."""
    environment: Callable[[int], Mapping[str, str]] = lambda _: {}
    """Environment variables to add, for the same port."""
    adds: str = ""
    """What a person would have of it, said when it is not on PATH."""
    port: int = 0
    """Loopback port to serve at; 0 is a free one."""
    other_binary: str = ""
    """Another name it may have on PATH."""

    def find(self) -> str | None:
        """Find its binary on PATH."""
        found = shutil.which(self.binary) or (shutil.which(self.other_binary) if self.other_binary else None)
        return str(Path(found).absolute()) if found else None


def free_port() -> int:
    """Find a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def running(
    program: Program, *, log_file: Path, started: Callable[[int], None] = lambda _group: None
) -> AsyncIterator[str | None]:
    """Run a program and yield its URL, or None when it is not on PATH. Raises ProgramFailed.

    It runs in the folder of its log file: what it writes elsewhere is not left in the working directory. It has a
    process group of its own, which `started` is told: Ctrl-C in a terminal reaches only this process, which stops it.
    """
    found = program.find()
    if found is None:
        yield None
        return
    port = program.port or free_port()
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            found,
            *program.arguments(port),
            env={**os.environ, **program.environment(port)},
            cwd=log_file.parent,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    started(process.pid)
    url = f"http://127.0.0.1:{port}"
    try:
        await _wait_until_ready(program, process, url, log_file)
        yield url
    finally:
        await _stop(process)


async def _wait_until_ready(
    program: Program, process: asyncio.subprocess.Process, url: str, log_file: Path
) -> None:
    try:
        async with asyncio.timeout(START_S), httpx.AsyncClient(trust_env=False) as http:
            while process.returncode is None:
                with contextlib.suppress(httpx.HTTPError):
                    if (await http.get(url + program.ready_path)).status_code == httpx.codes.OK:
                        return
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass
    raise ProgramFailed(f"{program.name} did not start: {_last_words(log_file)}")


def _last_words(log_file: Path) -> str:
    lines = log_file.read_text(errors="replace").strip().splitlines()
    return " | ".join(lines[-3:]) or "it printed nothing"


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
