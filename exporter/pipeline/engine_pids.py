"""Stores which process serves which instance, from the engines' lines in the log stream.

The user of a pid checks that the process exists and belongs to the daemon.
"""

from __future__ import annotations

from typing import Final

from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.llmster.state import InstanceInfo

REMEMBERED: Final = 256
"""Instances kept, the longest unheard forgotten first: far more than one host can have loaded."""


class EnginePids:
    """The last pid each instance was heard from. A sink of one daemon's log stream."""

    name = "engines"

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}

    def take_prediction(self, _prediction: object) -> None:
        """Learn nothing: predictions name no process."""

    def take_log(self, event: ServerLog | RuntimeLog) -> None:
        """Learn from `runtime.log`, whose pid, modelIdentifier and instanceReference are all optional."""
        if not isinstance(event, RuntimeLog) or event.pid is None:
            return
        for key in (event.instance_reference, event.model):
            if key is not None:
                self._pids.pop(key, None)
                self._pids[key] = event.pid
        while len(self._pids) > REMEMBERED:
            del self._pids[next(iter(self._pids))]

    def pid_of(self, instance: InstanceInfo) -> int | None:
        """Give the pid named for this load; one named only for its identifier may be of an earlier load."""
        return self._pids.get(instance.instance_reference, self._pids.get(instance.identifier))
