"""The segment of a model's output: its kind (reasoning, answer, tool call) and position.

splitter.py makes them.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a segment is for."""

    REASONING = "reasoning"
    ANSWER = "answer"
    TOOL_CALL = "tool_call"


class Segment(msgspec.Struct, frozen=True, gc=False):
    """One stretch of an output, in characters from its start."""

    kind: Kind
    start: int
    end: int
    content_start: int
    content_end: int
    """Content is what lies between the markers; equal to `content_start` for bare markup."""
    blank: bool
    """The content is white space only, as in the `<think></think>` of a model told not to think."""
    closed: bool
    """False: the output ended inside the block."""
    tools: tuple[str, ...] = ()
