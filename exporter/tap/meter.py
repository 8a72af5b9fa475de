"""The timeline of one answer: what kind of text arrived when, the gaps between, and what the answer says of itself.

Does not depend on formats or clocks: the reader of the response passes text and times. No text is kept beyond the few
hundred characters in which a marker might still be incomplete.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from exporter.pipeline.output.ending import TAIL_CHARS, ending, ending_of
from exporter.pipeline.output.grammar import Grammar, grammar
from exporter.pipeline.output.segments import Kind, Segment
from exporter.pipeline.output.splitter import Splitter, split
from exporter.tap.report import PhaseMark, Usage
from exporter.tap.transcript import Transcript

MAX_MARKS: Final = 4096
"""Times kept of one text; past it every second one is dropped, and phases are that much less exact."""
MAX_PHASES: Final = 64
"""More stretches join the last one."""
MAX_TOOLS: Final = 32
_BATCH_CHARS: Final = 512
"""Text is split in pieces of this size: splitting token by token costs ten times as much."""


class Meter:
    """One answer. Times are seconds since the request was accepted."""

    def __init__(self, gap_bounds: Sequence[float], custom_tags: tuple[tuple[str, str], ...] = ()) -> None:
        self._bounds = tuple(gap_bounds)
        self._grammar = grammar(custom_tags)
        self.model = ""
        self.queue_s: float | None = None
        self.first_s: float | None = None
        self.last_s: float | None = None
        self.gaps = [0] * (len(self._bounds) + 1)
        self.gaps_s = 0.0
        self.usage = Usage()
        self.finish: str | None = None
        self.error: str | None = None
        self.tools: list[str] = []
        self.tokens = 0
        self.ending = 0
        """Checksum of how the text ends; known at the end."""
        self.transcript: Transcript | None = None
        """Where text is copied to, if it is kept at all."""
        self._tail = ""  # of the stretch that is open
        self._phases: list[PhaseMark] = []
        self._open: tuple[Kind, float, int, int] | None = None  # kind, start, tokens, characters
        self._text: _Text | None = None

    @property
    def kind(self) -> Kind | None:
        """What is being written, as far as it is known; None before the first text."""
        if self._open is not None:
            return self._open[0]
        return self._text.kind if self._text is not None else None

    def event(self, now_s: float) -> None:
        """Note that something of the answer's body has arrived."""
        if self.queue_s is None:
            self.queue_s = now_s

    def delta(self, kind: Kind, text: str, now_s: float, tokens: int = 1) -> None:
        """Take text whose kind the API states."""
        self._tick(now_s, tokens)
        if self.transcript is not None:
            self.transcript.add(kind, text)
        opened, chars = self._open, len(text)
        if opened is None or (opened[0] is not kind and len(self._phases) < MAX_PHASES - 1):
            self._close_open(now_s)
            self._open = (kind, now_s, tokens, chars)
            self._tail = text[-TAIL_CHARS:]
        else:
            self._tail = (self._tail + text)[-TAIL_CHARS:]
            self._open = (opened[0], opened[1], opened[2] + tokens, opened[3] + chars)

    def text(self, text: str, now_s: float, tokens: int = 1) -> None:
        """Take text of the answer, in which a model may have fenced off its reasoning by tags."""
        if self._text is None and self._open is not None:  # the API marks reasoning itself: no tags
            self.delta(Kind.ANSWER, text, now_s, tokens)
            return
        self._tick(now_s, tokens)
        if self.transcript is not None:
            self.transcript.add(None, text)
        if self._text is None:
            self._text = _Text(self._grammar)
        self._text.add(text, now_s, tokens)

    def whole(self, text: str) -> None:
        """Take the text of an answer that came in one piece."""
        self.ending = ending_of(text, split(text, known=self._grammar))

    def tool(self, name: object) -> None:
        """Note the name of a tool the model calls."""
        if isinstance(name, str) and name and len(self.tools) < MAX_TOOLS:
            self.tools.append(name[:64])

    def phases(self) -> tuple[PhaseMark, ...]:
        """End the answer; return its stretches in order. Called once."""
        end_s = self.last_s if self.last_s is not None else 0.0
        if self._open is not None and self._open[0] is not Kind.TOOL_CALL:
            self.ending = ending(self._tail)
        if self._text is not None:
            self._phases += self._text.phases(end_s)
            self.ending = self._text.ending if self._open is None else 0
        self._close_open(end_s)
        if self._text is not None:
            self._phases.sort(key=lambda phase: phase.start_s)
        return tuple(self._phases[:MAX_PHASES])

    def _tick(self, now_s: float, tokens: int) -> None:
        self.tokens += tokens
        if self.first_s is None:
            self.first_s = now_s
        elif self.last_s is not None:
            gap_s = now_s - self.last_s
            self.gaps[bisect_left(self._bounds, gap_s)] += 1
            self.gaps_s += gap_s
        self.last_s = now_s

    def _close_open(self, end_s: float) -> None:
        if self._open is not None:
            kind, start_s, tokens, chars = self._open
            self._phases.append(PhaseMark(kind, start_s, end_s, tokens, chars))
            self._open = None


