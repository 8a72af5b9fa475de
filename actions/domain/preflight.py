"""Decides whether a load fits: the corrected estimate against the free memory of each GPU. Pure.

Does not depend on NVML or the daemon. Missing values give the verdict unknown.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from actions.domain.correction import RATIO_BOUNDS

TIGHT_SHARE: Final = 0.05
TIGHT_BYTES: Final = 512 * 1024 * 1024
"""Less left than this share of the GPU, or these bytes, is tight: engines took 100 to 400 MB more than estimated."""


class Verdict(enum.StrEnum):
    """The result of a pre-flight."""

    FITS = "fits"
    TIGHT = "tight"
    DOES_NOT_FIT = "does_not_fit"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Gpu:
    """The memory of one GPU."""

    index: int
    total_bytes: int
    free_bytes: int
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds memory on a GPU. pid None is the sum of the smaller ones."""

    gpu: int
    memory_bytes: int
    pid: int | None = None
    process: str | None = None
    instance_id: str | None = None


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """What is free, who holds the rest, and where that is known from."""

    source: str
    gpus: tuple[Gpu, ...]
    holders: tuple[Holder, ...] = ()
    held_by_instance: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Bytes by GPU of each instance whose engine is known; ejecting it frees them."""
    host_available_bytes: int | None = None
    age_s: float = 0.0
    """How old the oldest number is; 0 for what was read now."""


@dataclass(frozen=True, slots=True)
class Need:
    """The daemon's own estimate of a load."""

    vram_bytes: int
    total_bytes: int
    """On the GPUs and in RAM together."""
    passes_guardrails: bool
    confidence: str | None = None


@dataclass(frozen=True, slots=True)
class Learned:
    """What loads of this model really took, over what the daemon had estimated."""

    ratio: float
    samples: int


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How the load is to be spread over the GPUs."""

    strategy: str = "evenly"
    disabled: tuple[int, ...] = ()
    priority: tuple[int, ...] = ()
    ratio: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """One GPU in the answer."""

    index: int
    name: str | None
    total_bytes: int
    free_bytes: int
    freed_by_replace_bytes: int
    needed_bytes: int
    """The share of this load under the chosen split."""
    left_bytes: int
    """What would be free afterwards; negative is what lacks."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """The verdict, and every number behind it."""

    verdict: Verdict
    reasons: tuple[str, ...]
    estimate: Need | None
    learned: Learned | None
    needed_bytes: int | None
    """The estimate times the learned ratio."""
    memory_source: str | None
    memory_age_seconds: float | None = None
    gpus: tuple[GpuPlan, ...] = ()
    holders: tuple[Holder, ...] = ()
    eject_would_free: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Write it as the API answers it."""
        body = asdict(self)
        body["eject_would_free"] = [
            {
                "instance_id": name,
                "bytes": sum(by_gpu.values()),
                "by_gpu": {str(gpu): size for gpu, size in by_gpu.items()},
            }
            for name, by_gpu in sorted(self.eject_would_free.items())
        ]
        return body


def judge(
    need: Need | str,
    memory: MemoryReading | str,
    *,
    learned: Learned | None,
    split: SplitPlan,
    replace: tuple[str, ...] = (),
) -> Preflight:
    """Judge a load. A string in place of `need` or `memory` is the reason why it is unknown."""
    estimate = need if isinstance(need, Need) else None
    reading = memory if isinstance(memory, MemoryReading) else None
    ratio = min(max(learned.ratio, RATIO_BOUNDS[0]), RATIO_BOUNDS[1]) if learned is not None else 1.0
    needed = round(estimate.vram_bytes * ratio) if estimate is not None else None
    reasons: list[str] = []
    gpus: tuple[GpuPlan, ...] = ()
    if estimate is None or needed is None:
        verdict = Verdict.UNKNOWN
        reasons.append(str(need))
    elif reading is None:
        verdict = Verdict.UNKNOWN
        reasons.append(str(memory))
    elif not reading.gpus:
        verdict = _judge_host(round(estimate.total_bytes * ratio), reading, reasons)
    else:
        gpus = _plan(needed, reading, split, replace)
        verdict = _judge_gpus(needed, gpus, split, reasons)
        unknown = [name for name in replace if name not in reading.held_by_instance]
        if unknown:
            reasons.append(f"what ejecting {', '.join(unknown)} frees is not known and counted as nothing")
    if estimate is not None and not estimate.passes_guardrails:
        verdict = Verdict.DOES_NOT_FIT
        reasons.append("the daemon's own guardrail would refuse it (modelLoadingGuardrails in its settings)")
    if learned is None and estimate is not None:
        reasons.append("no load of this model was measured yet; the daemon's estimate is taken as it is")
    return Preflight(
        verdict=verdict,
        reasons=tuple(reasons),
        estimate=estimate,
        learned=learned,
        needed_bytes=needed,
        memory_source=reading.source if reading else None,
        memory_age_seconds=reading.age_s if reading else None,
        gpus=gpus,
        holders=reading.holders if reading else (),
        eject_would_free=reading.held_by_instance if reading else {},
    )


