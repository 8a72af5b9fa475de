"""Reads the stamp that begins a server.log event: local time, level, and a bracket that names a model or a part.

Source: published logs, such as `[2026-08-08 22:40:13][INFO][qwen/qwen3-vl-4b] ...` and, copied from the GUI,
`2026-06-03 11:02:46 [DEBUG]` with the text on the next line. Only the first line of an event has a stamp.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

SERVER_BRACKET: Final = "LM STUDIO SERVER"
"""What the bracket holds when no model is meant."""

_STAMP: Final = re.compile(
    r"(?:\[?(?P<time>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:[.,]\d{1,6})?Z?\]? ?)?"
    r"(?:\[(?P<level>DEBUG|INFO|WARN|ERROR)\])?"
    r"(?:(?:\n ?| )?\[(?P<bracket>[^\]\n]{1,256})\])?(?:\n ?| )?",
    re.ASCII,
)


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """The stamp of an event. `end`: where its text begins."""

    end: int
    timed: bool = False
    level: str | None = None
    """DEBUG, INFO, WARN or ERROR; None: the stamp names none."""
    bracket: str | None = None


NO_STAMP: Final = Stamp(0)


def read(text: str) -> Stamp:
    """Read the stamp of an event. A bracket without time and level before it is text, unless a plugin's."""
    if not text or (text[0] != "[" and not text[0].isdigit()):
        return NO_STAMP
    match = _STAMP.match(text)
    if match is None:
        return NO_STAMP
    time, level, bracket = match["time"], match["level"], match["bracket"]
    if level is None and not (bracket or "").startswith("Plugin(mcp/"):
        return NO_STAMP
    return Stamp(match.end(), time is not None, level, bracket)
