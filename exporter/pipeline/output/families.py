"""Names the markers with which known model families fence off reasoning and tool calls.

Knows no position rules: where a marker counts is decided in `reasoning`.

Sources, read in the model's own template or format document:
- `<think>`: chat templates of Qwen3, QwQ, DeepSeek-R1, GLM-4.5, MiniMax-M2; default of LM Studio's own
  `llm.prediction.reasoning.parsing`.
- `[THINK]`: Ministral-3 Reasoning and Magistral 2507+ (Magistral 2506 writes plain `<think>`).
- `<seed:think>`, `<seed:tool_call>`: ByteDance-Seed-OSS template.
- `<|channel>thought` ... `<channel|>`, `<|tool_call>call:`: Gemma 4 template.
- gpt-oss: "OpenAI harmony response format", openai/harmony docs/format.md.
- `<tool_call>`: Hermes 2 Pro and Qwen (JSON), Qwen3-Coder (`<function=name>`), GLM-4.5 (`name<arg_key>`).
- `[TOOL_CALLS]`: Mistral, a JSON array up to tokenizer v7, `name{` or `name[CALL_ID]id[ARGS]{` later.
- `<|python_tag|>`: Llama 3.1 prompt format. `[TOOL_REQUEST]`: LM Studio's default tool format (docs, "Tool Use").
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

MAX_MARKER_CHARS = 128
"""No marker, with the text that must follow it to count, is longer: the window a stream holds back."""
QUOTES = "`\"'"
"""A marker right after one of these is spoken about, not used."""
HEAD_CHARS = 4096
"""How much of a tool call is looked at to find the name."""
_MAX_CALLS = 64
_PYTHON = "python"
"""Assumed: the tool behind `<|python_tag|>` with bare code; Llama's template calls its environment ipython."""


class ReasoningTag(msgspec.Struct, frozen=True):
    """One pair of texts around reasoning."""

    open: str
    close: str
    control: bool = False
    """A control token of the model, which prose never contains: it opens a block in mid answer too."""


class ToolTag(msgspec.Struct, frozen=True):
    """One way to write tool calls."""

    open: str
    follows: str
    """Regular expression, bounded, of what must follow for it to be a call and not a mention of the marker."""
    close: str | None
    """None: the call runs until the next one or the end of the output."""


REASONING_TAGS = (
    ReasoningTag("<think>", "</think>"),
    ReasoningTag("[THINK]", "[/THINK]", control=True),
    ReasoningTag("<seed:think>", "</seed:think>", control=True),
    ReasoningTag("<|channel>thought", "<channel|>", control=True),
)

TOOL_TAGS = (
    ToolTag(
        "<tool_call>",
        r"\s{0,8}(?:\{|<function=|[\w.:-]{1,64}\s{0,4}(?:<arg_key>|</tool_call>))",
        "</tool_call>",
    ),
    ToolTag("<seed:tool_call>", r"\s{0,8}<function=", "</seed:tool_call>"),
    ToolTag("<|tool_call>", r"call:", "<tool_call|>"),
    ToolTag("[TOOL_CALLS]", r"\s{0,4}(?:\[\s{0,4}\{|[\w.:-]{1,64}\s{0,4}(?:\[(?:ARGS|CALL_ID)\]|\{))", None),
    ToolTag("<|python_tag|>", "", None),
    ToolTag("[TOOL_REQUEST]", r"\s{0,8}\{", "[END_TOOL_REQUEST]"),
)

HARMONY_START = re.compile(
    r"<\|channel\|>|<\|start\|>assistant|to=[\w.:-]{1,64}\s{0,4}(?:<\|channel\|>|<\|constrain\|>|<\|message\|>)"
)
"""How an output of gpt-oss begins: the prompt ends in `<|start|>assistant`, so with the rest of a header."""
HARMONY_BODY = "<|message|>"
HARMONY_END = re.compile(
    r"<\|(?:(?P<stop>(?:end|return|call)\|>)|start\|>assistant|channel\|>(?:analysis|commentary|final))"
)
"""What ends a message. Observed: gpt-oss at times starts the next header without `<|end|>`."""
HARMONY_PROMPT = re.compile(
    r"<\|start\|>assistant[^<]{0,80}(?:<\|channel\|>[^<]{0,80}(?:<\|message\|>\s{0,8})?)?\Z"
)
_CHANNEL = re.compile(r"<\|channel\|>\s{0,4}(\w+)")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")


