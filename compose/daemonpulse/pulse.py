"""Pure: one line that says how a daemon is doing, from two scrapes in a row.

Knows the names of metrics by the catalogue, and no terminal.
"""

from __future__ import annotations

from exporter.catalogue import daemon, stream

Samples = list[tuple[str, dict[str, str], float]]


class Pulse:
    """Makes the line; remembers the last scrape for rates."""

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._at_s = 0.0

    def line(self, samples: Samples, *, now_s: float) -> str:
        """Sum a scrape up: state, what is loaded, what runs and waits, the rate of tokens since the last scrape."""
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
            f"{_total(samples, stream.REQUESTS.name):.0f} predictions",
        ]
        tokens = _total(samples, stream.GENERATION_TOKENS.name)
        if self._tokens is not None and now_s > self._at_s:
            parts.append(f"{max(0.0, tokens - self._tokens) / (now_s - self._at_s):.0f} tokens/s")
        self._tokens, self._at_s = tokens, now_s
        busy = sorted(
            {
                labels["instance_id"]
                for name, labels, value in samples
                if name == daemon.REQUESTS_RUNNING.name and value
            }
        )
        return " · ".join([*parts, *([f"busy: {', '.join(busy)}"] if busy else [])])


def _total(samples: Samples, name: str) -> float:
    return sum(value for sample, _, value in samples if sample == name)