def _judge_host(needed: int, reading: MemoryReading, reasons: list[str]) -> Verdict:
    """Judge a host without GPUs by its RAM."""
    available = reading.host_available_bytes
    if available is None:
        reasons.append("there is no GPU, and the free RAM is not known")
        return Verdict.UNKNOWN
    left = available - needed
    reasons.append(f"there is no GPU; of {_gib(available)} of free RAM {_gib(left)} would be left")
    if left < 0:
        return Verdict.DOES_NOT_FIT
    return Verdict.TIGHT if left < TIGHT_BYTES else Verdict.FITS


def _judge_gpus(needed: int, gpus: tuple[GpuPlan, ...], split: SplitPlan, reasons: list[str]) -> Verdict:
    usable = [gpu for gpu in gpus if gpu.index not in split.disabled]
    if needed == 0:
        reasons.append("nothing of it goes to a GPU")
        return Verdict.FITS
    if not usable:
        reasons.append("every GPU is disabled")
        return Verdict.DOES_NOT_FIT
    free = sum(gpu.free_bytes + gpu.freed_by_replace_bytes for gpu in usable)
    if needed > free:
        reasons.append(
            f"it needs {_gib(needed)}, and {_gib(free)} are free on GPU {_names(usable)}: {_gib(needed - free)} lack"
        )
        return Verdict.DOES_NOT_FIT
    short = [gpu for gpu in usable if gpu.left_bytes < 0]
    if short:
        # Assumed: whether the engine moves to another GPU what one cannot hold is not documented.
        reasons.append(
            f"it fits in sum, but the share of GPU {_names(short)} under split {split.strategy} does not fit there"
        )
        return Verdict.TIGHT
    tight = [gpu for gpu in usable if gpu.needed_bytes and gpu.left_bytes < _margin(gpu)]
    if tight:
        reasons.append(f"it leaves less than {_gib(_margin(tight[0]))} free on GPU {_names(tight)}")
        return Verdict.TIGHT
    return Verdict.FITS


def _plan(
    needed: int, reading: MemoryReading, split: SplitPlan, replace: tuple[str, ...]
) -> tuple[GpuPlan, ...]:
    freed = {
        gpu.index: sum(reading.held_by_instance.get(name, {}).get(gpu.index, 0) for name in replace)
        for gpu in reading.gpus
    }
    shares = {**dict.fromkeys(freed, 0), **shares_of(needed, reading.gpus, freed, split)}
    return tuple(
        GpuPlan(
            index=gpu.index,
            name=gpu.name,
            total_bytes=gpu.total_bytes,
            free_bytes=gpu.free_bytes,
            freed_by_replace_bytes=freed[gpu.index],
            needed_bytes=shares[gpu.index],
            left_bytes=gpu.free_bytes + freed[gpu.index] - shares[gpu.index],
        )
        for gpu in reading.gpus
    )


def shares_of(
    needed: int, gpus: tuple[Gpu, ...], freed: Mapping[int, int], split: SplitPlan
) -> dict[int, int]:
    """Spread a load over the usable GPUs. Source of the strategies' meaning: the official SDK's documentation."""
    rank = {index: position for position, index in enumerate(split.priority)}
    usable = sorted(
        (gpu for gpu in gpus if gpu.index not in split.disabled),
        key=lambda gpu: (rank.get(gpu.index, len(rank)), gpu.index),
    )
    if not usable:
        return {}
    if split.strategy == "priorityOrder":
        left, shares = needed, {}
        for gpu in usable:
            shares[gpu.index] = min(left, max(0, gpu.free_bytes + freed[gpu.index]))
            left -= shares[gpu.index]
        shares[usable[-1].index] += left
        return shares
    weights = {gpu.index: 1.0 for gpu in usable}
    if split.strategy == "custom" and split.ratio:
        weights = {
            gpu.index: split.ratio[gpu.index] if gpu.index < len(split.ratio) else 0.0 for gpu in usable
        }
    total = sum(weights.values())
    if total <= 0:
        weights, total = {gpu.index: 1.0 for gpu in usable}, float(len(usable))
    return {index: round(needed * weight / total) for index, weight in weights.items()}


def _margin(gpu: GpuPlan) -> int:
    return max(TIGHT_BYTES, round(gpu.total_bytes * TIGHT_SHARE))


def _names(gpus: list[GpuPlan]) -> str:
    return ", ".join(str(gpu.index) for gpu in gpus)


def _gib(size: int) -> str:
    return f"{size / 1024**3:.2f} GiB"
