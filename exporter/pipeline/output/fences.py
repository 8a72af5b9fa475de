"""Follows the code fences of a text that passes by in pieces.

Knows nothing of models or tags: only whether a position is inside fenced code.
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
        self.scanned = 0

    @property
    def inside(self) -> bool:
        """Whether the position seen last lies in code."""
        return bool(self._fence)

    def restart(self, at: int) -> None:
        """Begin a new text at offset `at`, which counts as the start of a line."""
        self._fence = ""
        self._seen = self._start = at

    def see(self, text: str, base: int, end: int) -> None:
        """Follow the text up to index `end` of `text`, whose first character has offset `base`.

        The caller shows at least 128 characters past `end`, or all there is, so a fence is never cut.
        """
        at = self._seen - base
        marks = [-1, -1] if self._fence else [self._find(text, mark, at, end) for mark in _MARKS]
        while at < end:
            if self._fence:
                at = self._find(text, self._fence, at, end)
            else:
                marks = [
                    self._find(text, mark, at, end) if place < at else place
                    for mark, place in zip(_MARKS, marks, strict=True)
                ]
                at = min(marks)
            if at >= end:
                break
            run = self._run_end(text, at)
            if base + at == self._start or first_on_line(text, at, from_start=base == 0):
                if not self._fence:
                    self._fence = text[at:run]
                elif _REST_OF_LINE.match(text, run):  # a closing fence names no language
                    self._fence = ""
            at = run
        self._seen = base + max(at, end)

    def _find(self, text: str, mark: str, at: int, end: int) -> int:
        """Return where `mark` next begins before `end`, else `end`."""
        found = text.find(mark, at, end + len(mark) - 1)
        place = end if found < 0 else found
        self.scanned += max(0, place - at) + 1
        return place

    def _run_end(self, text: str, at: int) -> int:
        match = (_BACKTICKS if text[at] == "`" else _TILDES).match(text, at)
        end = match.end() if match else at + 1
        self.scanned += end - at
        return end
