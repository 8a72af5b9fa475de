"""Serve chat routes (to come)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmster_sim.clock import Clock
    from llmster_sim.daemon import Daemon
    from llmster_sim.http import Router


class ChatRoutes:
    """Routes."""

    def __init__(self, *, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._clock = clock

    def add_to(self, router: Router) -> None:
        """Take over the routes."""
