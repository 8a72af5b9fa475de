"""What many daemons behind one actions API cost: `ps`, `eject-all` of a site, and a pass of the reconciler of groups.

Run as `python -m tests.benchmarks fleet`. The simulated daemons share a process; the service has one of its own, and
what is measured is its CPU, its memory, and the time the command at the terminal takes.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from actions import app
from actions.app import Parts
from exporter.shared.process import raise_gc_threshold
from tests.actions.conftest import QUICK, SMALL, NoDriver, daemon, make_token, settings
from tests.benchmarks.processes import cpu_s, python, simulators
from tests.benchmarks.table import Row

DAEMONS, PASSES = 100, 5
THIS = ("-m", "tests.benchmarks.bench_fleet")
COMMAND = str(Path(sys.executable).with_name("daemonpulse"))


def rows(*, quick: bool) -> Iterator[Row]:
    """The service with one daemon, then with all: memory, reads, commands and a quiet pass of the reconciler."""
    for count in (2,) if quick else (1, DAEMONS):
        with (
            tempfile.TemporaryDirectory() as folder,
            simulators(count, instances=3, speed=1e6) as urls,
            python(*THIS, folder, *urls) as (said, process),
        ):
            yield from _rows(json.loads(said), process, count)


def _rows(said: dict[str, str], process: psutil.Process, count: int) -> Iterator[Row]:
    def row(what: str, value: float, unit: str) -> Row:
        return Row(what=f"fleet, {count} daemons: {what}", ours=value, unit=unit)

    environment = os.environ | {
        "DAEMONPULSE_ACTIONS_URL": said["url"],
        "DAEMONPULSE_ACTIONS_TOKEN": said["token"],
    }

    def timed(*arguments: str) -> tuple[float, float]:
        before, started = cpu_s(process), time.monotonic()
        subprocess.run(
            [COMMAND, "actions", *arguments], env=environment, stdout=subprocess.DEVNULL, check=True
        )
        return time.monotonic() - started, cpu_s(process) - before

    for verb, arguments in (
        ("ps", ("ps",)),
        ("load", ("load", SMALL, "--site", "lab")),
        ("eject-all", ("eject-all", "--site", "lab")),
    ):
        took_s, used_s = timed(*arguments)
        yield row(f"{verb} at a terminal, time", took_s, "s")
        yield row(f"{verb}, CPU of the service", used_s * 1e3, "ms")
    headers = {"Authorization": f"Bearer {said['token']}"}
    with httpx.Client(base_url=said["url"], headers=headers, trust_env=False, timeout=120) as http:
        group: dict[str, str | int] = {
            "name": "bench",
            "model": SMALL,
            "at_least": count,
            "wave": count,
            "site": "lab",
        }
        started = time.monotonic()
        http.post("/v1/fleet/desired", params=group).raise_for_status()
        while http.get("/v1/fleet/desired").json()["groups"][0]["plan"]["serving"] < count:
            time.sleep(0.2)
        yield row("a group until every daemon serves, time", time.monotonic() - started, "s")
        before = cpu_s(process)
        for _ in range(PASSES):
            http.get("/v1/fleet/desired").raise_for_status()
            time.sleep(QUIET_S)
        yield row(
            "a pass that reads every daemon and plans, CPU", (cpu_s(process) - before) / PASSES * 1e3, "ms"
        )
    yield row("memory of the service", process.memory_info().rss / 1e6, "MB")


QUIET_S = 3.0
"""Longer than a shared snapshot is used, so that each pass reads every daemon."""


async def serve(folder: Path, urls: list[str]) -> None:
    """Serve the actions API over the daemons, all of one site, with a host without GPUs."""
    started: asyncio.Future[tuple[str, Parts]] = asyncio.get_running_loop().create_future()
    daemons = [
        dataclasses.replace(daemon(url, name=f"box-{number}"), site="lab") for number, url in enumerate(urls)
    ]
    serving_it = asyncio.create_task(
        app.serve(
            settings(folder, *daemons, log_level="error"),
            ready=lambda url, parts: started.set_result((url, parts)),
            gpus={"nvidia": NoDriver()},
            timeouts=dataclasses.replace(QUICK, tick_s=5.0),
        )
    )
    url, parts = await started
    token = await make_token(parts.service.storage, "operate")
    for session in parts.service.daemons.values():
        await session.client.connected()
    print(json.dumps({"url": url, "token": token}), flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await serving_it


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Be the service that is measured.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("urls", nargs="+")
    chosen = parser.parse_args()
    raise_gc_threshold()
    asyncio.run(serve(chosen.folder, chosen.urls))