class Marker(msgspec.Struct, frozen=True):
    """What one marker text does."""

    reasoning: ReasoningTag | None = None
    """The tag it opens, or closes."""
    tool: ToolTag | None = None
    closes: bool = False


class Grammar(msgspec.Struct, frozen=True):
    """The markers of one set of tags, compiled."""

    reasoning: tuple[ReasoningTag, ...]
    markers: dict[str, Marker]
    marker: re.Pattern[str]
    opener: re.Pattern[str]
    """Only what opens a block. Both match exactly a key of `markers`."""
    prompt_tail: re.Pattern[str]
    """A reasoning block which the prompt's own end opens, or opens and closes again."""
    first_chars: tuple[str, ...]
    """With one of these every marker begins: a text without them holds no marker."""


@lru_cache(maxsize=64)
def grammar(custom: tuple[tuple[str, str], ...] = ()) -> Grammar:
    """Compile the known tags and `custom` pairs of (open, close), which go first.

    Raises ValueError for a pair that cannot work: empty, equal, or longer than `MAX_MARKER_CHARS` / 2.
    """
    for pair in custom:
        if not all(0 < len(text) <= MAX_MARKER_CHARS // 2 and not text.isspace() for text in pair):
            raise ValueError(
                f"reasoning tag {pair!r}: both texts must have 1 to {MAX_MARKER_CHARS // 2} characters"
            )
        if pair[0] == pair[1]:
            raise ValueError(f"reasoning tag {pair!r}: the opening and the closing text must differ")
    reasoning = (*(ReasoningTag(*pair) for pair in custom), *REASONING_TAGS)
    markers: dict[str, Marker] = {}
    for tag in reasoning:
        markers.setdefault(tag.open, Marker(reasoning=tag))
        markers.setdefault(tag.close, Marker(reasoning=tag, closes=True))
    for tool in TOOL_TAGS:
        markers.setdefault(tool.open, Marker(tool=tool))
    tails = (
        rf"(?:{re.escape(tag.open)}(?:<seed:cot_budget_reflect>)?\s{{0,8}}(?:{re.escape(tag.close)}\s{{0,8}})?)"
        for tag in reasoning
    )
    return Grammar(
        reasoning,
        markers,
        _any_of(markers),
        _any_of({text: marker for text, marker in markers.items() if not marker.closes}),
        re.compile(rf"(?:{'|'.join(tails)})\Z"),
        tuple(sorted({text[0] for text in markers})),
    )


def _any_of(markers: dict[str, Marker]) -> re.Pattern[str]:
    """Match any of the texts, a tool's if what must follow does; by first character, to which `re` skips."""
    branches = []
    for first in dict.fromkeys(text[0] for text in markers):
        rests = "|".join(
            re.escape(text[1:]) + (f"(?={marker.tool.follows})" if marker.tool else "")
            for text, marker in markers.items()
            if text[0] == first
        )
        branches.append(f"{re.escape(first)}(?:{rests})")
    return re.compile("|".join(branches))


class MarkerSearch:
    """Finds the markers of one text in order, asking the regular expression only where one can begin."""

    __slots__ = ("_ahead", "_grammar", "_text", "scanned")

    def __init__(self, known: Grammar) -> None:
        self._grammar = known
        self.scanned = 0
        self.restart("")

    def restart(self, text: str) -> None:
        """Search in `text` from now on."""
        self._text = text
        self._ahead = [-1] * len(self._grammar.first_chars)  # where each first character occurs next

    def next(self, at: int, limit: int) -> re.Match[str] | None:
        """Return the first marker that begins in text[at:limit]."""
        text = self._text
        for index, char in enumerate(self._grammar.first_chars):
            if self._ahead[index] < at:
                found = text.find(char, at)
                self._ahead[index] = found if found >= 0 else len(text)
                self.scanned += self._ahead[index] - at
        near = min(self._ahead)
        match = self._grammar.marker.search(text, near) if near < limit else None
        if near < limit:
            self.scanned += (match.end() if match else len(text)) - near
        return match if match and match.start() < limit else None


def prompt_opening(prompt: str, tags: Grammar) -> str:
    """Return the end of `prompt` that opens, or opens and closes, a block for the model; "" when there is none.

    Strict on purpose: only white space may follow the tag, so a question about tags opens nothing.
    """
    tail = prompt[-2 * MAX_MARKER_CHARS :]
    match = tags.prompt_tail.search(tail) or HARMONY_PROMPT.search(tail)
    return match.group() if match else ""


class _Call(msgspec.Struct):
    name: str


class _FunctionCall(msgspec.Struct):
    function: _Call


_decode_calls = msgspec.json.Decoder(_Call | list[_Call]).decode
_decode_wrapped = msgspec.json.Decoder(_FunctionCall | list[_FunctionCall]).decode
_FIRST_NAME = re.compile(r'"name"\s{0,8}:\s{0,8}"([^"\\]{1,64})"')
_XML_NAME = re.compile(r"<function=([^>\s]{1,64})>")
_GEMMA_NAME = re.compile(r"call:([^{\s]{1,64})\{")
_BARE_NAME = re.compile(r"[\w.:-]{1,64}")
_METHOD_NAME = re.compile(r"\b([A-Za-z_]\w{0,63})\.call\(")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,63}\Z")


