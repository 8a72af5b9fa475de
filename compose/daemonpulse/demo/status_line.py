"""Makes the status line of a daemon from the scrapes of the last seconds. Pure.

Does not depend on the terminal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from daemonpulse.top.model import Sample
from exporter.catalogue import daemon, log_stream

WINDOW_S: Final = 10.0
"""Tokens are counted when a prediction ends, so a shorter window shows 0 most of the time."""


class StatusLine:
    """Makes the line; remembers former scrapes for rates."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()
        """When, and how many tokens there were; the first one is as old as the window at the least."""

    def line(self, samples: Sequence[Sample], *, now_s: float) -> str:
        """Sum a scrape up: state, what is loaded, what runs and waits, the rate of tokens of late."""
        state = next(
            (labels["state"] for name, labels, value in samples if name == daemon.STATE.name and value),
            "unknown",
        )
        instances = sum(1 for name, _, _ in samples if name == daemon.INSTANCE_INFO.name)
        parts = [
            f"daemon {state}",
            f"{instances} loaded",
            f"{_total(samples, daemon.REQUESTS_RUNNING.name):.0f} running",
            f"{_total(samples, daemon.REQUESTS_WAITING.name):.0f} waiting",
            f"{_total(samples, log_stream.REQUESTS.name):.0f} predictions",
        ]
        self._seen.append((now_s, _total(samples, log_stream.GENERATION_TOKENS.name)))
        while len(self._seen) > 1 and self._seen[1][0] <= now_s - WINDOW_S:
            self._seen.popleft()
        (since_s, before), (_, tokens) = self._seen[0], self._seen[-1]
        if now_s > since_s:
            parts.append(f"{max(0.0, tokens - before) / (now_s - since_s):.0f} tokens/s")
        busy = sorted(
            {
                labels["instance_id"]
                for name, labels, value in samples
                if name == daemon.REQUESTS_RUNNING.name and value
            }
        )
        return " · ".join([*parts, *([f"busy: {', '.join(busy)}"] if busy else [])])


def _total(samples: Sequence[Sample], name: str) -> float:
    return sum(value for sample, _, value in samples if sample == name)
