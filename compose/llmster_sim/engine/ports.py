"""Declare what the parts of one instance need of the daemon and of each other, so that imports run one way only.

Protocols only: daemon.py and instances.py have them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from llmster_sim.clock import Clock
    from llmster_sim.engine import log_events
    from llmster_sim.engine.totals import Totals
    from llmster_sim.models.catalogue import Model
    from llmster_sim.models.load_config import LoadConfig


class Served(Protocol):
    """What a queue and its log lines need of the instance."""

    identifier: str
    reference: str
    model: Model
    config: LoadConfig
    pid: int | None
    speed: float


class Desk(Protocol):
    """What a queue and its log lines need of the daemon."""

    clock: Clock
    totals: Totals
    serving: bool

    def log(self, event: log_events.Event) -> None:
        """Publish a log event."""

    def engine_line(self, *, instance: Served, text: str, level: log_events.Level = "debug") -> None:
        """Publish a line of the instance's engine process."""

    def show_load(self) -> None:
        """Notice that the number of running jobs changed somewhere."""

    def next_task(self) -> int:
        """Give a task number, unique while the daemon runs."""

    def keeps_stats(self, task: int) -> bool:
        """Whether this prediction's output event carries its stats."""

    @property
    def logs_prompts(self) -> bool:
        """Whether prediction events are published at all."""
