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
_KEPT_CHARS: Final = 32
"""Kept of both ends of a line that is too long to be known: whose it is, and what may be the next one's stamp."""
_ENDS_OPEN: Final = frozenset({
    What.TOO_LARGE, What.TASK_FAILED, What.CONTEXT_EXCEEDED, What.PROMPT_SIZE, What.SELECTED, What.CACHED,
    What.DRAFTED, What.CANCELLED, What.NOT_LAUNCHED, What.DEFERRED,
})  # fmt: skip
"""Lines that end with a number or a text of any length."""
_ENDS: Final = {What.PROMPT: "second", What.PROMPT_DONE: ")", What.DECODE_DONE: ")"}
"""Lines that are whole only with their end."""
_MAY_LACK: Final = frozenset({What.LAUNCHED, What.RELEASED, What.DECODE, What.STARTED})
"""Lines whose last numbers may be missing."""


class _Tail(msgspec.Struct, gc=False):
    """What may be the beginning of a line."""

    text: str
    known: EngineLine | None
    """What it says already, as far as it goes."""


_NOTHING: Final = _Tail("", None)


class LineJoiner:
    """The unfinished line of each channel: an engine's, over one kind of event."""

    def __init__(self) -> None:
        self._tails: OrderedDict[str, _Tail] = OrderedDict()
        self._stamps: OrderedDict[str, int] = OrderedDict()
        """The last stamp of each channel: it tells where a line begins whose digits may belong to the one before."""

    def feed(self, channel: str, text: str, *, only_engine: bool) -> list[EngineLine]:
        """Take the text of an event; return the engine lines that are known with it.

        A line may be returned again when its rest says more. `only_engine`: every line of the channel is an engine's.
        Otherwise an event counts only if it begins with an engine line, or with the rest of one, because what follows
        may be a user's text.
        """
        tail = self._tails.pop(channel, None) if self._tails else None
        text = text.rstrip("\r")  # half of a line end whose other half comes with the next event
        if "\n" in text:
            found, tail = self._lines(channel, tail, text, only_engine=only_engine)
        elif tail is not None:
            found, tail = self._first(channel, tail, text, is_last=True)
        else:  # nearly all events
            line = engine.read(text)
            if line is None:
                found, tail = [], _Tail(text, None)
            else:
                found = [line]
                if _may_grow(line, text):
                    tail = _Tail(text, line)
        if tail is not None and _may_go_on(tail):
            self._keep(channel, tail)
        if found and found[-1].stamp_ms is not None:
            self._stamps[channel] = found[-1].stamp_ms
            if len(self._stamps) > MAX_CHANNELS:
                self._stamps.popitem(last=False)
        return found

    def _lines(
        self, channel: str, tail: _Tail | None, text: str, *, only_engine: bool
    ) -> tuple[list[EngineLine], _Tail]:
        pieces = text.split("\n", MAX_LINES)[:MAX_LINES]
        found, tail = self._first(channel, tail, pieces[0].rstrip("\r"), is_last=False)
        is_engine = only_engine or bool(found) or engine.begins(tail.text)
        if not is_engine and (tail.text or channel not in self._stamps or not engine.is_stamped(pieces[1])):
            return [], _NOTHING
        for piece in pieces[1:]:
            bare = piece.rstrip("\r")
            line = engine.read(bare)
            tail = _Tail(bare, line)
            if line is not None:
                found.append(line)
        return found, tail

    def _keep(self, channel: str, tail: _Tail) -> None:
        if len(tail.text) > engine.MAX_LINE_CHARS:
            tail = _Tail(f"{tail.text[:_KEPT_CHARS]}\0{tail.text[-_KEPT_CHARS:]}", None)
        self._tails[channel] = tail
        if len(self._tails) > MAX_CHANNELS:
            self._tails.popitem(last=False)

    def forget(self, channel: str) -> None:
        """Drop the unfinished line of a channel that has ended."""
        self._tails.pop(channel, None)
        self._stamps.pop(channel, None)

    def clear(self) -> None:
        """Drop every unfinished line."""
        self._tails.clear()
        self._stamps.clear()

    def _first(
        self, channel: str, tail: _Tail | None, text: str, *, is_last: bool
    ) -> tuple[list[EngineLine], _Tail]:
        """Read the first piece of an event: the rest of the tail, the next line, or the end of one and the next."""
        if tail is None:
            line = engine.read(text)
            return ([] if line is None else [line]), _Tail(text, line)
        whole = tail.text + text
        last_ms = self._stamps.get(channel)
        at = engine.stamp_at(whole, len(tail.text), last_ms or 0)
        if at is None and last_ms is None and not text.startswith(" ") and engine.begins(text):
            at = len(tail.text)  # an engine that does not stamp its lines
        if at is not None:
            rest, line = engine.read(whole[:at]), engine.read(whole[at:])
            told = [rest] if rest is not None and rest != tail.known else []
            return (told if line is None else [*told, line]), _Tail(whole[at:], line)
        if is_last and tail.known is not None and engine.is_stump(text):
            return [], _Tail(whole, tail.known)  # digits of this line, or of the next one's stamp
        line = engine.read(whole)
        return ([] if line is None or line == tail.known else [line]), _Tail(whole, line)


def _may_go_on(tail: _Tail) -> bool:
    if tail.known is None:
        return bool(tail.text) and engine.may_begin(tail.text)
    return _may_grow(tail.known, tail.text)


def _may_grow(line: EngineLine, text: str) -> bool:
    """Whether a line that is known may say more, or something else, when its rest arrives."""
    what = line.what
    if what in _MAY_LACK:
        return not line.values or line.values[-1] is None
    end = _ENDS.get(what)
    return what in _ENDS_OPEN if end is None else not text.endswith(end)
