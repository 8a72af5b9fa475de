"""Time one reading of 8 GPUs with 64 processes, beside nvitop-exporter on the same fake library in the same run.

Printed, never asserted: `python -m tests.benchmarks nvml`. Needs gcc; nvitop-exporter is put into a throw-away virtual
environment with pip, and left out when that does not work. Every NVML call of the fake returns at once, so what shows
is what the readers themselves cost.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests import fake_nvml
from tests.benchmarks.table import Row

GPUS = 8
PROCESSES = 64
MIB = 1024 * 1024
ROOT = Path(__file__).parent.parent.parent

NVITOP = """
import json, statistics, sys, time
from nvitop import Device
from nvitop_exporter.exporter import PrometheusExporter
from prometheus_client import REGISTRY, generate_latest
exporter = PrometheusExporter(Device.all(), hostname="bench")
def read():
    exporter.update_host()
    for device in exporter.devices:
        exporter.update_device(device)
def scrape():
    read()
    return generate_latest(REGISTRY)
"""

MEASURE = """
def measure(work, rounds):
    for _ in range(3):
        work()
    walls = []
    cpu = time.process_time()
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        walls.append(time.perf_counter() - started)
    return {"wall_ms": statistics.median(walls) * 1e3, "cpu_ms": (time.process_time() - cpu) / rounds * 1e3}
rounds = int(sys.argv[1])
lines = sum(not line.startswith(b"#") for line in scrape().splitlines())
print(json.dumps({"read": measure(read, rounds), "scrape": measure(scrape, rounds), "series": lines}))
"""

OURS = """
import asyncio, json, statistics, sys, time
from tests.benchmarks.bench_nvml import prepare
read, scrape = prepare()
"""


def prepare() -> tuple[Callable[[], object], Callable[[], bytes]]:
    """Make our own reader, and a whole scrape of it as /metrics does it (no daemon)."""
    from exporter.collectors import gpu, host, vram
    from exporter.collectors.base import Scrape, run
    from exporter.hardware.host import LocalHost
    from exporter.hardware.nvml.source import NvmlSource
    from exporter.http.exposition import expose
    from exporter.pipeline.host_snapshot import HostWatch

    source = NvmlSource()
    host_watch = HostWatch({"nvidia": source}, LocalHost(), local=(), max_age_s=0)
    loop = asyncio.new_event_loop()
    collectors = (
        ("driver", gpu.collect_driver),
        ("gpu", gpu.collect),
        ("vram", vram.collect),
        ("host", host.collect),
    )

    async def scrape() -> bytes:
        gpus = await host_watch.read_gpus(within_s=60)
        seen = await host_watch.read(gpus, [], within_s=60)
        samples = run(collectors, Scrape(now_s=time.time(), daemons=(), host=seen))
        return expose(samples, accept="", accept_encoding="", names=()).body

    return NvmlSource().read, lambda: loop.run_until_complete(scrape())


@contextlib.contextmanager
def fake_host(
    library: Path, directory: Path, *, gpus: int = GPUS, processes: int = PROCESSES, pcie_us: int = 0
) -> Iterator[dict[str, str]]:
    """Describe the host, with real processes behind the pids, and give the environment that shows it."""
    sleepers = [subprocess.Popen(["sleep", "3600"]) for _ in range(processes)]
    lines = [f"count {gpus}", f"pcie_us {pcie_us}"]
    lines += [
        f"process {number % gpus} compute {sleeper.pid} {(number + 1) * 100 * MIB}"
        for number, sleeper in enumerate(sleepers)
    ]
    scenario = directory / "scenario.txt"
    scenario.write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        yield {
            **os.environ,
            "LD_LIBRARY_PATH": str(library.parent),
            fake_nvml.SCENARIO_VARIABLE: str(scenario),
        }
    finally:
        for sleeper in sleepers:
            sleeper.kill()
        for sleeper in sleepers:
            sleeper.wait()


def nvitop_python(directory: Path) -> Path | None:
    """Install nvitop-exporter into a virtual environment of its own; None when that does not work."""
    venv = directory / "nvitop"
    python = venv / "bin" / "python"
    try:
        subprocess.run([sys.executable, "-m", "venv", venv], check=True, capture_output=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "nvitop-exporter"], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"nvitop-exporter could not be installed ({error}); measuring ours alone", file=sys.stderr)
        return None
    return python


def measure(
    python: Path | str, script: str, environment: dict[str, str], rounds: int
) -> dict[str, dict[str, float]]:
    """Run one reader in a process of its own and return what it measured."""
    ran = subprocess.run(
        [python, "-c", script + MEASURE, str(rounds)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise SystemExit(f"the measured process failed:\n{ran.stderr}")
    found: dict[str, dict[str, float]] = json.loads(ran.stdout)
    return found


def rows(*, quick: bool) -> Iterator[Row]:
    """Ours beside nvitop-exporter's, where that can be installed. Every NVML call of the fake returns at once."""
    gcc = shutil.which("gcc")
    if gcc is None:
        print("NVML is left out: needs gcc (apt-get install gcc libc6-dev)", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        library = fake_nvml.build(Path(gcc), directory)
        other = None if quick else nvitop_python(directory)
        with fake_host(library, directory) as environment:
            rounds = 1 if quick else 100
            ours = measure(sys.executable, OURS, environment, rounds)
            theirs = measure(other, NVITOP, environment, rounds) if other is not None else None
        for what, key in (("read", "read"), ("read, names, shares, text", "scrape")):
            yield Row(
                what=f"{GPUS} GPUs, {PROCESSES} processes: {what}, CPU",
                ours=ours[key]["cpu_ms"],
                unit="ms",
                against="nvitop-exporter, the same" if theirs else "",
                floor=theirs[key]["cpu_ms"] if theirs else None,
                ratio_goal=1 if theirs else None,
            )
