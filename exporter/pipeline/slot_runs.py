"""Stores when slots worked, which separates a request's run from its wait for a slot. Pure.

The log does not say which slot served a request. Both end at the same moment, which is enough to find it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from exporter.pipeline.slot_state import Slot

MOST_RUNS: Final = 64
"""Of one instance, that no request was found for yet."""
MOST_INSTANCES: Final = 256
CLOSE_S: Final = 2.0
"""A request ends this close to the release of its slot."""

Instance = tuple[str, str]
"""Daemon and instance."""


class SlotRuns:
    """The latest runs of every instance whose engine tells of slots."""

    def __init__(self) -> None:
        self._launched: dict[Instance, dict[int, tuple[int, float]]] = {}
        """By slot: the task and when it was launched."""
        self._runs: dict[Instance, deque[tuple[float, float]]] = {}

    def slots_changed(self, instance: Instance, slots: Mapping[int, Slot] | None) -> None:
        """Learn which slots work; None: not known any more."""
        if slots is None:
            self._launched.pop(instance, None)
            return
        launched = self._launched.setdefault(instance, {})
        for number, slot in slots.items():
            at_s = slot.progress_ms / 1000
            before = launched.get(number)
            if before is not None and not (slot.busy and slot.task == before[0]):
                del launched[number]
                self._runs.setdefault(instance, deque(maxlen=MOST_RUNS)).append((before[1], at_s))
            if slot.busy:
                launched.setdefault(number, (slot.task, at_s))
        for kept in (self._launched, self._runs):
            while len(kept) > MOST_INSTANCES:
                del kept[next(iter(kept))]

    def launch_of(self, instance: Instance, end_s: float) -> float | None:
        """Tell when the slot was launched that was released as a request ended, and forget it; None if none was."""
        runs = self._runs.get(instance)
        if not runs:
            return None
        run = min(runs, key=lambda run: abs(run[1] - end_s))
        if abs(run[1] - end_s) > CLOSE_S:
            return None
        runs.remove(run)
        return run[0]
