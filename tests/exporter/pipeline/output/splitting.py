"""Splits outputs for the tests: whole, and in pieces.

Knows no model family and no expectation.
"""

import itertools

from exporter.pipeline.output.grammar import grammar
from exporter.pipeline.output.segments import Kind, Segment
from exporter.pipeline.output.splitter import Splitter, split

R, A, T = Kind.REASONING, Kind.ANSWER, Kind.TOOL_CALL
Part = tuple[Kind, str] | tuple[Kind, str, tuple[str, ...]]


def parts(
    output: str,
    opened_by_prompt: str = "",
    custom: tuple[tuple[str, str], ...] = (),
) -> list[Part]:
    """Return (kind, content) of what holds more than white space, with the tools of a tool call."""
    return [
        (s.kind, output[s.content_start : s.content_end], s.tools)
        if s.kind is T
        else (s.kind, output[s.content_start : s.content_end])
        for s in split(output, opened_by_prompt, grammar(custom))
        if not s.blank
    ]


def fed(output: str, cuts: list[int], opened_by_prompt: str = "") -> list[Segment]:
    splitter = Splitter(opened_by_prompt)
    segments: list[Segment] = []
    edges = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    for start, end in itertools.pairwise(edges):
        segments += splitter.feed(output[start:end])
    return segments + splitter.finish()
