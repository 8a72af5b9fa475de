"""Pure: a checksum of how a text ends, by which two reports of one answer are known to be of the same.

White space is left out: APIs trim it. Markup is, too: some APIs take it out, and others leave it in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from zlib import crc32

from exporter.pipeline.output.segments import Kind, Segment

TAIL_CHARS: Final = 512
"""Of a text, looked at."""
_INK_CHARS: Final = 64
"""Of these without white space, the last ones."""


def ending(text: str) -> int:
    """Return the checksum, never 0; 0 for a text without any."""
    ink = "".join(text[-TAIL_CHARS:].split())[-_INK_CHARS:]
    return (crc32(ink.encode("utf-8", "surrogatepass")) or 1) if ink else 0


def ending_of(output: str, segments: Sequence[Segment], *, start: int = 0) -> int:
    """Return the checksum of the last reasoning or answer; 0 if a tool call comes last. `output` begins at `start`."""
    last = next((segment for segment in reversed(segments) if not segment.blank), None)
    if last is None or last.kind is Kind.TOOL_CALL:
        return 0
    begin = max(0, max(last.content_start, last.content_end - TAIL_CHARS) - start)
    return ending(output[begin : max(0, last.content_end - start)])
