"""A bounded copy of what a model writes, kept only where `capture` is full and a token guards it.

Pure. Append-only: a reader that has the first N characters asks for what follows them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from exporter.pipeline.output.segments import Kind

MAX_CHARS: Final = 64 * 1024
"""Of one request. What follows is not kept, and the copy says so."""
_MAX_RUNS: Final = 256
MAX_TRANSCRIPTS: Final = 128
"""Requests whose text is kept at once, ended ones included; of further ones there is none."""
ENDED_S: Final = 30.0
"""How long text is kept after the end of its request."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """Where text of one kind begins."""

    start: int
    """In characters of the whole text."""
    kind: Kind | None
    """None: text of the answer in which a model may have fenced off its reasoning by tags."""


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A response of the tap to a reader of text."""

    start: int
    """Where `text` begins in the whole."""
    text: str
    runs: tuple[Run, ...]
    """Of the whole text."""
    is_truncated: bool
    is_over: bool
    finish: str | None = None
    """Why it is over, in the words of the API; None where it said nothing."""


class Transcript:
    """What one request wrote so far."""

    def __init__(self) -> None:
        self.length = 0
        """Characters kept."""
        self.is_truncated = False
        self.runs: list[Run] = []
        self._pieces: list[str] = []

    def add(self, kind: Kind | None, text: str) -> None:
        """Append what came."""
        room = MAX_CHARS - self.length
        if len(text) > room:
            self.is_truncated = True
            text = text[:room]
        if not text:
            return
        if (not self.runs or self.runs[-1].kind is not kind) and len(self.runs) < _MAX_RUNS:
            self.runs.append(Run(self.length, kind))
        self._pieces.append(text)
        self.length += len(text)

    def after(self, start: int) -> str:
        """Give the text from character `start` on."""
        if start >= self.length:
            return ""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0][start:]


class Transcripts:
    """The copies of all requests, by the request's number. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: dict[int, Transcript] = {}
        self._ended: dict[int, tuple[float, Transcript, str | None]] = {}

    def begin(self, number: int) -> Transcript | None:
        """Make the copy of a request; None where too many run. The oldest ended one makes room."""
        self.forget()
        if len(self._open) >= MAX_TRANSCRIPTS:
            return None
        if len(self._open) + len(self._ended) >= MAX_TRANSCRIPTS:
            del self._ended[next(iter(self._ended))]
        self._open[number] = Transcript()
        return self._open[number]

    def end(self, number: int, finish: str | None) -> None:
        """Note that a request is over, and why."""
        transcript = self._open.pop(number, None)
        if transcript is not None:
            self._ended[number] = (self._clock(), transcript, finish)

    def read(self, number: int, start: int) -> Text | None:
        """Give what a request wrote from character `start` on; None where no text of it is kept."""
        self.forget()
        transcript, finish = self._open.get(number), None
        if is_over := transcript is None:
            _, transcript, finish = self._ended.get(number, (0.0, None, None))
        if transcript is None:
            return None
        return Text(
            start=start,
            text=transcript.after(start),
            runs=tuple(transcript.runs),
            is_truncated=transcript.is_truncated,
            is_over=is_over,
            finish=finish,
        )

    def forget(self) -> None:
        """Drop what ended long ago."""
        before_s = self._clock() - ENDED_S
        for number in [one for one, (ended_s, _, _) in self._ended.items() if ended_s < before_s]:
            del self._ended[number]
