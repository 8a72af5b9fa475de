"""Simulate GPUs: memory per process, load, heat and power as functions of virtual time.

Does not depend on models or daemons: a process is a pid with bytes, and load is set from outside.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmster_sim.host.gpu_specs import GpuSpec
    from llmster_sim.models.load_config import Split

_MIB = 1024 * 1024
# Time for a GPU to cover 63 % of the way to its new temperature. Assumed: a two-slot air-cooled GPU.
_HEAT_TIME_S = 45.0
_AMBIENT_C = 31.0
# What blocked fans add; enough to slow a busy GPU down.
_TRAPPED_C = 28.0
# Generating is limited by memory, not by arithmetic.
_MEMORY_BOUND = 0.82
# From this load on a GPU is at its power limit.
_CAPPED_LOAD = 0.85


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """What a management library would report of one GPU at one instant."""

    index: int
    spec: GpuSpec
    used_bytes: int
    utilization: float
    memory_busy: float
    temperature_c: float
    memory_temperature_c: float
    power_w: float
    energy_j: float
    """Since the simulator started."""
    clock_mhz: float
    hot: bool
    """Slowed down by heat."""
    power_capped: bool
    fan: float
    sent_bytes: float
    received_bytes: float
    """Over PCIe in one second."""
    nvlink_bytes: float
    ecc_corrected: int
    ecc_uncorrected: int
    processes: tuple[tuple[int, int], ...]


class Gpu:
    """One GPU; heat follows load with a delay, so readings depend only on the history of loads."""

    __slots__ = (
        "_at_s",
        "_busy_s",
        "_energy_j",
        "_temperature_c",
        "_trapped_c",
        "ecc_corrected",
        "ecc_uncorrected",
        "index",
        "load",
        "processes",
        "spec",
        "xids",
    )

    def __init__(self, *, index: int, spec: GpuSpec) -> None:
        self.index = index
        self.spec = spec
        self.processes: dict[int, int] = {}
        self.load = 0.0
        self.ecc_corrected = self.ecc_uncorrected = 0
        self.xids: Counter[int] = Counter()
        self._at_s = 0.0
        self._busy_s = 0.0
        self._energy_j = 0.0
        self._trapped_c = 0.0
        self._temperature_c = self._target_c()

    @property
    def used_bytes(self) -> int:
        """Bytes of every process, the daemon's and foreign."""
        return sum(self.processes.values())

    @property
    def free_bytes(self) -> int:
        """Bytes a new process could still allocate."""
        return self.spec.total_bytes - self.used_bytes

    def _target_c(self) -> float:
        return _AMBIENT_C + 8.0 + (self.spec.full_load_c - _AMBIENT_C - 8.0) * self.load + self._trapped_c

    def block_fans(self, *, blocked: bool, now_s: float) -> None:
        """Keep the heat in, or let it out, from now on."""
        self._settle(now_s)
        self._trapped_c = _TRAPPED_C if blocked else 0.0

    def set_load(self, *, load: float, now_s: float) -> None:
        """Change the load (0..1) from now on."""
        self._settle(now_s)
        self.load = min(1.0, max(0.0, load))

    def _settle(self, now_s: float) -> None:
        passed_s = max(0.0, now_s - self._at_s)
        share = math.exp(-passed_s / _HEAT_TIME_S)
        target_c = self._target_c()
        self._temperature_c = target_c + (self._temperature_c - target_c) * share
        self._energy_j += self._power_w() * passed_s
        self._busy_s += self.load * passed_s
        self._at_s = now_s

    def _power_w(self) -> float:
        return self.spec.idle_w + (self.spec.max_w - self.spec.idle_w) * self.load

    def read(self, now_s: float) -> GpuState:
        """Report the GPU as it is at `now_s`."""
        self._settle(now_s)
        spec, load = self.spec, self.load
        hot = self._temperature_c >= spec.slow_c
        power_capped = load >= _CAPPED_LOAD
        slowed = (0.9 if hot else 1.0) * (0.97 if power_capped else 1.0)
        heat = (self._temperature_c - _AMBIENT_C) / (spec.full_load_c - _AMBIENT_C)
        return GpuState(
            index=self.index,
            spec=spec,
            used_bytes=self.used_bytes,
            utilization=load,
            memory_busy=round(load * _MEMORY_BOUND, 3),
            temperature_c=round(self._temperature_c, 1),
            memory_temperature_c=round(self._temperature_c + 6 + 8 * load, 1),
            power_w=round(self._power_w(), 1),
            energy_j=self._energy_j,
            clock_mhz=round((spec.clock_mhz if load else spec.clock_mhz / 12) * slowed),
            hot=hot,
            power_capped=power_capped,
            fan=round(min(1.0, max(0.0, heat)), 2),
            sent_bytes=round(load * 40 * _MIB),
            received_bytes=round(load * 160 * _MIB),
            nvlink_bytes=round(self._busy_s * 900 * _MIB) if spec.nvlinks else 0,
            ecc_corrected=self.ecc_corrected,
            ecc_uncorrected=self.ecc_uncorrected,
            processes=tuple(sorted(self.processes.items())),
        )


