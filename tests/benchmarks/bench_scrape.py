"""What a scrape costs: against bare prometheus-client, in daemon calls, and as an idle process beside a daemon.

Run as `python -m tests.benchmarks.bench_scrape`. Prints numbers and ratios; judges nothing. The daemons are simulated
ones in a process of their own, so that CPU and memory are the exporter's alone.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from prometheus_client import generate_latest
from prometheus_client.registry import Collector

from daemonpulse.programs import free_port
from exporter.collectors import COLLECTORS
from exporter.collectors.base import Samples, Scrape, WatchedDaemon, run
from exporter.exposition import expose
from exporter.llmster.client import DaemonClient
from exporter.pipeline.snapshots import DaemonWatch
from llmster_sim.server import SimConfig, Simulator

SCRAPE_EVERY_S = 15


def best_of(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Return the least CPU seconds each work took, one after the other in every round: all meet the same machine."""
    least = [float("inf")] * len(works)
    for _ in range(rounds):
        for index, work in enumerate(works):
            started = time.process_time()
            work()
            least[index] = min(least[index], time.process_time() - started)
    return least


class Prebuilt(Collector):
    """The floor: the same samples, already in prometheus-client's own shape."""

    def __init__(self, samples: Samples) -> None:
        self._families = list(samples.collect())

    def collect(self) -> Iterator[object]:  # type: ignore[override]
        return iter(self._families)


async def scrape_cost() -> None:
    """Collect and encode against bare generate_latest on the same samples; and the calls a scrape makes."""
    async with Simulator(SimConfig(scenario="idle")) as sim:
        watch = DaemonWatch(DaemonClient(name="box", url=sim.url), local_home=None, max_age_s=1.0)
        running = asyncio.create_task(watch.run())
        reading = await watch.read(within_s=5)
        assert reading.snapshot is not None
        scrape = Scrape(now_s=time.time(), daemons=(WatchedDaemon(reading, watch),))
        for copies in (1, 100):
            many = Scrape(now_s=time.time(), daemons=scrape.daemons * copies)
            samples = run(COLLECTORS, many)
            count = sum(len(family.samples) for family in samples.collect())
            rounds = 200 if copies == 1 else 20
            floor, ours, collected = best_of(
                rounds,
                lambda samples=samples: generate_latest(Prebuilt(samples)),  # type: ignore[misc]
                lambda many=many: expose(run(COLLECTORS, many), accept="", accept_encoding="identity"),  # type: ignore[misc]
                lambda many=many: run(COLLECTORS, many),  # type: ignore[misc]
            )
            print(
                f"scrape, {count:>6} samples    ours {ours * 1e3:8.2f} ms   "
                f"generate_latest {floor * 1e3:8.2f} ms   ratio {ours / floor:.2f}  (goal <= 1.2; "
                f"collecting {collected * 1e3:.2f} ms)"
            )
        instances = len(reading.snapshot.instances)
        await asyncio.sleep(1.1)  # older than the maximum age, so that the next reading costs calls
        before = Counter(sim.calls)
        await watch.read(within_s=5)
        fresh = sum((Counter(sim.calls) - before).values())
        before = Counter(sim.calls)
        await watch.read(within_s=5)
        again = sum((Counter(sim.calls) - before).values())
        print(
            f"daemon calls per scrape   {fresh} with {instances} instances  (goal 2 + instances = {2 + instances});  "
            f"within the maximum age {again}  (goal 0)"
        )
        running.cancel()


SIMULATORS = """
import asyncio, json, sys
from llmster_sim.server import SimConfig, Simulator
async def main():
    sims = [Simulator(SimConfig(scenario="idle", seed=n)) for n in range(int(sys.argv[1]))]
    for sim in sims:
        await sim.start()
    print(json.dumps([sim.url for sim in sims]), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@contextmanager
def simulators(count: int) -> Iterator[list[str]]:
    """Run simulated daemons in one other process; give their URLs."""
    with subprocess.Popen(
        [sys.executable, "-c", SIMULATORS, str(count)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def exporter(urls: list[str], folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Run the real exporter process over these daemons; give its URL and process."""
    config = folder / "daemonpulse.toml"
    config.write_text("".join(f'[[daemons]]\nname = "d{n}"\nurl = "{url}"\n' for n, url in enumerate(urls)))
    listen = f"127.0.0.1:{free_port()}"
    command = [
        str(Path(sys.executable).parent / "daemonpulse"),
        "exporter",
        "--config",
        str(config),
        "--listen",
        listen,
    ]
    with subprocess.Popen([*command, "--log-level", "error"]) as process:
        try:
            yield f"http://{listen}", psutil.Process(process.pid)
        finally:
            process.terminate()


def idle_cost(daemons: int, seconds: float) -> None:
    """CPU and memory of an exporter process that is scraped every 15 s."""
    with (
        tempfile.TemporaryDirectory() as folder,
        simulators(daemons) as urls,
        exporter(urls, Path(folder)) as (url, process),
        httpx.Client(trust_env=False, timeout=30) as http,
    ):
        while True:
            try:
                text = http.get(url + "/metrics").text
            except httpx.ConnectError:
                time.sleep(0.1)
                continue
            if text.count("llmster_instance_info{") == 3 * daemons:
                break
            time.sleep(0.2)
        before = process.cpu_times()
        started = time.monotonic()
        durations = []
        while time.monotonic() - started < seconds:
            time.sleep(min(SCRAPE_EVERY_S, max(0.0, seconds - (time.monotonic() - started))))
            scraped_at = time.perf_counter()
            response = http.get(url + "/metrics", headers={"accept-encoding": "gzip"})
            durations.append(time.perf_counter() - scraped_at)
            assert response.text.count("llmster_instance_info{") == 3 * daemons
        spent = sum(process.cpu_times()[:2]) - sum(before[:2])
        share = spent / (time.monotonic() - started)
        memory = process.memory_info().rss / 1e6
    goal = "  (goal < 0.5 %, < 70 MB)" if daemons == 1 else ""
    print(
        f"{daemons:>4} daemons, {seconds:.0f} s       CPU {share * 100:6.2f} % of a core   RSS {memory:6.1f} MB   "
        f"scrape {max(durations) * 1e3:7.1f} ms at most{goal}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long the idle process is watched")
    parser.add_argument(
        "--daemons", type=int, nargs="*", default=[1, 100], help="how many daemons it watches"
    )
    chosen = parser.parse_args()
    asyncio.run(scrape_cost())
    for count in chosen.daemons:
        idle_cost(count, chosen.seconds)


if __name__ == "__main__":
    main()