class _Text:
    """Text with tags in it: when which character arrived, and what the splitter makes of it."""

    def __init__(self, known: Grammar) -> None:
        self._splitter = Splitter(known=known)
        self._segments: list[Segment] = []
        self._batch: list[str] = []
        self._batched = 0
        self._ends: list[int] = []  # characters up to and with a delta
        self._times: list[float] = []
        self._counts: list[int] = []  # tokens up to and with it
        self._chars = self._tokens = 0
        self._tail = ""
        self._every = 1
        self.ending = 0
        self._seen = 0

    @property
    def kind(self) -> Kind:
        return self._splitter.kind

    def add(self, text: str, now_s: float, tokens: int) -> None:
        self._chars += len(text)
        self._tokens += tokens
        self._seen += 1
        if self._seen % self._every == 0:
            self._ends.append(self._chars)
            self._times.append(now_s)
            self._counts.append(self._tokens)
            if len(self._ends) >= MAX_MARKS:
                for marks in (self._ends, self._times, self._counts):
                    del marks[1::2]
                self._every *= 2
        self._tail = (self._tail + text)[-2 * TAIL_CHARS :]
        self._batch.append(text)
        self._batched += len(text)
        if self._batched >= _BATCH_CHARS:
            self._split()

    def _split(self) -> None:
        self._segments += self._splitter.feed("".join(self._batch))
        self._batch.clear()
        self._batched = 0

    def phases(self, end_s: float) -> list[PhaseMark]:
        self._split()
        if self._ends and self._ends[-1] < self._chars:  # the last deltas were among those not kept
            self._ends.append(self._chars)
            self._times.append(end_s)
            self._counts.append(self._tokens)
        segments = (*self._segments, *self._splitter.finish())
        self.ending = ending_of(self._tail, segments, start=self._chars - len(self._tail))
        inked = [s for s in segments if not s.blank]
        marks: list[PhaseMark] = []
        starts = [self._at(segment.content_start) for segment in inked]
        for index, segment in enumerate(inked):
            start_s, before = starts[index]
            stop_s = starts[index + 1][0] if index + 1 < len(inked) else end_s
            _, upto = self._at(segment.content_end - 1)
            tokens = max(0, upto + 1 - before)
            chars = segment.content_end - segment.content_start
            marks.append(PhaseMark(segment.kind, start_s, max(start_s, stop_s), tokens, chars))
        return marks

    def _at(self, char: int) -> tuple[float, int]:
        """Give when a character arrived, and how many tokens came before its delta."""
        index = min(bisect_left(self._ends, char + 1), len(self._ends) - 1)
        return self._times[index], self._counts[index - 1] if index else 0
