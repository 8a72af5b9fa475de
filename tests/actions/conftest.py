"""Starts the real actions API, in this process and on a real port, over a simulated daemon with simulated GPUs."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from actions import app
from actions.app import Parts
from actions.auth.tokens import TokenStore
from actions.domain.actor import Scope
from actions.domain.timeouts import Timeouts
from actions.settings import ActionsSettings
from actions.store.chain import COVER
from actions.store.database import Storage
from daemonpulse.demo.simulated_host import SimulatedHost, simulated_gpus
from exporter.hardware.errors import DriverUnavailable
from exporter.hardware.gpus import GpuReading
from exporter.settings import DaemonSettings
from exporter.shared.api_token import Secret
from llmster_sim.server import SimConfig, Simulator

QUICK = Timeouts(
    load_s=60,
    cancel_s=0.5,
    verify_s=2,
    poll_s=0.01,
    download_poll_s=0.01,
    probe_silence_s=10,
    probe_s=20,
    kill_wait_s=0.5,
    tick_s=3600,  # tests tick by hand
    retry_first_s=0.0,
    store_retry_s=0.01,
)
TRUST: Final = ssl.create_default_context()
"""For clients that use no TLS: making one takes longer than a request."""
SMALL, SMALL_2 = "qwen/qwen3-0.6b", "small-2"
BIG = "google/gemma-4-26b-a4b"


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    """An empty database."""
    opened = await Storage.open(tmp_path / "state")
    yield opened
    await opened.close()


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A daemon that loads a model of 1 s in 10 ms."""
    async with Simulator(SimConfig(scenario="idle", speed=100.0)) as simulator:
        yield simulator


def daemon(
    url: str, *, name: str = "box", token: str | None = None, token_file: Path | None = None
) -> DaemonSettings:
    """Settings of one daemon."""
    return DaemonSettings(
        name=name, url=url, token=Secret(token) if token else None, home=None, token_file=token_file
    )


def settings(state: Path, *daemons: DaemonSettings, **changes: Any) -> ActionsSettings:
    """Settings of a service on a free port of this host."""
    values: dict[str, Any] = {
        "listen_host": "127.0.0.1",
        "listen_port": 0,
        "state": state,
        "web_config": None,
        "allowed_hosts": (),
        "commands_per_minute": 0,
        "prometheus_url": None,
        "prometheus_selector": "",
        "log_level": "debug",
        "log_format": "logfmt",
        "daemons": daemons,
    }
    return ActionsSettings(**{**values, **changes})


def value_of(exposition: str, name: str, **labels: str) -> float | None:
    """The value of a sample of a scrape's text; None where there is none."""
    found = [
        sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) <= 1, found
    return found[0] if found else None


@dataclass(slots=True)
class Forge:
    """A service that serves, and a client that holds an operator's token."""

    url: str
    http: httpx.AsyncClient
    parts: Parts
    task: asyncio.Task[None] = field(repr=False)
    name: str = "box"

    def path(self, rest: str) -> str:
        """Path below the daemon."""
        return f"/v1/daemons/{self.name}/{rest}"

    async def post(
        self, rest: str, *, wait: float | None = 10, headers: dict[str, str] | None = None, **query: Any
    ) -> httpx.Response:
        """POST a command with query parameters and wait for its end."""
        parameters = query | ({"wait": wait} if wait is not None else {})
        return await self.http.post(self.path(rest), params=parameters, headers=headers or {})

    async def load(self, model: str = SMALL, **query: Any) -> httpx.Response:
        """Load a model and wait for it."""
        return await self.post("models/load", model=model, **query)

    async def done(self, response: httpx.Response) -> dict[str, Any]:
        """Wait for the end of an operation that was answered 202 or 200."""
        assert response.status_code in {200, 202}, response.text
        return await self.operation(response.json()["id"])

    async def operation(self, operation_id: str) -> dict[str, Any]:
        """Wait for the end of an operation, on a busy host a minute."""
        found: dict[str, Any] = {}
        for _ in range(3):
            found = (await self.http.get(f"/v1/operations/{operation_id}", params={"wait": 20})).json()
            if found.get("finished_ms") is not None:
                break
        return found

    async def audit(self, *kinds: str) -> list[dict[str, Any]]:
        """The audit, oldest first, without rows that only cover other tables."""
        entries = (await self.http.get("/v1/audit", params={"limit": 1000})).json()["entries"]
        told = [entry for entry in reversed(entries) if entry["action"] != COVER]
        return [entry for entry in told if not kinds or entry["kind"] in kinds]

    async def metric(self, name: str, **labels: str) -> float | None:
        """The value of a sample of /metrics."""
        return value_of((await self.http.get("/metrics")).text, name, **labels)

    async def token(self, scope: str, **wanted: Any) -> str:
        """Make another token."""
        return await make_token(self.parts.service.storage, scope, **wanted)

    async def tick(self) -> None:
        """Let the reconciler look once."""
        await self.parts.reconcilers[0].tick()


