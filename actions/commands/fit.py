"""Answers which context of a model fits now, on which GPUs, and what would have to be ejected for more.

Changes nothing. Costs the daemon at most MAX_ESTIMATES estimates, one listing and the state of each instance.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from actions.commands import load_plan
from actions.commands.daemon_session import DaemonSession
from actions.domain.command import Load
from actions.domain.correction import Corrected, Sample, corrected
from actions.domain.errors import Problem, invalid
from actions.domain.evidence import STATE, Evidence, as_ever, knows_less, refuses
from actions.domain.fit import (
    LEAST_CONTEXT,
    MAX_ESTIMATES,
    ContextSearch,
    Evictable,
    Eviction,
    evict,
    freed_by,
    lacking,
)
from actions.domain.preflight import Gpu, MemoryReading, Need, SplitPlan, shares_of
from exporter.llmster.state import InstanceInfo


@dataclass(frozen=True, slots=True)
class _Estimated:
    """A context with the daemon's estimate and the correction by past loads."""

    context: int
    estimate_bytes: int
    need: Corrected


@dataclass(frozen=True, slots=True)
class Kept:
    """An instance that is never proposed for an eject, and why."""

    instance_id: str
    why: str


class _Room:
    """The memory of one question, and what a need of so many bytes lacks in it."""

    def __init__(self, reading: MemoryReading, split: SplitPlan) -> None:
        self.reading = reading
        self._split = split

    def shares(self, needed: int, freed: Mapping[int, int]) -> dict[int, int]:
        gpus: tuple[Gpu, ...] = self.reading.gpus
        return shares_of(needed, gpus, {gpu.index: freed.get(gpu.index, 0) for gpu in gpus}, self._split)

    def excess(self, needed: int, freed: Mapping[int, int]) -> int:
        """Tell what lacks, in bytes; at most 0 fits. Without a GPU the free RAM decides."""
        if not self.reading.gpus:
            return needed - (self.reading.host_available_bytes or 0)
        shares = self.shares(needed, freed)
        if needed and not shares:
            return needed
        return lacking(shares, {gpu.index: gpu.free_bytes for gpu in self.reading.gpus}, freed)


class Fit:
    """One question about one daemon."""

    EVIDENCE: ClassVar[Evidence] = (
        refuses("daemon-unreadable", "getInstanceProcessingState", *STATE),
        knows_less("listDownloadedModels", "maxContextLength"),
        as_ever("estimateModelUsage", "memory.confidence"),
        *load_plan.EVIDENCE,
    )

    def __init__(self, daemon: DaemonSession, kept: Callable[[str], Awaitable[Collection[str]]]) -> None:
        self._daemon = daemon
        self._kept = kept
        self._asked = 0

    async def answer(self, command: Load) -> dict[str, Any]:
        """Answer. With a context in the command only that one is judged. Raises Problem."""
        model = await load_plan.suited_model(self._daemon, command)
        listing = await self._daemon.instances()
        reading = await self._daemon.memory(listing.read, model)
        if isinstance(reading, str):
            raise Problem("memory-unknown", f"{model.model_key}: {reading}")
        if not reading.gpus and reading.host_available_bytes is None:
            raise Problem("memory-unknown", "there is no GPU, and the free RAM is not known")
        samples = await self._daemon.history.samples(self._daemon.name, model.model_key)
        room = _Room(reading, load_plan.split_plan(command.options))
        wanted = command.options.get("context_length")
        most = min(wanted or model.max_context_length or 0, model.max_context_length or wanted or 0)
        if not most:
            raise invalid(
                "context_length", None, "the daemon does not report the model's maximum; set this parameter"
            )
        search = ContextSearch(least=most if wanted else LEAST_CONTEXT, most=most)
        seen: dict[int, _Estimated] = {}
        while (context := search.next()) is not None:
            seen[context] = await self._estimate(command, context, samples, room)
            search.tell(context, room.excess(seen[context].need.upper, {}))
        target = seen[most] if search.fitting is None or search.fitting < most else None
        candidates, kept = await self._candidates(listing.read, reading)
        plan = None
        if target is not None:
            plan = evict(candidates, lambda freed: room.excess(target.need.upper, freed) <= 0)
        return {
            "model": model.model_key,
            "fits": search.fitting is not None,
            "now": _described(seen[search.fitting], room, {}) if search.fitting is not None else None,
            "wanted": _wanted(target, plan, candidates, room),
            "kept": [asdict(one) for one in kept],
            "max_context_length": model.max_context_length,
            "parallel": command.options.get("parallel"),
            "samples": seen[most].need.samples,
            "estimates": self._asked,
            "max_estimates": MAX_ESTIMATES,
            "memory_source": reading.source,
            "memory_age_seconds": reading.age_s,
        }

    async def _estimate(self, command: Load, context: int, samples: list[Sample], room: _Room) -> _Estimated:
        model = await self._daemon.model(command.model)
        options = {**command.options, "context_length": context}
        self._asked += 1
        need = await self._daemon.estimate(replace(command, options=options), model)
        if not isinstance(need, Need):
            raise Problem("memory-unknown", f"{model.model_key}: {need}")
        size = need.vram_bytes if room.reading.gpus else need.total_bytes
        return _Estimated(context, size, corrected(size, samples))

    async def _candidates(
        self, instances: tuple[InstanceInfo, ...], reading: MemoryReading
    ) -> tuple[list[Evictable], list[Kept]]:
        """Tell what may be evicted: never what is busy, pinned, or of unknown size."""
        pinned = await self._kept(self._daemon.name)
        candidates: list[Evictable] = []
        kept: list[Kept] = []
        for info in instances:
            name = info.identifier
            held = reading.held_by_instance.get(name)
            queued = await self._daemon.queued(info)
            if name in pinned:
                kept.append(Kept(name, "pinned"))
            elif queued != 0:
                kept.append(Kept(name, "busy" if queued else "state unknown"))
            elif not held:
                kept.append(Kept(name, "memory unknown"))
            else:
                candidates.append(Evictable(name, held))
        return candidates, kept


def _described(one: _Estimated, room: _Room, freed: Mapping[int, int]) -> dict[str, Any]:
    shares = room.shares(one.need.upper, freed) if room.reading.gpus else {}
    return {
        "context_length": one.context,
        "estimate_bytes": one.estimate_bytes,
        "expected_bytes": one.need.expected,
        "needed_bytes": one.need.upper,
        "gpus": [
            {
                "index": gpu.index,
                "name": gpu.name,
                "free_bytes": gpu.free_bytes,
                "freed_bytes": freed.get(gpu.index, 0),
                "needed_bytes": shares.get(gpu.index, 0),
            }
            for gpu in room.reading.gpus
        ],
    }


def _wanted(
    target: _Estimated | None, plan: Eviction | None, candidates: list[Evictable], room: _Room
) -> dict[str, Any] | None:
    """Describe the context that does not fit now, and what would have to go for it; None when all fits."""
    if target is None:
        return None
    evicted = plan.instances if plan is not None else ()
    freed = freed_by(one for one in candidates if one.instance_id in evicted)
    return {
        **_described(target, room, freed),
        "evict": list(plan.instances) if plan is not None else None,
        "is_minimal": plan.is_minimal if plan is not None else None,
    }
