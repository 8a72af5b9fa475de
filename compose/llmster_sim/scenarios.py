"""Generate traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmster_sim.load_config import SPLIT

if TYPE_CHECKING:
    from llmster_sim.daemon import Daemon
    from llmster_sim.faults import Faults


class Scenario:
    """No traffic."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""


def build(*, name: str, daemon: Daemon, faults: Faults, seed: int) -> Scenario:
    """Give the scenario of that name."""
    return Scenario()


def load_initial(daemon: Daemon) -> None:
    """Load what is there at the start."""
    first = {SPLIT: {"strategy": "priorityOrder", "disabledGpus": [], "priority": [0], "customRatio": []}}
    daemon.load("qwen/qwen3-8b", overrides=first, instant=True)
    ttl_ms = daemon.settings.jit_ttl_s * 1000
    daemon.load("openai/gpt-oss-20b", overrides=first, jit=True, ttl_ms=ttl_ms, instant=True)
    daemon.load("text-embedding-nomic-embed-text-v1.5", overrides=first, instant=True)
