"""What the program asks and shows at a terminal, seen in a real one."""

import asyncio
import contextlib
import os
import pty
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from llmster_sim.server import Simulator
from tests.actions.cli.test_commands import COMMAND, forge, here
from tests.actions.commands.test_load_eject import _long_ask
from tests.actions.conftest import SMALL, loaded, sim, start_forge

__all__ = ["forge", "here", "sim", "start_forge"]

BUSY = "qwen/qwen3-8b"


@dataclass
class Terminal:
    """A program in a pseudo terminal, its screen as text so far."""

    process: asyncio.subprocess.Process
    master: int
    screen: str = ""

    async def until(self, text: str) -> None:
        """Wait until the screen has a text. Raises OSError at the end of the program."""
        async with asyncio.timeout(60):
            while text not in self.screen:
                read = asyncio.get_running_loop().run_in_executor(None, os.read, self.master, 4096)
                self.screen += (await read).decode()

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    async def end(self) -> int:
        """Read to the end, and give the exit code."""
        with contextlib.suppress(OSError):  # what Linux answers when the other side is closed
            await self.until("\0")
        async with asyncio.timeout(60):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def terminal(*arguments: str, **environment: str) -> AsyncIterator[Terminal]:
    """Start the program in a pseudo terminal."""
    master, slave = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DAEMONPULSE_")}
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        "actions",
        *arguments,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=kept | environment,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(master)


@pytest.fixture
def requests(sim: Simulator) -> None:
    """Two requests that do not end by themselves."""
    for _ in range(2):
        sim.daemon.request(BUSY, ask=_long_ask(sim))
    sim.daemon.stall(BUSY)


@pytest.mark.usefixtures("requests")
@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
async def test_an_eject_asks_before_it_ends_requests_and_only_yes_is_a_yes(
    here: dict[str, str], sim: Simulator, answer: str
) -> None:
    async with terminal("eject", BUSY, **here) as seen:
        await seen.until(f"{BUSY} has 2 requests in flight. End them? [y/N]: ")
        assert BUSY in loaded(sim)
        seen.type(answer)
        assert await seen.end() == 1
    assert BUSY in loaded(sim)


@pytest.mark.usefixtures("requests")
async def test_yes_ends_them_and_says_how_many(here: dict[str, str], sim: Simulator) -> None:
    async with terminal("eject", BUSY, **here) as seen:
        await seen.until("End them?")
        seen.type("y\n")
        assert await seen.end() == 0
        assert f"{BUSY} ejected; 2 requests in flight ended" in seen.screen
    assert BUSY not in loaded(sim)


@pytest.mark.usefixtures("requests")
@pytest.mark.parametrize("flags", [("--force",), ("--drain", "0.2")])
async def test_who_said_it_already_is_not_asked(
    here: dict[str, str], sim: Simulator, flags: tuple[str, ...]
) -> None:
    async with terminal("eject", BUSY, *flags, **here) as seen:
        assert await seen.end() == 0
        assert "End them?" not in seen.screen
        assert "2 requests in flight ended" in seen.screen
    assert BUSY not in loaded(sim)


async def test_a_load_shows_its_progress_and_one_that_is_left_goes_on_and_is_named(
    here: dict[str, str], sim: Simulator
) -> None:
    sim.clock.speed = 0.05
    async with terminal("load", SMALL, **here) as seen:
        with contextlib.suppress(OSError):
            await seen.until("loading")
        assert "loading" in seen.screen, seen.screen
        seen.process.send_signal(signal.SIGINT)
        assert await seen.end() == 1
        assert "goes on; stop it with: daemonpulse actions cancel " in seen.screen
        operation_id = seen.screen.partition("actions cancel ")[2].split()[0]
    async with terminal("cancel", operation_id, **here) as seen:
        assert await seen.end() == 0
        assert f"{operation_id} cancelled: load {SMALL}" in seen.screen
    assert SMALL not in loaded(sim)
