"""Shares the decode time of a prediction out among its reasoning, answer and tool calls, by characters: an estimate.

Does not know tokens or events.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from exporter.pipeline.output.segments import Kind, Segment

MAX_PHASES = 64
"""More blocks than these join the last one: a trace is for reading."""


class Phase(msgspec.Struct, frozen=True, gc=False):
    """One stretch of the decode time."""

    kind: Kind
    share: float
    """Of the decode time, 0 to 1."""
    offset_s: float | None
    """From the first token; None when the decode time is unknown."""
    duration_s: float | None
    start_char: int
    end_char: int
    """Where its content lies in the output."""
    tools: tuple[str, ...] = ()


def share_out(segments: Sequence[Segment], decode_s: float | None) -> tuple[tuple[Phase, ...], float]:
    """Share the decode time out among the blocks that hold text; also return the share of reasoning."""
    inked = [segment for segment in segments if not segment.blank]
    total = sum(segment.content_end - segment.content_start for segment in inked)
    if not total:
        return (), 0.0
    phases: list[Phase] = []
    reasoning = before = 0.0
    for index, segment in enumerate(inked):
        share = (segment.content_end - segment.content_start) / total
        if segment.kind is Kind.REASONING:
            reasoning += share
        end_char, tools = segment.content_end, segment.tools
        if index == MAX_PHASES - 1 and len(inked) > MAX_PHASES:
            share = 1.0 - before
            end_char = inked[-1].content_end
        if index < MAX_PHASES:
            phases.append(
                Phase(
                    segment.kind,
                    share,
                    None if decode_s is None else before * decode_s,
                    None if decode_s is None else share * decode_s,
                    segment.content_start,
                    end_char,
                    tools,
                )
            )
        before += share
    return tuple(phases), min(1.0, reasoning)
