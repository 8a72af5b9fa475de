"""Starts our programs as processes on free ports of this host, and kills what a test has left running."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from actions.store.database import Storage
from tests.actions.conftest import make_token, start_forge
from tests.exporter.hardware.conftest import _nvml_library
from tests.exporter.llmster.wire.test_transport import free_port
from tests.faults.programs import Program
from tests.system.conftest import Scraper, start_exporter

__all__ = ["_nvml_library", "start_exporter", "start_forge"]

StartProgram = Callable[..., Awaitable[Program]]
MakeClient = Callable[..., Awaitable[httpx.AsyncClient]]


@dataclass(slots=True)
class ExporterProcess(Scraper):
    """`daemonpulse exporter` as a process."""

    program: Program = field(repr=False)


@dataclass(slots=True)
class ActionsProcess:
    """`daemonpulse actions serve` as a process, and a client that holds an operator's token."""

    url: str
    program: Program = field(repr=False)
    http: httpx.AsyncClient = field(repr=False)

    async def post(self, rest: str, **query: str | float) -> httpx.Response:
        """POST a command for the daemon."""
        return await self.http.post(f"/v1/daemons/box/{rest}", params=query)


@dataclass(slots=True)
class DaemonProcess:
    """`llmster-sim` as a process; a killed one is started again on the same port."""

    start_program: StartProgram = field(repr=False)
    flags: tuple[str, ...]
    port: int
    program: Program = field(init=False, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, *flags: str) -> Program:
        """Start it, with more flags than it was made with."""
        self.program = await self.start_program("llmster-sim", "--port", str(self.port), *self.flags, *flags)
        await self.program.said("plays")
        return self.program


StartExporter = Callable[..., Awaitable[ExporterProcess]]
StartActions = Callable[..., Awaitable[ActionsProcess]]
StartDaemon = Callable[..., Awaitable[DaemonProcess]]


@pytest.fixture
async def start_program() -> AsyncIterator[StartProgram]:
    """Start commands with `await start_program("daemonpulse", "exporter", ...)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str, *arguments: str, **variables: str) -> Program:
            program = await Program.start(name, *arguments, variables=variables)
            stack.push_async_callback(program.kill)
            return program

        yield start


@pytest.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    """Make HTTP clients that are closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(*, base_url: str = "", headers: dict[str, str] | None = None) -> httpx.AsyncClient:
            limits = httpx.Limits(
                max_connections=200, max_keepalive_connections=0
            )  # none to lose a race with
            made = httpx.AsyncClient(
                base_url=base_url, headers=headers, trust_env=False, timeout=30, limits=limits
            )
            return await stack.enter_async_context(made)

        yield make


@pytest.fixture
def run_exporter(start_program: StartProgram, make_client: MakeClient) -> StartExporter:
    """Start `daemonpulse exporter` with `await run_exporter(url)`; its daemon is called `box`."""

    async def start(daemon_url: str, *flags: str, **variables: str) -> ExporterProcess:
        program = await start_program(
            "daemonpulse",
            "exporter",
            *("--listen", "127.0.0.1:0", "--daemon-url", daemon_url, "--daemon-name", "box"),
            *("--max-age-seconds", "0", *flags),
            **variables,
        )
        return ExporterProcess(await program.url('msg="exporter started"'), await make_client(), program)

    return start


@pytest.fixture
def run_actions(start_program: StartProgram, make_client: MakeClient) -> StartActions:
    """Start `daemonpulse actions serve` with `await run_actions(url, state, token)`; its daemon is called `box`."""

    async def start(daemon_url: str, state: Path, token: str, **variables: str) -> ActionsProcess:
        program = await start_program(
            "daemonpulse",
            *("actions", "serve", "--listen", "127.0.0.1:0", "--state", str(state)),
            *("--daemon-url", daemon_url, "--daemon-name", "box"),
            **variables,
        )
        url = await program.url('msg="actions API started"')
        http = await make_client(base_url=url, headers={"Authorization": f"Bearer {token}"})
        return ActionsProcess(url, program, http)

    return start


@pytest.fixture
def run_daemon(start_program: StartProgram) -> StartDaemon:
    """Start `llmster-sim` with `await run_daemon("--scenario", "steady")`."""

    async def start(*flags: str) -> DaemonProcess:
        daemon = DaemonProcess(start_program, flags, free_port())
        await daemon.start()
        return daemon

    return start


async def operator(state: Path) -> str:
    """Make an operator's token in the database of a service that is not running yet."""
    storage = await Storage.open(state)
    try:
        return await make_token(storage, "operate")
    finally:
        await storage.close()


def prediction(number: int, *, prompt_tokens: int = 7, tokens: int = 5, output: str = "x" * 100) -> str:
    """Write the log frame of one finished prediction; `{id}` is left for the simulator."""
    stats = {
        "stopReason": "eosFound",
        "tokensPerSecond": 50,
        "timeToFirstTokenSec": 0.1,
        "promptTokensCount": prompt_tokens,
        "predictedTokensCount": tokens,
    }
    data = {
        "type": "llm.prediction.output",
        "output": output,
        "stats": stats,
        "modelIdentifier": "qwen/qwen3-8b",
    }
    log = {"timestamp": 1_790_000_000_000 + number, "data": data}
    return json.dumps({"type": "channelSend", "channelId": 0, "message": {"type": "log", "log": log}})
