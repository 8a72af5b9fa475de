"""Simulate the processor time of an engine: some of a core for each request it works on."""

from __future__ import annotations

# Assumed: an engine with all layers on a GPU mostly waits for it, and samples tokens in between.
_CORES_PER_REQUEST = 0.35


class CpuTime:
    """Processor time as a function of how many requests ran when."""

    __slots__ = ("_at_s", "_running", "_used_s")

    def __init__(self) -> None:
        self._at_s = 0.0
        self._running = 0
        self._used_s = 0.0

    def set_running(self, running: int, *, now_s: float) -> None:
        """Change how many requests run from now on."""
        self._used_s = self.seconds(now_s)
        self._at_s = now_s
        self._running = running

    def seconds(self, now_s: float) -> float:
        """Seconds used since the engine started."""
        return self._used_s + _CORES_PER_REQUEST * self._running * max(0.0, now_s - self._at_s)
