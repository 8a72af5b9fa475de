"""What a request to the actions API costs, beside a bare FastAPI route served by the same uvicorn in the same run.

Run as `python -m tests.benchmarks actions`. The service, the bare route and the simulated daemon have a process each:
what is compared is CPU of the serving process per request. A load+eject pair has six commits that reach the disk.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any

import httpx
import psutil
from fastapi import Depends, FastAPI, Path, Request

from actions import app
from actions.api.responses import InstancesResponse
from actions.app import Parts
from actions.domain.actor import Actor, Scope
from exporter.shared import server
from exporter.shared.process import raise_gc_threshold
from tests.actions.conftest import QUICK, SMALL, NoDriver, daemon, make_token, settings
from tests.benchmarks.processes import cpu_s, python, simulators
from tests.benchmarks.table import Row

Ask = Callable[[httpx.AsyncClient, int], Awaitable[None]]
ROUNDS, READS, PAIRS, CLIENTS = 4, 600, 30, 8
BARE = "bare FastAPI route"
SHAPED = "with a dependency, a path parameter, a response model"
THIS = ("-m", "tests.benchmarks.bench_actions")


def rows(*, quick: bool) -> Iterator[Row]:
    """Reads beside the bare route, and a pair of commands beside two requests to it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        simulators(1, speed=1e6) as urls,
        python(*THIS, "bare") as (bare, bare_process),
        python(*THIS, urls[0], folder) as (ours, process),
    ):
        yield from asyncio.run(_rows(json.loads(bare), bare_process, json.loads(ours), process, quick=quick))


async def _rows(
    bare: dict[str, str],
    bare_process: psutil.Process,
    ours: dict[str, str],
    process: psutil.Process,
    *,
    quick: bool,
) -> list[Row]:
    def get(path: str) -> Ask:
        async def ask(http: httpx.AsyncClient, _number: int) -> None:
            (await http.get(path)).raise_for_status()

        return ask

    async def pair(http: httpx.AsyncClient, number: int) -> None:
        models, query = "/v1/daemons/box/models", {"instance_id": f"bench-{number}", "wait": "60"}
        (await http.post(f"{models}/load", params=query | {"model": SMALL})).raise_for_status()
        (await http.post(f"{models}/eject", params=query)).raise_for_status()

    ways: dict[str, tuple[dict[str, str], psutil.Process, int, Ask]] = {
        BARE: (bare, bare_process, CLIENTS, get("/")),
        SHAPED: (bare, bare_process, CLIENTS, get("/v1/box/nothing")),
        "GET healthz": (ours, process, CLIENTS, get("/healthz")),
        "GET instances": (ours, process, CLIENTS, get("/v1/daemons/box/instances")),
        "GET operations": (ours, process, CLIENTS, get("/v1/operations?limit=20")),
        "load and eject": (ours, process, 1, pair),
    }
    least = dict.fromkeys(ways, float("inf"))
    for _ in range(1 if quick else ROUNDS):
        for name, (served, measured, clients, ask) in ways.items():
            count = 1 if quick else PAIRS if clients == 1 else READS
            async with client(
                served
            ) as http:  # a new one each time: servers end connections that idle for long
                least[name] = min(least[name], await cost_s(measured, http, count, clients, ask))
    return [
        Row(
            what=f"actions: {name}, CPU",
            ours=least[name] * 1e3,
            unit="ms",
            against=against,
            floor=least[against] * 1e3,
            ratio_goal=1.4 if against == BARE and name.startswith("GET") else None,
        )
        for name in ways
        if name not in {BARE, SHAPED}
        for against in ((BARE, SHAPED) if name in {"GET instances", "GET operations"} else (BARE,))
    ]


def client(served: dict[str, str]) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {served['token']}"}
    return httpx.AsyncClient(base_url=served["url"], headers=headers, trust_env=False, timeout=60)


async def cost_s(
    process: psutil.Process, http: httpx.AsyncClient, count: int, clients: int, ask: Ask
) -> float:
    """Ask `count` times with so many clients at once; returns the process's CPU seconds per request."""
    numbers = iter(range(count))

    async def one() -> None:
        for number in numbers:
            await ask(http, number)

    before = cpu_s(process)
    await asyncio.gather(*(one() for _ in range(clients)))
    return (cpu_s(process) - before) / count


async def serve_bare() -> None:
    """Serve one route that does nothing, the way we serve ours."""
    application = FastAPI()

    @application.get("/")
    async def nothing() -> dict[str, Any]:
        return {"instances": []}

    async def anybody(request: Request) -> Actor:
        return Actor(request.headers["authorization"], Scope.READ)

    @application.get("/v1/{daemon}/nothing")
    async def shaped(
        _actor: Annotated[Actor, Depends(anybody)], daemon: Annotated[str, Path(max_length=99)]
    ) -> InstancesResponse:
        return InstancesResponse(daemon=daemon, instances=[], unreadable=0)

    listener = server.listen("127.0.0.1", 0)
    said = json.dumps({"url": server.url_of(listener, tls=False), "token": "none"})
    await server.Server(application, tls=None).serve_until_signal(
        listener, ready=lambda: print(said, flush=True)
    )


async def serve(daemon_url: str, folder: pathlib.Path) -> None:
    """Serve the actions API over a daemon, with a host without GPUs."""
    started: asyncio.Future[tuple[str, Parts]] = asyncio.get_running_loop().create_future()
    serving_it = asyncio.create_task(
        app.serve(
            settings(folder, daemon(daemon_url)),
            ready=lambda url, parts: started.set_result((url, parts)),
            gpus={"nvidia": NoDriver()},
            timeouts=QUICK,
        )
    )
    url, parts = await started
    token = await make_token(parts.service.storage, "operate")
    print(json.dumps({"url": url, "token": token}), flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await serving_it


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Be one of the processes that are measured.")
    parser.add_argument("daemon", help="URL of a daemon, or `bare`")
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    chosen = parser.parse_args()
    raise_gc_threshold()
    asyncio.run(serve_bare() if chosen.folder is None else serve(chosen.daemon, chosen.folder))
