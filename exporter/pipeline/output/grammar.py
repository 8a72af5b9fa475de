"""Compiles the markers of all families, and those that a user adds, into one search.

Does not know position rules: where a marker counts is decided in splitter.py.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

from exporter.pipeline.output import harmony
from exporter.pipeline.output.families import REASONING_TAGS, TOOL_TAGS, ReasoningTag, ToolTag

MAX_MARKER_CHARS: Final = 128
"""No marker, with the text that must follow it to count, is longer: the window a stream holds back."""
QUOTES: Final = "`\"'"
"""A marker right after one of these is spoken about, not used."""

_BUDGET: Final = "<seed:cot_budget_reflect>"
"""What Seed-OSS's template may put into an opened block."""

Pairs = tuple[tuple[str, str], ...]


class Marker(msgspec.Struct, frozen=True):
    """What one marker text does."""

    reasoning: ReasoningTag | None = None
    """The tag it opens, or closes."""
    tools: tuple[tuple[re.Pattern[str], ToolTag], ...] = ()
    """The tools it opens, each if what must follow does."""
    closes: bool = False

    def tool(self, text: str, at: int) -> ToolTag | None:
        """Return the tool that the marker, which ends at `at`, opens."""
        return next((tool for follows, tool in self.tools if follows.match(text, at)), None)


class Grammar(msgspec.Struct, frozen=True):
    """The markers of one set of tags, compiled."""

    reasoning: tuple[ReasoningTag, ...]
    markers: dict[str, Marker]
    marker: re.Pattern[str]
    """Everything that may count in the middle of a text."""
    opener: re.Pattern[str]
    """Everything that may open a block where one may begin. Both match exactly a key of `markers`."""
    starter: re.Pattern[str]
    """What may open a block there and nowhere else."""
    prompt_tail: re.Pattern[str]
    """A reasoning block which the prompt's own end opens, or opens and closes again."""
    tail_ends: tuple[str, ...]
    """With one of these `prompt_tail` ends, white space aside."""
    first_chars: tuple[str, ...]
    """With one of these everything begins that `marker` matches: a text without them holds none."""


@lru_cache(maxsize=64)
def grammar(custom: Pairs = (), custom_tools: Pairs = ()) -> Grammar:
    """Compile the known tags and the custom pairs of (open, close), which go first.

    Raises ValueError for a pair that cannot work: empty, equal, or longer than `MAX_MARKER_CHARS` / 2.
    """
    _check(custom, "reasoning tag")
    _check(custom_tools, "tool tag")
    reasoning = (*(ReasoningTag(*pair) for pair in custom), *REASONING_TAGS)
    tools = (*(ToolTag(opening, "", closing) for opening, closing in custom_tools), *TOOL_TAGS)
    markers: dict[str, Marker] = {}
    for tag in reasoning:
        markers.setdefault(tag.open, Marker(reasoning=tag))
        if not tag.at_start:
            markers.setdefault(tag.close, Marker(reasoning=tag, closes=True))
    for tool in tools:
        known = markers.get(tool.open, Marker())
        if known.reasoning is None:
            markers[tool.open] = Marker(tools=(*known.tools, (re.compile(tool.follows), tool)))
    starters = {
        text: marker
        for text, marker in markers.items()
        if (marker.reasoning is not None and marker.reasoning.at_start)
        or (marker.tools and all(tool.at_start for _, tool in marker.tools))
    }
    anywhere = {text: marker for text, marker in markers.items() if text not in starters}
    tails = (
        rf"(?:{re.escape(tag.open)}(?:{_BUDGET})?\s{{0,8}}(?:{re.escape(tag.close)}\s{{0,8}})?)"
        for tag in reasoning
    )
    return Grammar(
        reasoning,
        markers,
        _any_of(anywhere),
        _any_of({text: marker for text, marker in markers.items() if not marker.closes}),
        _any_of(starters),
        re.compile(rf"(?:{'|'.join(tails)})\Z"),
        (_BUDGET, *(text.rstrip() for tag in reasoning for text in (tag.open, tag.close))),
        tuple(sorted({text[0] for text in anywhere})),
    )


def _check(pairs: Pairs, what: str) -> None:
    for pair in pairs:
        if not all(0 < len(text) <= MAX_MARKER_CHARS // 2 and not text.isspace() for text in pair):
            raise ValueError(f"{what} {pair!r}: both texts must have 1 to {MAX_MARKER_CHARS // 2} characters")
        if pair[0] == pair[1]:
            raise ValueError(f"{what} {pair!r}: the opening and the closing text must differ")


def _any_of(markers: dict[str, Marker]) -> re.Pattern[str]:
    """Match any of the texts, a tool's if what must follow does; by first character, to which `re` skips."""
    branches = []
    for first in dict.fromkeys(text[0] for text in markers):
        rests = "|".join(
            re.escape(text[1:]) + _lookahead(marker) for text, marker in markers.items() if text[0] == first
        )
        branches.append(f"{re.escape(first)}(?:{rests})")
    return re.compile("|".join(branches))


def _lookahead(marker: Marker) -> str:
    follows = [pattern.pattern for pattern, _ in marker.tools]
    return f"(?={'|'.join(f'(?:{one})' for one in follows)})" if follows and all(follows) else ""


class MarkerSearch:
    """Finds the markers of one text in order, asking the regular expression only where one can begin."""

    __slots__ = ("_ahead", "_grammar", "_text", "scanned")

    def __init__(self, known: Grammar) -> None:
        self._grammar = known
        self._text = ""
        self._ahead: list[int] = []  # where each first character occurs next
        self.scanned = 0

    def restart(self, text: str) -> None:
        """Search in `text` from now on."""
        self._text = text
        self._ahead = [-1] * len(self._grammar.first_chars)

    def next(self, at: int, limit: int) -> re.Match[str] | None:
        """Return the first marker that begins in text[at:limit]."""
        text = self._text
        for index, char in enumerate(self._grammar.first_chars):
            if self._ahead[index] < at:
                found = text.find(char, at)
                self._ahead[index] = found if found >= 0 else len(text)
                self.scanned += self._ahead[index] - at
        near = min(self._ahead)
        if near >= limit:
            return None
        match = self._grammar.marker.search(text, near, limit + MAX_MARKER_CHARS)
        self.scanned += (match.end() if match else min(len(text), limit + MAX_MARKER_CHARS)) - near
        return match if match and match.start() < limit else None


def prompt_opening(prompt: str, tags: Grammar) -> str:
    """Return the end of `prompt` that opens, or opens and closes, a block for the model; "" when there is none.

    Strict on purpose: only white space may follow the tag, so a question about tags opens nothing.
    """
    tail = prompt[-2 * MAX_MARKER_CHARS :]
    match = search_prompt_tail(tail, tags)
    if match is None and harmony.ASSISTANT in tail:
        match = harmony.PROMPT.search(tail)
    return match.group() if match else ""


def search_prompt_tail(tail: str, tags: Grammar) -> re.Match[str] | None:
    """Find the reasoning block that the end of a prompt opens, asking the regular expression only where one may be."""
    return tags.prompt_tail.search(tail) if tail.rstrip().endswith(tags.tail_ends) else None


def mentions(text: str, mark: str, at: int, stop: int) -> bool:
    """Whether `mark` begins in text[at:stop], other than right after a quote."""
    found = text.find(mark, at, stop + len(mark) - 1)
    while found > 0 and text[found - 1] in QUOTES:
        found = text.find(mark, found + 1, stop + len(mark) - 1)
    return found >= 0