class Gpus:
    """The GPUs of one host, and the placing of a process over them by split strategy."""

    def __init__(self, *, specs: Sequence[GpuSpec]) -> None:
        self.all = tuple(Gpu(index=index, spec=spec) for index, spec in enumerate(specs))

    def add_foreign(self, *, pid: int, index: int, size_bytes: int) -> None:
        """Let a process that is not the daemon's take memory; the daemon's guardrail does not see it."""
        self.all[index].processes[pid] = size_bytes

    def release(self, pid: int) -> None:
        """Free whatever the process holds on any GPU."""
        for gpu in self.all:
            gpu.processes.pop(pid, None)

    def usable(self, split: Split) -> list[Gpu]:
        """GPUs the split allows, in the order it wants them filled."""
        allowed = [gpu for gpu in self.all if gpu.index not in split.disabled]
        rank = {index: position for position, index in enumerate(split.priority)}
        return sorted(allowed, key=lambda gpu: (rank.get(gpu.index, len(rank)), gpu.index))

    def place(self, *, pid: int, size_bytes: int, split: Split) -> bool:
        """Allocate `size_bytes` for `pid`; False, and nothing taken, when it does not fit."""
        gpus = self.usable(split)
        if size_bytes == 0:
            return True
        shares = _shares(gpus=gpus, size_bytes=size_bytes, split=split)
        if shares is None:
            return False
        for gpu, share in zip(gpus, shares, strict=True):
            if share:
                gpu.processes[pid] = share
        return True

    def read(self, now_s: float) -> tuple[GpuState, ...]:
        """Report every GPU."""
        return tuple(gpu.read(now_s) for gpu in self.all)


def _shares(*, gpus: Sequence[Gpu], size_bytes: int, split: Split) -> list[int] | None:
    """Bytes per GPU. Assumed: what a share cannot hold spills to the next GPU with room."""
    if split.strategy == "priorityOrder" or len(gpus) <= 1:
        weights = [1.0] + [0.0] * (len(gpus) - 1)
    elif split.strategy == "custom" and split.ratio:
        weights = [split.ratio[gpu.index] if gpu.index < len(split.ratio) else 0.0 for gpu in gpus]
    else:
        weights = [1.0] * len(gpus)
    total = sum(weights)
    if not gpus or total <= 0:
        return None
    shares = [
        min(gpu.free_bytes, int(size_bytes * weight / total))
        for gpu, weight in zip(gpus, weights, strict=True)
    ]
    left = size_bytes - sum(shares)
    for position, gpu in enumerate(gpus):
        room = min(left, gpu.free_bytes - shares[position])
        shares[position] += room
        left -= room
    return shares if left == 0 else None


def mebibytes(count: int) -> int:
    """Bytes in `count` MiB."""
    return count * _MIB
