"""What a scrape costs: against bare prometheus-client, in daemon calls, and as an idle process beside a daemon.

Run as `python -m tests.benchmarks scrape idle`. Judges nothing. The daemons of the idle rows are simulated ones in a
process of their own, so that CPU and memory are the exporter's alone.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
from prometheus_client import generate_latest
from prometheus_client.registry import Collector

from exporter.collectors import COLLECTORS
from exporter.collectors.base import Samples, Scrape, WatchedDaemon, run
from exporter.http.exposition import expose
from exporter.llmster.client import DaemonClient
from exporter.pipeline.snapshots import DaemonWatch
from exporter.shared import process
from llmster_sim.server import SimConfig, Simulator
from tests.benchmarks.processes import INSTANCES_EACH, best_of, cpu_s, exporter, simulators, until_it_shows
from tests.benchmarks.table import Row

SCRAPE_EVERY_S = 15


class Prebuilt(Collector):
    """The floor: the same samples, already in prometheus-client's own shape."""

    def __init__(self, samples: Samples) -> None:
        self._families = list(samples.collect())

    def collect(self) -> Iterator[object]:  # type: ignore[override]
        return iter(self._families)


def rows(*, quick: bool) -> Iterator[Row]:
    """Collect and encode against bare generate_latest on the same samples; and the calls a scrape makes."""
    process.raise_gc_threshold()  # as the exporter does
    yield from asyncio.run(_scrapes(rounds=2 if quick else 200))


async def _scrapes(*, rounds: int) -> list[Row]:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        watch = DaemonWatch(DaemonClient(name="box", url=sim.url), local_home=None, max_age_s=60)
        running = asyncio.create_task(watch.run())
        await watch.client.settled(within_s=30)
        reading = await watch.read(within_s=5)
        assert reading.snapshot is not None
        scrape = Scrape(now_s=time.time(), daemons=(WatchedDaemon(reading),), own=process.read())
        found = [_cost(scrape, 1, rounds), _cost(scrape, 100, max(2, rounds // 10))]
        instances = len(reading.snapshot.instances)
        watch._snapshots.latest = None  # as if older than any maximum age
        before = Counter(sim.calls)
        await watch.read(within_s=5)
        found.append(
            Row(
                what=f"daemon calls of a scrape, {instances} instances",
                ours=sum((Counter(sim.calls) - before).values()),
                unit="calls",
                against="2 and one per instance",
                floor=2 + instances,
                ratio_goal=1,
            )
        )
        before = Counter(sim.calls)
        await watch.read(within_s=5)
        again = sum((Counter(sim.calls) - before).values())
        found.append(Row(what="... within the maximum age", ours=again, unit="calls", goal=0))
        running.cancel()
    return found


def _cost(scrape: Scrape, copies: int, rounds: int) -> Row:
    many = Scrape(now_s=scrape.now_s, daemons=scrape.daemons * copies, own=scrape.own)
    samples = run(COLLECTORS, many)
    floor, ours = best_of(
        rounds,
        lambda: generate_latest(Prebuilt(samples)),
        lambda: expose(run(COLLECTORS, many), accept="", accept_encoding="identity"),
    )
    return Row(
        what=f"collect and encode {sum(len(each.samples) for each in samples.collect()):,} samples",
        ours=ours * 1e3,
        unit="ms",
        against="generate_latest on the same",
        floor=floor * 1e3,
        ratio_goal=1.15,
    )


def idle_rows(*, quick: bool) -> Iterator[Row]:
    """CPU and memory of an exporter process that is scraped every 15 s."""
    for daemons in (1,) if quick else (1, 100):
        share, memory_mb = _idle(daemons, seconds=0.5 if quick else 45)
        single = daemons == 1
        what = f"idle exporter, {daemons} daemon{'' if single else 's'}"
        yield Row(what=f"{what}, CPU", ours=share * 100, unit="%", goal=0.5 if single else None)
        yield Row(what=f"{what}, memory", ours=memory_mb, unit="MB", goal=70 if single else None)


def _idle(daemons: int, seconds: float) -> tuple[float, float]:
    with (
        tempfile.TemporaryDirectory() as folder,
        simulators(daemons) as urls,
        exporter(urls, Path(folder)) as (url, process),
        httpx.Client(trust_env=False, timeout=30) as http,
    ):
        until_it_shows(http, url, process, instances=INSTANCES_EACH * daemons)
        before, started = cpu_s(process), time.monotonic()
        while (left_s := seconds - (time.monotonic() - started)) > 0:
            time.sleep(min(SCRAPE_EVERY_S, left_s))
            http.get(f"{url}/metrics", headers={"accept-encoding": "gzip"}).raise_for_status()
        share = (cpu_s(process) - before) / (time.monotonic() - started)
        return share, process.memory_info().rss / 1e6
