"""The answer of `/live/text`: what one running request writes, and which stretch is reasoning, answer or tool call.

The text comes from the daemon's tap in pieces and is kept for a few requests that have a reader. Bounded in number
and size; dropped soon after the last read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exporter.collectors.client_metrics import Tap
from exporter.pipeline.output.splitter import split
from exporter.tap.transcript import Run

MAX_REQUESTS: Final = 16
"""Looked at at once; for another one the one whose last look is longest ago is dropped."""
UNWATCHED_S: Final = 10.0
"""After so long without a look, text is dropped."""


@dataclass(slots=True)
class _Watched:
    text: str = ""
    looked_at_s: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class LiveTexts:
    """Text of requests in flight, by daemon and request."""

    def __init__(self, taps: Iterable[Tap], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._readers: Mapping[str, Any] = {tap.daemon: tap.reader for tap in taps}
        self._clock = clock
        self._watched: dict[tuple[str, str], _Watched] = {}

    async def document(self, daemon: str, request: str, start: int) -> dict[str, Any] | None:
        """Write the answer from character `start` on; None where the tap keeps no text of such a request."""
        reader = self._readers.get(daemon)
        if reader is None:
            return None
        watched = self._watch((daemon, request))
        async with watched.lock:
            latest = await reader.text(request, len(watched.text))
            if latest is None:
                self._watched.pop((daemon, request), None)
                return None
            watched.text += latest.text
        return {
            "daemon": daemon,
            "request": request,
            "start": start,
            "text": watched.text[start:],
            "phases": _phases(watched.text, latest.runs),
            "is_truncated": latest.is_truncated,
            "is_over": latest.is_over,
            "finish": latest.finish,
        }

    def forget(self) -> None:
        """Drop text that has had no reader for a while."""
        before_s = self._clock() - UNWATCHED_S
        for key in [key for key, one in self._watched.items() if one.looked_at_s < before_s]:
            del self._watched[key]

    def _watch(self, key: tuple[str, str]) -> _Watched:
        self.forget()
        watched = self._watched.pop(key, None) or _Watched()
        if len(self._watched) >= MAX_REQUESTS:
            del self._watched[next(iter(self._watched))]
        watched.looked_at_s = self._clock()
        self._watched[key] = watched  # the latest look is last
        return watched


def _phases(text: str, runs: tuple[Run, ...]) -> list[dict[str, Any]]:
    """Give the stretches in order, markers left out; text without a stated kind is split by its tags."""
    phases: list[dict[str, Any]] = []
    for index, run in enumerate(runs):
        end = runs[index + 1].start if index + 1 < len(runs) else len(text)
        if run.kind is not None:
            phases.append({"kind": run.kind.value, "start": run.start, "end": end})
            continue
        phases += [
            {
                "kind": segment.kind.value,
                "start": run.start + segment.content_start,
                "end": run.start + segment.content_end,
            }
            for segment in split(text[run.start : end])
            if not segment.blank
        ]
    return phases
