"""The labelled faults: what is done to a world, which alert that leads to, and the cause a person would name.

A fault is a root and what it leads to; a double one has something else wrong at the same time. Labels are written here,
from what was done, and never read from the rules: `None` where what was done leaves no evidence. The root of two
that both lead to the alert is the one nearer to the hardware.
"""

import dataclasses
import itertools
import random
from collections.abc import Iterator

from llmster_sim.engine.daemon import Settings
from tests.causes.deeds import (
    TINY,
    Apply,
    Script,
    crash,
    crash_again_and_again,
    crash_at_start,
    down,
    driver_silent,
    ecc,
    ejected,
    expired,
    failing,
    filled,
    foreign,
    gpu_lost,
    host_memory,
    hot,
    jit_eviction,
    kv_line,
    leak,
    long_prompts,
    nothing,
    on_the_cpu,
    overload,
    second_copy,
    slow,
    stalled,
    steps,
    stuck,
    two_copies,
    unloaded,
    xid,
)
from tests.causes.world import World


@dataclasses.dataclass(frozen=True)
class Fault:
    """One labelled fault."""

    root: Apply
    script: Script
    alert: str
    label: str | None
    besides: tuple[Apply, ...] = ()
    """What may be wrong at the same time without leading to this alert."""
    scenario: str = "steady"
    jit_evicts: bool = False
    also: Apply = nothing

    @property
    def name(self) -> str:
        words = [self.root.__name__, self.script.__qualname__.split(".")[0]]
        if self.is_double:
            words.append(self.also.__name__)
        return " + ".join(word for word in words if word != "nothing")

    @property
    def is_double(self) -> bool:
        """Whether two things are wrong."""
        return self.also is not nothing

    @property
    def settings(self) -> Settings:
        return Settings(jit_evicts=self.jit_evicts)


