"""What the comparisons with vendors' tools share: a compared value, and memory of a known size that must show."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from exporter.hardware.drm.source import DrmSource
from exporter.hardware.gpus import Device
from tests.hardware.opencl import Context

MIB = 1024 * 1024
STEPS = 3
"""Allocations made one on top of the other; every step after the first must show as its own size."""
GRANULE_MIB = 8
"""How far a step may be off: drivers round allocations up, and other processes on the GPU do not stand still."""


@dataclass(frozen=True, slots=True)
class Line:
    """One compared value."""

    gpu: str
    what: str
    ours: str
    theirs: str
    agrees: bool

    def __str__(self) -> str:
        return f"{self.gpu:<14}{self.what:<42}{self.ours:>18}{self.theirs:>18}  {'ok' if self.agrees else 'DIFFERS'}"


def compare(gpu: str, what: str, ours: float | None, theirs: float | None, tolerance: float | None) -> Line:
    """Compare one value; a tolerance of None is for what moves: only whether both report it counts."""
    if ours is None or theirs is None:
        agrees = ours is None and theirs is None
    else:
        agrees = tolerance is None or abs(ours - theirs) <= tolerance
    return Line(gpu, what, _text(ours), _text(theirs), agrees)


def compare_allocations(source: DrmSource, vendor: str, mib: int, pid: int) -> Iterator[Line]:
    """Allocate step by step by OpenCL; each step must show as its own size in our process and on one GPU.

    Which GPU OpenCL takes is found by where our process shows.
    """
    with Context(vendor) as context:
        context.allocate(mib * MIB)
        before = source.read().devices
        for step in range(2, STEPS + 1):
            context.allocate(mib * MIB)
            after = source.read().devices
            device = next((one for one in after if _own_bytes(one, pid)), None)
            if device is None:
                yield Line("", f"step {step}: our process", "not listed", "listed", agrees=False)
                return
            earlier = next(one for one in before if one.index == device.index)
            for whose, size in (("our process", _own_bytes), ("the GPU", _used_bytes)):
                first, second = size(earlier, pid), size(device, pid)
                if first is None or second is None:
                    print(f"step {step}: {whose} is not reported by the driver", flush=True)
                    continue
                yield compare(
                    str(device.pci_bus_id),
                    f"step {step}: {whose} grew by, MiB",
                    (second - first) / MIB,
                    mib,
                    GRANULE_MIB,
                )
            before = after


def verdict(lines: Iterable[Line]) -> int:
    """Print every line as it comes, then the sum; give the exit code."""
    compared = wrong = 0
    print(f"{'gpu':<14}{'value':<42}{'ours':>18}{'theirs':>18}")
    for line in lines:
        print(line, flush=True)
        compared, wrong = compared + 1, wrong + (not line.agrees)
    print(f"{compared} values compared, {wrong} differ")
    return 1 if wrong else 0


def _own_bytes(device: Device, pid: int) -> int | None:
    return next((one.memory_bytes for one in device.processes or () if one.pid == pid), None)


def _used_bytes(device: Device, _pid: int) -> int | None:
    return None if device.memory is None else device.memory.used_bytes


def _text(value: float | None) -> str:
    return "absent" if value is None else f"{value:.2f}"
