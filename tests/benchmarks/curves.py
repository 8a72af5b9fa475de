"""How cost grows with daemons, instances, GPUs and concurrent scrapes: CPU and memory of the exporter's own process.

Run as `python -m tests.benchmarks curves`. Each row is the cost of one unit beside that of one unit at the size before,
so that a curve that bends upwards shows as a ratio above 1.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from tests import fake_nvml
from tests.benchmarks import bench_nvml
from tests.benchmarks.processes import INSTANCES_EACH, cpu_s, exporter, simulators, until_it_shows
from tests.benchmarks.table import Row, curve

COUNTED_FROM_S = 0.3
"""Scrapes are repeated until they have cost this much: the kernel counts CPU in ticks of 0.01 s."""
PATIENT = {"x-prometheus-scrape-timeout-seconds": "60"}


def rows(*, quick: bool) -> Iterator[Row]:
    """Every curve, from its smallest size on."""
    yield from _daemons((1,) if quick else (1, 10, 100, 1000), quick=quick)
    yield from _instances((1,) if quick else (1, 10, 100, 1000), quick=quick)
    yield from _concurrent_scrapes((1,) if quick else (1, 10, 50), rounds=1 if quick else 300)
    yield from _gpus((1,) if quick else (1, 8, 64), rounds=1 if quick else 30)


def _daemons(sizes: tuple[int, ...], *, quick: bool) -> Iterator[Row]:
    costs, memory = [], []
    for size in sizes:
        try:
            cpu_ms, rss_mb = _scraped(size, INSTANCES_EACH, quick=quick)
        except RuntimeError as problem:  # a busy host: what smaller sizes cost is still worth a row
            print(f"{size:,} daemons are left out: {problem}", file=sys.stderr)
            break
        costs.append((size, cpu_ms))
        memory.append((size, rss_mb))
    yield from curve("daemons: CPU of a fresh scrape", "ms", "daemon", costs)
    yield from curve("daemons: memory of the exporter", "MB", "daemon", memory)


def _instances(sizes: tuple[int, ...], *, quick: bool) -> Iterator[Row]:
    costs = [(size, _scraped(1, size, quick=quick)[0]) for size in sizes]
    yield from curve("instances: CPU of a fresh scrape", "ms", "instance", costs)


def _scraped(daemons: int, instances: int, *, quick: bool) -> tuple[float, float]:
    """CPU milliseconds of a scrape that has to ask the daemons, and the exporter's memory in MB thereafter."""
    shown = daemons * instances
    with (
        tempfile.TemporaryDirectory() as folder,
        simulators(daemons, instances=instances) as urls,
        exporter(urls, Path(folder), max_age_s=0) as (url, process),
        httpx.Client(trust_env=False, timeout=60, headers=PATIENT) as http,
    ):
        until_it_shows(http, url, process, instances=shown)
        least_s = min(_fresh_scrape(http, url, process, shown, quick=quick) for _ in range(1 if quick else 3))
        return least_s * 1e3, process.memory_info().rss / 1e6


def _fresh_scrape(http: httpx.Client, url: str, process: psutil.Process, shown: int, *, quick: bool) -> float:
    spent_s, scrapes = 0.0, 0
    while spent_s < (0 if quick else COUNTED_FROM_S) or not scrapes:
        before = cpu_s(process)
        text = http.get(f"{url}/metrics").text
        if (
            text.count("llmster_instance_info{") == shown
        ):  # else the simulators were too slow, which is not ours
            spent_s, scrapes = spent_s + cpu_s(process) - before, scrapes + 1
    return spent_s / scrapes


def _concurrent_scrapes(sizes: tuple[int, ...], *, rounds: int) -> Iterator[Row]:
    """Scrapes that come at once share one reading of the daemon, and are each collected and encoded."""
    costs = []
    with (
        tempfile.TemporaryDirectory() as folder,
        simulators(1) as urls,
        exporter(urls, Path(folder)) as (url, process),
        httpx.Client(trust_env=False, timeout=60, limits=httpx.Limits(max_connections=max(sizes))) as http,
    ):
        until_it_shows(http, url, process, instances=INSTANCES_EACH)
        for size in sizes:
            before, times = cpu_s(process), max(1, rounds // size)
            with ThreadPoolExecutor(size) as pool:
                for answer in pool.map(lambda _: http.get(f"{url}/metrics"), range(size * times)):
                    answer.raise_for_status()
            costs.append((size, (cpu_s(process) - before) / times * 1e3))
    yield from curve("concurrent scrapes: CPU of one", "ms", "scrape", costs)


def _gpus(sizes: tuple[int, ...], *, rounds: int) -> Iterator[Row]:
    """GPUs of the fake library, with 8 processes each: read through the genuine pynvml, collected and encoded."""
    gcc = shutil.which("gcc")
    if gcc is None:
        print("GPUs are left out: needs gcc (apt-get install gcc libc6-dev)", file=sys.stderr)
        return
    costs = []
    with tempfile.TemporaryDirectory() as name:
        library = fake_nvml.build(Path(gcc), Path(name))
        for size in sizes:
            with bench_nvml.fake_host(library, Path(name), gpus=size, processes=8 * size) as environment:
                found = bench_nvml.measure(sys.executable, bench_nvml.OURS, environment, rounds)
            costs.append((size, found["scrape"]["cpu_ms"]))
    yield from curve("GPUs: CPU of reading, collecting, encoding", "ms", "GPU", costs)