_CRASHED, _EVICTED = "LlmsterEngineCrashed", "LlmsterEvictedWhileBusy"
_ERRORS, _TTFT = "LlmsterErrorBurnFast", "LlmsterTtftBurnFast"
_LABELS = {
    gpu_lost: "GPU lost",
    driver_silent: "GPU driver does not answer",
    ecc: "uncorrected ECC errors",
    xid: "XID error",
    host_memory: "host out of memory",
    foreign: "another process holds the VRAM",
}
_BY_CRASH = [
    # Where nothing else asks, an instance that went stays away.
    Fault(root, script, alert, label, (hot, kv_line), "idle" if alert == _EVICTED else "steady")
    for root, label in _LABELS.items()
    for script, alert in (
        (crash, _CRASHED),
        (crash, _EVICTED),
        (crash_again_and_again, _ERRORS),
    )
    # What the driver does not tell is seen after minutes, and the crash at once.
    if root is not driver_silent
]
FAULTS = (
    *_BY_CRASH,
    Fault(foreign, crash_at_start, _CRASHED, _LABELS[foreign], (hot,)),
    Fault(host_memory, crash_at_start, _CRASHED, _LABELS[host_memory], (hot, kv_line)),
    Fault(nothing, crash, _CRASHED, None, (hot, kv_line)),
    Fault(nothing, crash_at_start, _CRASHED, None, (hot, kv_line)),
    Fault(nothing, crash, _EVICTED, "engine crashed", (hot, kv_line), "idle"),
    Fault(nothing, crash_again_and_again, _ERRORS, "engine crashed", (hot, kv_line)),
    Fault(
        nothing,
        failing("Context size has been exceeded."),
        _ERRORS,
        "KV cache exhausted",
        (hot, foreign, xid, host_memory),
    ),
    Fault(
        nothing,
        failing("request (9120 tokens) exceeds the available context size (4096 tokens), try increasing it"),
        _ERRORS,
        "prompts longer than the context",
        (hot, foreign, xid, ecc),
    ),
    Fault(
        nothing,
        jit_eviction,
        _EVICTED,
        "evicted by a JIT load",
        (hot, foreign, xid, host_memory),
        "idle",
        jit_evicts=True,
    ),
    Fault(nothing, ejected, _EVICTED, "ejected through the actions API", (hot, foreign, xid, ecc), "idle"),
    Fault(nothing, expired, _EVICTED, "TTL expired while busy", (hot, xid), "idle"),
    Fault(nothing, unloaded, _EVICTED, None, (hot, xid, host_memory), "idle"),
    Fault(nothing, unloaded, _EVICTED, None, (hot, xid, host_memory), "idle", jit_evicts=True),
    Fault(host_memory, slow(0.1), _TTFT, _LABELS[host_memory], (xid, kv_line, hot), "idle"),
    Fault(hot, slow(0.1), _TTFT, "GPU throttled", (xid, kv_line, second_copy), "idle"),
    Fault(nothing, slow(0.1), _TTFT, None, (xid, kv_line, second_copy), "idle"),
    Fault(nothing, on_the_cpu, _TTFT, "model partly on the CPU", (xid, kv_line), "idle"),
    Fault(nothing, long_prompts, _TTFT, "long prompts", (xid, kv_line), "idle"),
    Fault(nothing, overload, _TTFT, "more requests than slots", (xid, kv_line, second_copy), "idle"),
    Fault(host_memory, down, "LlmsterDaemonDown", _LABELS[host_memory], (hot, xid, foreign), "idle"),
    Fault(nothing, down, "LlmsterDaemonDown", None, (hot, xid, foreign, gpu_lost), "idle"),
    Fault(host_memory, stalled, "LlmsterDaemonStalled", _LABELS[host_memory], (hot, xid, foreign), "idle"),
    Fault(driver_silent, stalled, "LlmsterDaemonStalled", _LABELS[driver_silent], (host_memory,), "idle"),
    Fault(gpu_lost, stalled, "LlmsterDaemonStalled", _LABELS[gpu_lost], (host_memory,), "idle"),
    Fault(nothing, stalled, "LlmsterDaemonStalled", None, (hot, xid, foreign), "idle"),
    Fault(gpu_lost, stuck, "LlmsterGenerationStuck", _LABELS[gpu_lost], (hot, foreign), "idle"),
    Fault(driver_silent, stuck, "LlmsterGenerationStuck", _LABELS[driver_silent], (kv_line,), "idle"),
    Fault(ecc, stuck, "LlmsterGenerationStuck", _LABELS[ecc], (hot, foreign), "idle"),
    Fault(xid, stuck, "LlmsterGenerationStuck", _LABELS[xid], (hot, host_memory), "idle"),
    Fault(host_memory, stuck, "LlmsterGenerationStuck", _LABELS[host_memory], (hot, foreign), "idle"),
    Fault(
        nothing,
        stuck,
        "LlmsterGenerationStuck",
        "engine hangs: its GPU is idle",
        (hot, foreign, kv_line),
        "idle",
    ),
    Fault(foreign, filled(), "GpuMemoryNearlyFull", _LABELS[foreign], (hot, xid, host_memory), "idle"),
    Fault(leak, filled(), "GpuMemoryNearlyFull", "VRAM leak", (hot, xid), "idle"),
    Fault(
        nothing, filled(two_copies), "GpuMemoryNearlyFull", "model loaded more than once", (hot, xid), "idle"
    ),
    Fault(
        nothing,
        filled(),
        "GpuMemoryNearlyFull",
        "loaded models fill the VRAM",
        (hot, xid, host_memory),
        "idle",
    ),
)


async def operator_restarts(world: World) -> None:
    await steps(world, 3)
    await world.sim.restart()
    await steps(world, 12)


async def operator_loads_and_ejects(world: World) -> None:
    for _ in range(4):
        world.sim.daemon.load(TINY, instant=True)
        await steps(world, 2)
        world.sim.daemon.unload(TINY)
        await steps(world, 2)


async def a_day(world: World) -> None:
    await steps(world, 20)


HEALTHY = (
    *(
        Fault(nothing, a_day, "", None, scenario=name)
        for name in ("idle", "steady", "agent", "burst", "demo", "mig")
    ),
    Fault(nothing, a_day, "", None, jit_evicts=True, scenario="burst"),
    Fault(nothing, operator_restarts, "", None),
    Fault(nothing, operator_loads_and_ejects, "", None),
)


def drawn(count: int, seed: int) -> Iterator[Fault]:
    """Give so many faults, each kind in turn, every other one with something else wrong at the same time.

    The order is mixed, so that a few of them are of many kinds.
    """
    rng = random.Random(seed)
    mixed = rng.sample(FAULTS, len(FAULTS))
    for number, fault in enumerate(itertools.islice(itertools.cycle(mixed), count)):
        double = fault.besides and (number + number // len(FAULTS)) % 2
        yield dataclasses.replace(fault, also=rng.choice(fault.besides)) if double else fault
