"""Processes that benchmarks start beside themselves, so that what is measured is one process's alone.

Knows no number. Simulated daemons share one process, and the exporter has one of its own.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil

from daemonpulse.demo.programs import free_port

CONNECTED_WITHIN_S = 180
INSTANCES_EACH = 3
"""What an idle simulated daemon has loaded."""

SIMULATORS = """
import asyncio, dataclasses, json, sys
from llmster_sim.engine.daemon import Settings
from llmster_sim.server import SimConfig, Simulator
async def main():
    daemons, instances, speed = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    settings = Settings(guardrail="off")
    config = SimConfig(scenario="idle", gpus=0, settings=settings, speed=speed)
    sims = [Simulator(dataclasses.replace(config, seed=seed)) for seed in range(daemons)]
    for sim in sims:
        await sim.start()
        for name in [each.identifier for each in sim.daemon.loaded][instances:]:
            sim.daemon.unload(name)
        while len(sim.daemon.loaded) < instances:
            sim.daemon.load("qwen/qwen3-0.6b", instant=True)
    print(json.dumps([sim.url for sim in sims]), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@contextlib.contextmanager
def python(*arguments: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run a Python program meanwhile; give the first line it prints, and its process."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield running.stdout.readline(), psutil.Process(running.pid)
        finally:
            running.kill()


@contextlib.contextmanager
def simulators(count: int, *, instances: int = INSTANCES_EACH, speed: float = 1) -> Iterator[list[str]]:
    """Run simulated daemons in one other process; give their URLs. `speed` makes loads take no time."""
    with python("-c", SIMULATORS, str(count), str(instances), str(speed)) as (line, _):
        yield json.loads(line)


@contextlib.contextmanager
def exporter(urls: list[str], folder: Path, *, max_age_s: float = 1) -> Iterator[tuple[str, psutil.Process]]:
    """Run the real exporter process over these daemons; give its URL and process."""
    config = folder / "daemonpulse.toml"
    config.write_text(
        f"[exporter]\nmax_age_seconds = {max_age_s}\n"
        + "".join(f'[[daemons]]\nname = "d{n}"\nurl = "{url}"\n' for n, url in enumerate(urls))
    )
    listen = f"127.0.0.1:{free_port()}"
    program = str(Path(sys.executable).parent / "daemonpulse")
    command = [program, "exporter", "--config", str(config), "--listen", listen, "--log-level", "error"]
    with subprocess.Popen(command) as running:
        try:
            yield f"http://{listen}", psutil.Process(running.pid)
        finally:
            running.terminate()


def until_it_shows(http: httpx.Client, url: str, process: psutil.Process, *, instances: int) -> None:
    """Scrape until every instance is there: until then the exporter is still connecting. Raises RuntimeError."""
    give_up_at = time.monotonic() + CONNECTED_WITHIN_S
    while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < give_up_at:
        with contextlib.suppress(httpx.TransportError):
            if http.get(f"{url}/metrics").text.count("llmster_instance_info{") == instances:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the exporter did not show {instances} instances within {CONNECTED_WITHIN_S} s")


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds a process has used."""
    return float(sum(process.cpu_times()[:2]))


def best_of(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Return the least CPU seconds each work took, one after the other in every round: all meet the same host."""
    least = [float("inf")] * len(works)
    for _ in range(rounds):
        for index, work in enumerate(works):
            started = time.process_time()
            work()
            least[index] = min(least[index], time.process_time() - started)
    return least