class NoDriver:
    """A GpuSource of a host without a driver."""

    def read(self) -> GpuReading:
        raise DriverUnavailable("no NVIDIA driver here")

    def xid_counts(self) -> None:
        return None

    def close(self) -> None:
        return None


StartForge = Callable[..., Awaitable[Forge]]


async def make_token(storage: Storage, scope: str, *, name: str = "ops", **wanted: Any) -> str:
    """Make a token as the command line does."""
    _, text = await storage.write(
        lambda db: TokenStore(storage).add(db, name=name, scope=Scope(scope), **wanted)
    )
    return text


@contextlib.asynccontextmanager
async def forges(home: Path) -> AsyncIterator[StartForge]:
    """Give a function that starts services, `await start(sim)`; all are stopped at the end.

    `scope=None` makes no token; the state is kept below `home` unless a folder is given.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            simulator: Simulator | None,
            *,
            url: str | None = None,
            scope: str | None = "operate",
            state: Path | None = None,
            timeouts: Timeouts = QUICK,
            daemon_token: str | None = None,
            token_file: Path | None = None,
            gpus: Any = None,
            daemon_name: str = "box",
            **changes: Any,
        ) -> Forge:
            folder = state or home / "state"
            headers = {}
            if scope is not None:
                storage = await Storage.open(folder)
                headers = {"Authorization": f"Bearer {await make_token(storage, scope)}"}
                await storage.close()
            loop = asyncio.get_running_loop()
            chosen = settings(
                folder,
                daemon(
                    url or (simulator.url if simulator else ""),
                    token=daemon_token,
                    token_file=token_file,
                    name=daemon_name,
                ),
                **changes,
            )
            ready: asyncio.Queue[tuple[str, Parts]] = asyncio.Queue()
            task = asyncio.create_task(
                app.serve(
                    chosen,
                    ready=lambda where, parts: ready.put_nowait((where, parts)),
                    gpus=gpus or (simulated_gpus(simulator.daemon, loop) if simulator else None),
                    host=SimulatedHost(simulator.daemon, loop) if simulator else None,
                    timeouts=timeouts,
                )
            )
            stack.push_async_callback(stop, task)
            waiting = asyncio.ensure_future(ready.get())
            async with asyncio.timeout(60):
                await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                waiting.cancel()
                task.result()
            where, parts = waiting.result()
            http = await stack.enter_async_context(
                httpx.AsyncClient(base_url=where, trust_env=False, timeout=30, headers=headers, verify=TRUST)
            )
            return Forge(where, http, parts, task, daemon_name)

        yield start


@pytest.fixture
async def start_forge(tmp_path: Path) -> AsyncIterator[StartForge]:
    """Start services as `forges` does."""
    async with forges(tmp_path) as start:
        yield start


async def stop(task: asyncio.Task[None]) -> None:
    """Stop a service as a cancelled owner does."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def forge(start_forge: StartForge, sim: Simulator) -> Forge:
    """A service over `sim`, with an operator's token."""
    return await start_forge(sim)


def loaded(simulator: Simulator) -> set[str]:
    """Identifiers of what the simulated daemon has loaded."""
    return {instance.identifier for instance in simulator.daemon.loaded}
