"""Make up what a model writes: reasoning, answer and tool calls in the raw tags of its family.

Pure and seeded; does not depend on time, daemon or wire. Token counts are exact in the simulator's own terms.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from llmster_sim.models.catalogue import Family

Kind = Literal["reasoning", "message", "tool_call", "tag", "call_tag"]

# One token: a special tag, a run of up to 8 visible characters with the space before it, or white space.
# Assumed: no real tokenizer; what matters is that text and counts always agree.
_TOKEN = re.compile(r"<\|?/?[a-z_]+\|?>|\[/?[A-Z_]+\]|<[a-z]+\|>| ?[^\s<\[]{1,8}|\s+|[<\[]")

_VOCABULARY = """
the queue slot model token cache reader order count while each running keeps goes time check value result
first then because so step list file search page data note plan answer open close next final sum compare
reason about user asks need find short clear maybe wait actually look read write call tool
"""
_WORDS = tuple(_VOCABULARY.split())


def tokenize(text: str) -> tuple[str, ...]:
    """Cut text into the simulator's tokens; joining them gives the text back."""
    return tuple(_TOKEN.findall(text))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One call the model asks for; `call_id` is the id the API layers repeat."""

    name: str
    arguments: dict[str, Any]
    call_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of output of one kind; tags are separate segments, as the daemon marks them structural."""

    kind: Kind
    tokens: tuple[str, ...]
    call: ToolCall | None = None
    edge: Literal["start", "end"] | None = None

    @property
    def text(self) -> str:
        """The raw text of the segment."""
        return "".join(self.tokens)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """Everything one prediction writes, in order."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The whole raw output, tags included, as the log stream carries it."""
        return "".join(segment.text for segment in self.segments)

    @property
    def token_count(self) -> int:
        """Tokens of everything, tags included."""
        return sum(len(segment.tokens) for segment in self.segments)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Tool calls in order."""
        return tuple(segment.call for segment in self.segments if segment.call is not None)

    def count(self, kind: Kind) -> int:
        """Tokens of one kind."""
        return sum(len(segment.tokens) for segment in self.segments if segment.kind == kind)

    def of(self, kind: Kind) -> str:
        """Text of one kind, joined."""
        return "".join(segment.text for segment in self.segments if segment.kind == kind)

    def cut(self, token_count: int) -> Generation:
        """Keep the first `token_count` tokens; a tool call cut short is no call."""
        kept: list[Segment] = []
        left = token_count
        for segment in self.segments:
            if left <= 0:
                break
            if len(segment.tokens) <= left:
                kept.append(segment)
            else:
                kept.append(dataclasses.replace(segment, tokens=segment.tokens[:left], call=None))
            left -= len(segment.tokens)
        return Generation(segments=tuple(kept))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Tags:
    reasoning_start: str
    reasoning_end: str
    call_start: str
    call_end: str


# Published: the reasoning tags. Assumed: Gemma 4's closing tag and every tool call form
# but Qwen's, which follow the public chat templates of these families.
_TAGS: dict[Family, _Tags] = {
    "think": _Tags(
        reasoning_start="<think>\n",
        reasoning_end="\n</think>\n\n",
        call_start="<tool_call>\n",
        call_end="\n</tool_call>",
    ),
    # The template ends the prompt with an open <think>, so the output only holds the closing tag.
    "think_open": _Tags(
        reasoning_start="",
        reasoning_end="\n</think>\n\n",
        call_start="<tool_call>\n",
        call_end="\n</tool_call>",
    ),
    "harmony": _Tags(
        reasoning_start="<|channel|>analysis<|message|>",
        reasoning_end="<|end|>",
        call_start="<|start|>assistant<|channel|>commentary to=functions.",
        call_end="<|call|>",
    ),
    "gemma_thought": _Tags(
        reasoning_start="<|channel>thought\n",
        reasoning_end="<channel|>",
        call_start="<|tool_call>call:",
        call_end="<tool_call|>",
    ),
    "mistral": _Tags(
        reasoning_start="[THINK]",
        reasoning_end="[/THINK]",
        call_start="[TOOL_CALLS]",
        call_end="",
    ),
}
_PLAIN = _Tags(reasoning_start="", reasoning_end="", call_start="<tool_call>\n", call_end="\n</tool_call>")


def _call_body(*, family: Family, call: ToolCall) -> str:
    arguments = json.dumps(call.arguments, separators=(", ", ": "))
    if family == "harmony":
        return f"{call.name} <|constrain|>json<|message|>{arguments}"
    if family == "gemma_thought":
        return f"{call.name}{arguments}"
    if family == "mistral":
        return f"{call.name}[ARGS]{arguments}"
    return json.dumps({"name": call.name, "arguments": call.arguments}, separators=(", ", ": "))


def prose(*, rng: random.Random, words: int) -> str:
    """Meaningless words, for prompts and answers alike."""
    return " ".join(rng.choice(_WORDS) for _ in range(words))


def _tag(text: str, edge: Literal["start", "end"] | None = None, kind: Kind = "tag") -> list[Segment]:
    return [Segment(kind=kind, tokens=tokenize(text), edge=edge)] if text else []


def generate(
    *,
    rng: random.Random,
    family: Family,
    reasoning_words: int,
    answer_words: int,
    calls: Sequence[ToolCall] = (),
) -> Generation:
    """Write one output; `reasoning_words` is ignored by families that do not reason."""
    tags = _TAGS.get(family, _PLAIN)
    segments: list[Segment] = []
    if reasoning_words and family in _TAGS:
        segments += _tag(tags.reasoning_start, "start")
        segments.append(Segment(kind="reasoning", tokens=tokenize(prose(rng=rng, words=reasoning_words))))
        segments += _tag(tags.reasoning_end, "end")
    if answer_words:
        if family == "harmony":
            opening = "<|start|>assistant" if segments else ""
            segments += _tag(f"{opening}<|channel|>final<|message|>")
        segments.append(Segment(kind="message", tokens=tokenize(prose(rng=rng, words=answer_words))))
    for call in calls:
        segments += _tag(tags.call_start, kind="call_tag")
        segments.append(
            Segment(kind="tool_call", tokens=tokenize(_call_body(family=family, call=call)), call=call)
        )
        segments += _tag(tags.call_end, kind="call_tag")
    return Generation(segments=tuple(segments))


def new_call(*, rng: random.Random, name: str, arguments: dict[str, Any]) -> ToolCall:
    """Give a call with a fresh id of the OpenAI form."""
    return ToolCall(name=name, arguments=arguments, call_id=f"call_{rng.getrandbits(64):016x}")
