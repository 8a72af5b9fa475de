"""Hold our reading of the GPUs against nvidia-smi's, while a process allocates known amounts of memory.

For a host with an NVIDIA GPU and its driver: `python -m tests.hardware.compare_nvidia_smi`. Prints one line per
value and exits with 1 when a line disagrees, with 2 when there is nothing to compare. Needs no framework and no root;
takes about half a minute, and three times --mib of memory on the GPU for that long.
"""

import argparse
import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from exporter.hardware.errors import GpuError
from exporter.hardware.gpus import Device, GpuReading, Memory
from exporter.hardware.nvml.source import NvmlSource
from tests.hardware.comparison import GRANULE_MIB, MIB, STEPS, Line
from tests.hardware.cuda import Context, CudaError


@dataclass(frozen=True, slots=True)
class Field:
    """One column of `nvidia-smi --query-gpu`, our value in its unit, and how far apart the two may be."""

    name: str
    ours: Callable[[Device], float | None]
    tolerance: float | None
    """Absolute, in nvidia-smi's unit. None for what moves between two readings: only whether it is reported counts."""


def _memory(part: Callable[[Memory], int | None]) -> Callable[[Device], float | None]:
    def value(device: Device) -> float | None:
        size = None if device.memory is None or device.unified else part(device.memory)
        return None if size is None else size / MIB

    return value


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else ratio * 100


def _megahertz(hertz: float | None) -> float | None:
    return None if hertz is None else hertz / 1e6


def _ecc(kind: str) -> Callable[[Device], float | None]:
    def value(device: Device) -> float | None:
        counts = [count for (own, _), count in device.ecc_errors.items() if own == kind]
        return sum(counts) if counts else None

    return value


FIELDS = (
    Field("memory.total", _memory(lambda memory: memory.total_bytes), 1),
    Field("memory.reserved", _memory(lambda memory: memory.reserved_bytes), 2),
    Field("memory.used", _memory(lambda memory: memory.used_bytes), 8),
    Field("memory.free", _memory(lambda memory: memory.free_bytes), 8),
    Field("utilization.gpu", lambda device: _percent(device.utilization_ratio), None),
    Field("utilization.memory", lambda device: _percent(device.memory_busy_ratio), None),
    Field("temperature.gpu", lambda device: device.temperatures_celsius.get("gpu"), 3),
    Field("temperature.memory", lambda device: device.temperatures_celsius.get("memory"), 3),
    Field("power.draw", lambda device: device.power_watts, None),
    Field("enforced.power.limit", lambda device: device.power_limit_watts, 0.1),
    Field("clocks.sm", lambda device: _megahertz(device.clocks_hertz.get("sm")), None),
    Field("clocks.mem", lambda device: _megahertz(device.clocks_hertz.get("memory")), None),
    Field("clocks.max.sm", lambda device: _megahertz(device.clocks_max_hertz.get("sm")), 0.5),
    Field("clocks.max.mem", lambda device: _megahertz(device.clocks_max_hertz.get("memory")), 0.5),
    Field("fan.speed", lambda device: _percent(device.fan_ratios.get(0)), 5),
    Field("pcie.link.gen.current", lambda device: device.pcie.generation, None),
    Field("pcie.link.gen.max", lambda device: device.pcie.generation_max, 0),
    Field("pcie.link.width.current", lambda device: device.pcie.width, 0),
    Field("pcie.link.width.max", lambda device: device.pcie.width_max, 0),
    Field("ecc.errors.corrected.aggregate.total", _ecc("corrected"), 0),
    Field("ecc.errors.uncorrected.aggregate.total", _ecc("uncorrected"), 0),
)