def call_names(tag: str, head: str) -> tuple[str, ...]:
    """Return the tools called in a block opened by `tag`, given its first `HEAD_CHARS` characters.

    A name that does not look like one becomes "unknown": it was generated, and it ends up as a label.
    """
    text = head.strip()
    names = _json_names(text) if text[:1] in ("{", "[") else _text_names(tag, text)
    return tuple(plain_name(name) for name in names[:_MAX_CALLS]) or ("unknown",)


def plain_name(name: str) -> str:
    """Bound a generated tool name."""
    return name if _PLAIN_NAME.match(name) else "unknown"


def _json_names(text: str) -> list[str]:
    for decode in (_decode_calls, _decode_wrapped):
        try:
            calls = decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        listed = calls if isinstance(calls, list) else [calls]
        return [call.function.name if isinstance(call, _FunctionCall) else call.name for call in listed]
    return _FIRST_NAME.findall(text)[:1]  # cut off, or several objects in a row: the first is certain


def _text_names(tag: str, text: str) -> list[str]:
    if tag == "<|python_tag|>":
        return _METHOD_NAME.findall(text) or [_PYTHON]
    if tag == "<|tool_call>":
        return _GEMMA_NAME.findall(text)[:1]
    return _XML_NAME.findall(text) or [match.group() for match in [_BARE_NAME.match(text)] if match]


class CallHead:
    """The first `HEAD_CHARS` characters of a tool call that passes by in pieces."""

    __slots__ = ("_pieces", "_room")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._room = HEAD_CHARS

    def add(self, text: str, start: int, stop: int) -> None:
        """Take what still fits of text[start:stop]."""
        if self._room:
            piece = text[start : min(stop, start + self._room)]
            self._pieces.append(piece)
            self._room -= len(piece)

    def names(self, tag: str) -> tuple[str, ...]:
        """Return the tools called in the block that `tag` opened."""
        return call_names(tag, "".join(self._pieces))


def mentions(text: str, mark: str, at: int, stop: int) -> bool:
    """Whether `mark` begins in text[at:stop], other than right after a quote."""
    found = text.find(mark, at, stop + len(mark) - 1)
    while found > 0 and text[found - 1] in QUOTES:
        found = text.find(mark, found + 1, stop + len(mark) - 1)
    return found >= 0


class Header(msgspec.Struct, frozen=True):
    """What a gpt-oss message header says."""

    channel: str
    tool: str | None


def read_header(header: str) -> Header:
    """Read `<|start|>assistant<|channel|>commentary to=functions.x <|constrain|>json`, or any part of it.

    The recipient may stand after the role or after the channel: harmony's encoder writes the one, the model both.
    """
    channel = _CHANNEL.search(header)
    recipient = _RECIPIENT.search(header)
    tool = recipient.group(1).removeprefix("functions.") if recipient else None
    return Header(
        channel.group(1) if channel else "",
        plain_name(tool) if tool is not None and tool not in ("assistant", "user", "all") else None,
    )
