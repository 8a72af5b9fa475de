"""Prints what a request to the actions API costs, beside a bare FastAPI route in the same run.

Run it with `python -m tests.benchmarks.bench_actions`. Service, simulator and clients share one process, so the
numbers are a floor; ratios travel better between machines. A load+eject pair has six commits that reach the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from actions import app
from actions.storage import Storage
from daemonpulse.simulated_machine import SimulatedGpus, SimulatedHost
from llmster_sim.server import SimConfig, Simulator
from tests.actions.conftest import QUICK, SMALL, daemon, make_token, settings

READS, PAIRS, CLIENTS = 1500, 60, 8


def show(name: str, seconds: list[float], took_s: float, floor_s: float | None) -> float:
    """Print one line; returns seconds per request."""
    cost_s = took_s / len(seconds)
    p50, p99 = statistics.median(seconds), statistics.quantiles(seconds, n=100)[98]
    ratio = f"{cost_s / floor_s:6.1f} x bare" if floor_s is not None else ""
    print(f"{name:<34}{1 / cost_s:9.0f}/s  p50 {p50 * 1e3:7.2f} ms  p99 {p99 * 1e3:7.2f} ms  {ratio}")
    return cost_s


async def measure(
    count: int, clients: int, ask: Callable[[int], Awaitable[None]]
) -> tuple[list[float], float]:
    """Ask `count` times with so many clients at once; returns the time of each and of all."""
    seconds: list[float] = []
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            begun = time.perf_counter()
            await ask(number)
            seconds.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds, time.perf_counter() - begun


@contextlib.asynccontextmanager
async def bare() -> AsyncIterator[str]:
    """Serve one route that does nothing, the way we serve ours."""
    application = FastAPI()

    @application.get("/")
    async def nothing() -> dict[str, Any]:
        return {"instances": []}

    server = uvicorn.Server(
        uvicorn.Config(application, port=0, http="h11", lifespan="off", log_level="error", access_log=False)
    )
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


@contextlib.asynccontextmanager
async def service(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Serve the actions API over a simulator that loads at once; yields URL and token."""
    storage = await Storage.open(folder)
    token = await make_token(storage, "operate")
    await storage.close()
    async with Simulator(SimConfig(scenario="idle", speed=1e6)) as sim:
        loop = asyncio.get_running_loop()
        urls: asyncio.Queue[str] = asyncio.Queue()
        task = asyncio.create_task(
            app.serve(
                settings(folder, daemon(sim.url)),
                ready=lambda url, _parts: urls.put_nowait(url),
                gpus=SimulatedGpus(sim.daemon, loop),
                host=SimulatedHost(sim.daemon, loop),
                timing=QUICK,
            )
        )
        yield await urls.get(), token
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def main() -> None:
    async with bare() as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:

        async def nothing(_number: int) -> None:
            (await http.get("/")).raise_for_status()

        await measure(200, CLIENTS, nothing)
        floor_s = show("bare FastAPI route", *await measure(READS, CLIENTS, nothing), None)
    with tempfile.TemporaryDirectory() as folder:
        async with service(Path(folder)) as (url, token):
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(
                base_url=url, headers=headers, trust_env=False, timeout=60
            ) as client:
                for name, path in (
                    ("GET instances", "/v1/daemons/box/instances"),
                    ("GET operations", "/v1/operations?limit=20"),
                ):

                    async def read(_number: int, path: str = path) -> None:
                        (await client.get(path)).raise_for_status()

                    await measure(100, CLIENTS, read)
                    show(name, *await measure(READS, CLIENTS, read), floor_s)

                async def pair(number: int) -> None:
                    name = f"bench-{number}"
                    query = {"instance_id": name, "wait": "60"}
                    models = "/v1/daemons/box/models"
                    (await client.post(f"{models}/load", params=query | {"model": SMALL})).raise_for_status()
                    (await client.post(f"{models}/eject", params=query)).raise_for_status()

                await measure(5, 1, pair)
                show("load+eject pair, one client", *await measure(PAIRS, 1, pair), floor_s)


if __name__ == "__main__":
    asyncio.run(main())
