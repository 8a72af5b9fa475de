"""Time one reading of 8 AMD GPUs by the kernel's files, with 550 processes that hold one DRM file each, and more.

Printed, never asserted: `python -m tests.benchmarks drm`. The files are ordinary ones in a temporary directory; a real
/sys and /proc cost what their drivers take beside.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from exporter.hardware.drm.source import DrmSource
from tests.benchmarks.table import Row
from tests.fake_drm.gpus import add_rx_7900_at
from tests.fake_drm.kernel import amd_client
from tests.fake_drm.tree import FakeHost

GPUS = 8
PROCESSES = 550
OTHER_FILES = 24
"""Descriptors of a process that are no GPU's."""
GOAL_MS = 25


def rows(*, quick: bool) -> Iterator[Row]:
    """One reading where every process uses a GPU, and one where 64 of them do; against bare reads of the same files."""
    rounds = 2 if quick else 40
    for users in (PROCESSES, 64):
        with tempfile.TemporaryDirectory() as name:
            host = build(FakeHost(Path(name)), users=20 if quick else users)
            source = DrmSource(sysfs=str(host.sysfs), procfs=str(host.procfs), share=str(host.share))
            started = time.process_time()
            source.read()
            first_ms = (time.process_time() - started) * 1e3
            read = cpu_ms(lambda source=source: source.read(), rounds)  # type: ignore[misc]
            files = [path for path in host.procfs.glob("*/fdinfo/*") if int(path.name) >= OTHER_FILES]
            floor = cpu_ms(lambda files=files: [path.read_bytes() for path in files], rounds)  # type: ignore[misc]
        what = f"{GPUS} AMD GPUs, {PROCESSES} processes, {users} on GPUs"
        yield Row(
            what=f"{what}: read, CPU",
            ours=read,
            unit="ms",
            against="their fdinfo files, unparsed",
            floor=floor,
            goal=GOAL_MS,
        )
        yield Row(what=f"{what}: first read, CPU", ours=first_ms, unit="ms")


def build(host: FakeHost, *, users: int) -> FakeHost:
    """Lay out the host."""
    addresses = [f"0000:{bus:02x}:00.0" for bus in range(0x10, 0x10 + GPUS)]
    for number, address in enumerate(addresses):
        add_rx_7900_at(host, f"0000:00:01.1/{address}", number=number)
    for pid in range(1000, 1000 + PROCESSES):
        gpu = addresses[pid % GPUS]
        clients = [amd_client(gpu, pid, vram_kib=pid)] if pid < 1000 + users else []
        host.add_process(pid, *clients, other_files=OTHER_FILES)
    return host


def cpu_ms(work: Callable[[], object], rounds: int) -> float:
    """Measure CPU time of one round, after some that fill caches."""
    for _ in range(8 if rounds > 2 else 1):
        work()
    started = time.process_time()
    for _ in range(rounds):
        work()
    return (time.process_time() - started) / rounds * 1e3
