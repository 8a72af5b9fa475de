"""What was loaded and unloaded between two readings of one daemon.

Pure. What came and went between two readings was never seen and is not counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from exporter.llmster.state import LoadedInstance, Snapshot

TTL_SLACK_MS: Final = 2_000.0
"""An instance that vanished this close to the end of its TTL was unloaded by it: readings and clocks are not exact."""


class Changes:
    """Running counts of loads by model and unloads by (model, cause). The first reading counts nothing."""

    def __init__(self) -> None:
        self.loads: Counter[str] = Counter()
        self.unloads: Counter[tuple[str, str]] = Counter()
        self._previous: Snapshot | None = None

    def observe(self, current: Snapshot) -> None:
        """Count what changed since the last complete snapshot; instances are told apart by their reference."""
        self._start_at_zero(current)
        previous = self._previous
        if not current.is_complete:
            # What is missing may be what could not be read: it is neither gone nor, when it shows again, new.
            return
        self._previous = current
        if previous is None:
            return
        before = {instance.info.instance_reference: instance for instance in previous.instances}
        after = {instance.info.instance_reference: instance for instance in current.instances}
        restarted = _differ(previous.process.pid, current.process.pid) or _differ(
            previous.version.version, current.version.version
        )
        for reference in after.keys() - before.keys():
            self.loads[after[reference].info.model_key] += 1
        for reference in before.keys() - after.keys():
            gone = before[reference]
            cause = "restart" if restarted else _cause(gone, previous, current)
            self.unloads[gone.info.model_key, cause] += 1

    def _start_at_zero(self, current: Snapshot) -> None:
        """Start every counter before its first event, or increase() would not see that event."""
        for model in current.models or ():
            self.loads.setdefault(model.model_key, 0)
        for instance in current.instances:
            self.loads.setdefault(instance.info.model_key, 0)
            for cause in ("ttl", "restart", "other"):
                self.unloads.setdefault((instance.info.model_key, cause), 0)


def _differ(before: object, after: object) -> bool:
    """Tell whether both are known and not the same."""
    return before is not None and after is not None and before != after


def _cause(gone: LoadedInstance, previous: Snapshot, current: Snapshot) -> str:
    """Tell an expired TTL from everything else (an eject, an evicted JIT model, a crash)."""
    left_ms = gone.ttl_remaining_ms(previous.taken_at_s * 1000)
    passed_ms = (current.monotonic_s - previous.monotonic_s) * 1000
    return "ttl" if left_ms is not None and left_ms <= passed_ms + TTL_SLACK_MS else "other"
