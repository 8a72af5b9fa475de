"""Follows the code fences of a text that passes by in pieces.

Reports only whether a position is inside fenced code.
"""

from __future__ import annotations

import re

_MAX_RUN = 64  # backticks or tildes of one fence; bounds how far beyond a position anything is looked at
_MAX_INDENT = 16  # blanks before a fence or a tag that still count as the start of a line
_MARKS = ("```", "~~~")
_BACKTICKS = re.compile(rf"`{{1,{_MAX_RUN}}}")
_TILDES = re.compile(rf"~{{1,{_MAX_RUN}}}")
_REST_OF_LINE = re.compile(r"[ \t]{0,16}(?:\n|\Z)")


def first_on_line(text: str, at: int, *, from_start: bool) -> bool:
    """Whether only blanks stand before `at` on its line. `from_start`: `text` is not cut off at its front."""
    back = at - 1
    while back >= 0 and at - back <= _MAX_INDENT and text[back] in " \t":
        back -= 1
    return text[back] == "\n" if back >= 0 else from_start


class Fences:
    """Whether the text seen so far has an open code fence: three or more ` or ~, first on their line."""

    def __init__(self) -> None:
        self._fence = ""
        self._seen = 0
        self._start = 0
        self._ahead: dict[str, int] = {}  # by mark: none begins before this offset
        self.scanned = 0

    @property
    def inside(self) -> bool:
        """Whether the position seen last lies in code."""
        return bool(self._fence)

    def restart(self, at: int) -> None:
        """Begin a new text at offset `at`, which counts as the start of a line."""
        self._fence = ""
        self._seen = self._start = at
        self._ahead.clear()

    def see(self, text: str, base: int, end: int) -> None:
        """Follow the text up to index `end` of `text`, whose first character has offset `base`.

        The caller shows at least 128 characters past `end`, or all there is, so a fence is never cut.
        """
        while (at := self.edge(text, base, end)) < end:
            self.cross(text, base, at)
        self._seen = max(self._seen, base + end)

    def edge(self, text: str, base: int, end: int) -> int:
        """Return the index of the next mark that may be a fence, else `end`. Asks nothing twice."""
        nearest = end
        for mark in (self._fence,) if self._fence else _MARKS:
            place = max(self._ahead.get(mark, 0), self._seen) - base
            if place < end and not text.startswith(mark, place):
                found = text.find(mark[0], place, end)  # several times as fast as to look for all of it
                if found >= 0:
                    found = text.find(mark, found, end + len(mark) - 1)
                stop = end if found < 0 else found
                self.scanned += stop - place + 1
                place = stop
            self._ahead[mark] = base + place
            nearest = min(nearest, place)
        return nearest

    def cross(self, text: str, base: int, at: int) -> int:
        """Pass the mark at index `at`, which `edge` returned; return the index behind it."""
        run = self._run_end(text, at)
        if base + at == self._start or first_on_line(text, at, from_start=base == 0):
            if not self._fence:
                self._fence = text[at:run]
            elif _REST_OF_LINE.match(text, run):  # a closing fence names no language
                self._fence = ""
        self._seen = base + run
        return run

    def _run_end(self, text: str, at: int) -> int:
        match = (_BACKTICKS if text[at] == "`" else _TILDES).match(text, at)
        end = match.end() if match else at + 1
        self.scanned += end - at
        return end
