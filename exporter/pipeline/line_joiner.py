"""Makes whole engine lines of log events, which may hold several lines, begin in mid-line, or end in one.

Does not know slots. Observed in LM Studio 0.4.15 (bug tracker 2006, 2011): four timing lines in one event, and an
event that begins with the rest of the line before it. What is kept of a line that is not whole yet is bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from exporter.pipeline.log_formats import engine
from exporter.pipeline.log_formats.engine import EngineLine, What

MAX_LINES: Final = 1_000
"""Lines read of one event."""
MAX_CHANNELS: Final = 512
_MAX_STUMP_CHARS: Final = 32
"""A stamp cannot be cut in a text that is longer."""
_MAX_TAILS: Final = 4
"""Ways to read what is unfinished: a piece may go on with a line that is not known, or begin one."""
_ENDS_OPEN: Final = frozenset({What.TOO_LARGE, What.PROMPT_SIZE})
_GROWS: Final = _ENDS_OPEN | {
    What.LAUNCHED, What.RELEASED, What.DECODE, What.STARTED, What.TASK_FAILED, What.CONTEXT_EXCEEDED,
}  # fmt: skip
"""Lines that may say more, or something else, when their rest arrives."""


class _Tail(msgspec.Struct, gc=False):
    """What may be the beginning of a line."""

    text: str
    known: EngineLine | None
    """What it says already, as far as it goes."""


class LineJoiner:
    """The unfinished line of each channel: an engine's, over one kind of event."""

    def __init__(self) -> None:
        self._tails: OrderedDict[str, list[_Tail]] = OrderedDict()
        self._stamps: OrderedDict[str, int] = OrderedDict()
        """The last stamp of each channel: it tells where a line begins whose digits may belong to the one before."""

    def feed(self, channel: str, text: str, *, only_engine: bool) -> list[EngineLine]:
        """Take the text of an event; return the engine lines that are whole with it.

        `only_engine`: every line of the channel is an engine's. Otherwise an event counts only if it begins with an
        engine line, or with the rest of one, because what follows may be anybody's words.
        """
        tails = self._tails.pop(channel, None) if self._tails else None
        if "\n" not in text and (tails is None or _stands_alone(tails, text)):  # nearly all events
            line = engine.read(text)
            if line is not None:
                self._note(channel, text, line)
                return [line]
            if tails is not None:
                self._tails[channel] = [_Tail(text, None)]
                return []
        return self._feed_pieces(channel, tails or [], text, only_engine=only_engine)

    def _feed_pieces(
        self, channel: str, tails: list[_Tail], text: str, *, only_engine: bool
    ) -> list[EngineLine]:
        pieces = text.split("\n", MAX_LINES)[:MAX_LINES] if "\n" in text else [text]
        first = pieces[0].rstrip("\r")
        line, ends = self._first(channel, tails, first)
        found = [] if line is None else [line]
        if line is None and not only_engine and not any(engine.begins(end.text) for end in ends):
            if len(pieces) == 1:
                self._keep(channel, ends)
            return found
        for piece in pieces[1:]:
            bare = piece.rstrip("\r")
            line = engine.read(bare)
            ends = [_Tail(bare, line)]
            if line is not None:
                found.append(line)
        self._keep(channel, ends)
        if found:
            self._note_stamp(channel, found[-1])
        return found

    def _note(self, channel: str, text: str, line: EngineLine) -> None:
        if line.what in _GROWS and _may_grow(line):
            self._tails[channel] = [_Tail(text, line)]
        if line.stamp_ms is not None:
            self._note_stamp(channel, line)

    def _note_stamp(self, channel: str, line: EngineLine) -> None:
        if line.stamp_ms is not None:
            self._stamps[channel] = line.stamp_ms
            if len(self._stamps) > MAX_CHANNELS:
                self._stamps.popitem(last=False)

    def forget(self, channel: str) -> None:
        """Drop the unfinished line of a channel that has ended."""
        self._tails.pop(channel, None)
        self._stamps.pop(channel, None)

    def clear(self) -> None:
        """Drop every unfinished line."""
        self._tails.clear()
        self._stamps.clear()

    def _first(self, channel: str, tails: list[_Tail], text: str) -> tuple[EngineLine | None, list[_Tail]]:
        """Read the first piece of an event, as the rest of a tail if that makes a line of the two."""
        line = engine.read(text)
        ends = [_Tail(text, line)]
        if not tails:
            return line, ends
        begins = line is not None or engine.begins(text)
        choices = [] if line is None else [ends[0]]
        for tail in tails:
            if begins and tail.known is not None:
                continue  # a line that is whole, and the next one
            joined = _Tail(tail.text + text, engine.read(tail.text + text))
            if joined.known is not None:
                if tail.known is not None:
                    is_news = joined.known.what in _GROWS and joined.known != tail.known
                    return (joined.known if is_news else None), [joined]
                choices.append(joined)
            elif (not begins or len(tail.text) <= _MAX_STUMP_CHARS) and engine.may_begin(joined.text):
                ends.append(joined)
        if not choices:
            return None, ends
        last_ms = self._stamps.get(channel, 0)
        chosen = min(choices, key=lambda each: _distance(each.known, last_ms))
        return chosen.known, [chosen]

    def _keep(self, channel: str, tails: list[_Tail]) -> None:
        kept = [tail for tail in tails[:_MAX_TAILS] if _may_go_on(tail)]
        if not kept:
            return
        self._tails[channel] = kept
        while len(self._tails) > MAX_CHANNELS:
            self._tails.popitem(last=False)


def _distance(line: EngineLine | None, last_ms: int) -> float:
    """How far a line's stamp is from the last one; a line without a stamp is farthest."""
    return abs(line.stamp_ms - last_ms) if line is not None and line.stamp_ms is not None else float("inf")


def _stands_alone(tails: list[_Tail], text: str) -> bool:
    """Whether a text begins a line by itself: it has a stamp, of which nothing can stand in a tail that is longer."""
    return len(tails) == 1 and len(tails[0].text) > _MAX_STUMP_CHARS and engine.is_stamped(text)


def _may_grow(line: EngineLine) -> bool:
    """Whether a line that is known may say more: its last number has not been told."""
    return line.what in _GROWS and (not line.values or line.values[-1] is None or line.what in _ENDS_OPEN)


def _may_go_on(tail: _Tail) -> bool:
    if not tail.text or len(tail.text) > engine.MAX_LINE_CHARS:
        return False
    if tail.known is not None:
        return _may_grow(tail.known)
    return engine.may_begin(tail.text)