def ask_nvidia_smi(query: str, columns: list[str]) -> list[list[str]]:
    """Run one query and return its rows."""
    ran = subprocess.run(
        ["nvidia-smi", f"--query-{query}={','.join(columns)}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(ran.stdout)) if row]


def number(cell: str) -> float | None:
    """Read a cell; None for the words nvidia-smi writes where a GPU does not report ("[N/A]", "[Not Supported]")."""
    try:
        return float(cell)
    except ValueError:
        return None


def compare_gpus(reading: GpuReading, rows: list[list[str]]) -> Iterator[Line]:
    """Compare every field of every GPU. A value that only one of the two reports is a difference."""
    by_uuid = {row[0]: row for row in rows}
    for device in reading.devices:
        row = by_uuid.pop(device.uuid or "", None)
        gpu = str(device.index)
        if row is None:
            yield Line(gpu, "uuid", device.uuid or "", "(not listed)", agrees=False)
            continue
        yield Line(gpu, "name", device.name or "", row[1], agrees=device.name == row[1])
        yield Line(
            gpu, "driver_version", reading.driver_version or "", row[2], reading.driver_version == row[2]
        )
        for field, cell in zip(FIELDS, row[3:], strict=True):
            ours, theirs = field.ours(device), number(cell)
            if ours is None or theirs is None:
                agrees = ours is None and theirs is None
            else:
                agrees = field.tolerance is None or abs(ours - theirs) <= field.tolerance
            yield Line(gpu, field.name, "absent" if ours is None else f"{ours:.2f}", cell, agrees)
    for uuid in by_uuid:
        yield Line("", "uuid", "(not listed)", uuid, agrees=False)


def compare_processes(reading: GpuReading, rows: list[list[str]]) -> Iterator[Line]:
    """Compare the memory of every compute process; those that came or went in between are left out."""
    theirs = {(row[0], int(row[1])): row[2] for row in rows}
    for device in reading.devices:
        for process in device.processes or ():
            cell = theirs.pop((device.uuid or "", process.pid), None)
            if cell is None:
                continue
            size, shown = process.memory_bytes, number(cell)
            agrees = size is None if shown is None else size is not None and abs(size / MIB - shown) <= 1
            ours = "absent" if size is None else f"{size / MIB:.2f}"
            yield Line(str(device.index), f"memory of pid {process.pid}", ours, cell, agrees)
    for (_, pid), cell in theirs.items():
        if pid == os.getpid():  # the one process that surely did not go in between
            yield Line("", f"memory of pid {pid}", "not listed", cell, agrees=False)


def compare_allocations(source: NvmlSource, uuid: str, mib: int) -> Iterator[Line]:
    """Allocate step by step; each step must show as its own size in our process and on the GPU, as we read them.

    In a container whose pids are its own, neither reader lists our process: then only the GPU is judged.
    """
    with Context() as context:
        context.allocate(mib * MIB)
        before = source.read()
        for step in range(2, STEPS + 1):
            context.allocate(mib * MIB)
            after = source.read()
            gpu = str(_gpu(after, uuid).index)
            lines = list(compare_processes(after, ask_nvidia_smi("compute-apps", COMPUTE_COLUMNS)))
            yield from (line for line in lines if line.what.endswith(f" {os.getpid()}"))
            for whose, size in (("our process", _own_bytes), ("the GPU", _used_bytes)):
                first, second = size(_gpu(before, uuid)), size(_gpu(after, uuid))
                if first is None or second is None:
                    print(f"{gpu:<4}step {step}: {whose} is not reported to us", flush=True)
                    continue
                grown = (second - first) / MIB
                what = f"step {step}: {whose} grew by"
                yield Line(
                    gpu, what, f"{grown:.2f}", f"{mib} (known)", agrees=abs(grown - mib) <= GRANULE_MIB
                )
            before = after


def _gpu(reading: GpuReading, uuid: str) -> Device:
    return next(device for device in reading.devices if device.uuid == uuid)


def _own_bytes(device: Device) -> int | None:
    return next((one.memory_bytes for one in device.processes or () if one.pid == os.getpid()), None)


def _used_bytes(device: Device) -> int | None:
    return None if device.memory is None or device.unified else device.memory.used_bytes


COMPUTE_COLUMNS = ["gpu_uuid", "pid", "used_memory"]
GPU_COLUMNS = ["uuid", "name", "driver_version", *(field.name for field in FIELDS)]


def main() -> int:
    """Compare, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mib", type=int, default=512, help="size of each of the three allocations")
    arguments = parser.parse_args()
    if shutil.which("nvidia-smi") is None:
        print("nvidia-smi is not installed here: nothing to compare with", file=sys.stderr)
        return 2
    # CUDA numbers GPUs by speed unless told otherwise, and sees them all unless told otherwise.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    source = NvmlSource()
    try:
        reading = source.read()
        if not reading.devices:
            print("no NVIDIA GPU on this host", file=sys.stderr)
            return 2
        uuid = reading.devices[0].uuid or ""
        os.environ["CUDA_VISIBLE_DEVICES"] = uuid
        print(f"{reading.devices[0].name}, driver {reading.driver_version}, CUDA {reading.cuda_version}")
        print(f"{'gpu':<4}{'value':<42}{'ours':>18}{'nvidia-smi':>18}")
        lines: list[Line] = []
        for line in _all_lines(source, reading, uuid, arguments.mib):
            print(line, flush=True)
            lines.append(line)
    except (GpuError, CudaError) as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        source.close()
    wrong = sum(not line.agrees for line in lines)
    print(f"{len(lines)} values compared, {wrong} differ")
    return 1 if wrong else 0


def _all_lines(source: NvmlSource, reading: GpuReading, uuid: str, mib: int) -> Iterator[Line]:
    yield from compare_gpus(reading, ask_nvidia_smi("gpu", GPU_COLUMNS))
    yield from compare_processes(reading, ask_nvidia_smi("compute-apps", COMPUTE_COLUMNS))
    yield from compare_allocations(source, uuid, mib)


if __name__ == "__main__":
    sys.exit(main())
