"""Reads a model's outputs: segments, tool calls, and whether the model is known to reason.

Does not know events or tokens. Remembers of each model only that it reasons.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec

from exporter.pipeline.output.call_names import UNKNOWN
from exporter.pipeline.output.grammar import Grammar, Pairs, grammar, prompt_opening
from exporter.pipeline.output.segments import Kind, Segment
from exporter.pipeline.output.splitter import split
from exporter.pipeline.output.unrecognised import looks_unrecognised

MAX_MODELS: Final = 1_024
"""Models remembered to reason, the longest unseen forgotten first."""
_MAX_OPENERS: Final = 64
"""Markers of a call tried within a block of reasoning."""


class Reading(msgspec.Struct, frozen=True):
    """What an output holds."""

    segments: Sequence[Segment] = ()
    reasons: bool = False
    """Whether the model is known to reason; if not, that it did not cannot be told."""
    tool_calls: tuple[str, ...] = ()
    unrecognised: bool = False
    """Whether it looks as if it held markup of an unknown family."""


class OutputReader:
    """Reads outputs with one set of tags: the known families' and a user's."""

    def __init__(self, reasoning_tags: Pairs = (), tool_tags: Pairs = ()) -> None:
        self.grammar: Grammar = grammar(reasoning_tags, tool_tags)
        self._reasoners: OrderedDict[str, None] = OrderedDict()

    def opening(self, prompt: str) -> str:
        """Return the end of a prompt that opens, or opens and closes, a block for the model."""
        return prompt_opening(prompt, self.grammar)

    def reasons(self, model: str) -> None:
        """Learn that a model reasons."""
        self._reasoners[model] = None
        self._reasoners.move_to_end(model)
        if len(self._reasoners) > MAX_MODELS:
            self._reasoners.popitem(last=False)

    def read(self, model: str, output: str, opened: str, *, called: bool) -> Reading:
        """Read an output. `opened` is what `opening` returned; `called`: the daemon says that it called a tool."""
        segments = split(output, opened, self.grammar)
        if opened or any(segment.kind is Kind.REASONING for segment in segments):
            self.reasons(model)
        calls = tuple(tool for segment in segments for tool in segment.tools)
        if called and not calls:  # the daemon's own word wins, also inside reasoning that was never closed
            calls = self._calls_in_reasoning(output, segments) or (UNKNOWN,)
        return Reading(segments, model in self._reasoners, calls, looks_unrecognised(output, segments))

    def _calls_in_reasoning(self, output: str, segments: Sequence[Segment]) -> tuple[str, ...]:
        """Find the calls in the last block of reasoning, if it is not closed."""
        last = segments[-1] if segments else None
        if last is None or last.kind is not Kind.REASONING or last.closed:
            return ()
        at = last.content_start
        for _ in range(_MAX_OPENERS):
            match = self.grammar.marker.search(output, at)
            if match is None:
                return ()
            if self.grammar.markers[match.group()].tools:
                found = split(output[match.start() :], "", self.grammar)
                return tuple(tool for segment in found for tool in segment.tools)
            at = match.end()
        return ()
