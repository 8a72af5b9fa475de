"""Name the scenarios a simulator can play, and load what is in memory when it starts.

The generators are in `traffic` and `incidents`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from llmster_sim.models.load_config import SPLIT
from llmster_sim.traffic.incidents import BadMemory, Crash, Heat, Leak, Malformed, Restart, Stall, Stuck
from llmster_sim.traffic.plugin_agents import PluginAgents
from llmster_sim.traffic.steady import Agent, Burst, Steady, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmster_sim.engine.daemon import Daemon
    from llmster_sim.traffic.plugin_agents import NamedTools
    from llmster_sim.wire.faults import Faults

SCENARIOS = {
    "idle": "nothing happens; the initial instances stay as they are",
    "steady": "users chat with three models, some with tools; embeddings now and then",
    "burst": "a dozen requests at once every 45 s",
    "agent": "two agents with tools, each turn continuing the former one; with --mcp-json, tools that are there",
    "stuck": "steady, and after 20 s one instance generates for ever",
    "crash": "steady, and a busy engine process dies every two minutes",
    "stall": "steady, and every four minutes the daemon answers nothing for 90 s",
    "restart": "steady, and every four minutes the daemon is down for 90 s and comes back as a new process",
    "heat": "steady, and the GPUs' fans are blocked, so that they throttle",
    "malformed": "steady, and every 4 s a log frame no schema allows",
    "leak": "steady, and the daemon's memory grows with every request",
    "mig": "steady, on a data-centre GPU that is partitioned",
    "ecc": "steady, on a data-centre GPU whose memory goes bad: ECC errors, and an XID every minute",
    "demo": "steady, agent and burst at once: every panel has something to show",
}
_JOINED = {"demo": "steady+agent+burst"}


class Scenario:
    """Several generators that start and stop together."""

    def __init__(self, *, parts: list[Traffic]) -> None:
        self._parts = parts

    def start(self) -> None:
        """Begin, or go on after a stop."""
        for part in self._parts:
            part.start()

    def stop(self) -> None:
        """Cause nothing more."""
        for part in self._parts:
            part.stop()


def build(
    *,
    name: str,
    daemon: Daemon,
    faults: Faults,
    seed: int,
    real_leak: bool = False,
    bench: NamedTools | None = None,
) -> Scenario:
    """Give the scenario of that name; `steady+agent` plays both. Raises ValueError for an unknown one."""
    make: dict[str, Callable[..., Traffic]] = {
        "idle": Traffic,
        "steady": Steady,
        "burst": Burst,
        "agent": functools.partial(_agents, bench=bench),
        "stuck": Stuck,
        "crash": Crash,
        "stall": functools.partial(Stall, faults=faults),
        "restart": functools.partial(Restart, faults=faults),
        "heat": Heat,
        "malformed": functools.partial(Malformed, faults=faults),
        "leak": functools.partial(Leak, real=real_leak),
        "mig": Steady,
        "ecc": BadMemory,
    }
    parts: list[Traffic] = []
    names = "+".join(_JOINED.get(one, one) for one in name.split("+"))
    for number, part in enumerate(names.split("+")):
        if part not in make:
            raise ValueError(f"scenario must be one of {', '.join(SCENARIOS)}, got {part!r}")
        parts.append(make[part](daemon=daemon, seed=seed * 31 + number))
    return Scenario(parts=parts)


def _agents(*, daemon: Daemon, seed: int, bench: NamedTools | None) -> Traffic:
    """Give agents whose tools are really there, if there is a bench to find them on."""
    if bench is None:
        return Agent(daemon=daemon, seed=seed)
    return PluginAgents(daemon=daemon, seed=seed, bench=bench)


def load_initial(daemon: Daemon) -> None:
    """Load at once what every scenario starts with: a pinned model, a JIT one with TTL, an embedder.

    The largest on the first GPU and the other two on the second, so that both work.
    """
    have = {model.key for model in daemon.models}
    ttl_ms = daemon.settings.jit_ttl_s * 1000
    second = _preferring(len(daemon.gpus.all) - 1)
    if "qwen/qwen3-8b" in have:
        daemon.load("qwen/qwen3-8b", overrides=second, instant=True)
    if "openai/gpt-oss-20b" in have:
        daemon.load("openai/gpt-oss-20b", overrides=_preferring(0), jit=True, ttl_ms=ttl_ms, instant=True)
    if "text-embedding-nomic-embed-text-v1.5" in have:
        daemon.load("text-embedding-nomic-embed-text-v1.5", overrides=second, instant=True)


def _preferring(gpu: int) -> dict[str, object]:
    return {SPLIT: {"strategy": "priorityOrder", "disabledGpus": [], "priority": [gpu], "customRatio": []}}
