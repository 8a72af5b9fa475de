"""Recognises the next turn of a conversation by the beginning of its prompt, from hashes alone.

Does not depend on requests, users or clients: the log stream names none. It stores no text.

A turn leaves up to two marks, each the hash of a text which the next prompt then begins with:
- `exact`: prompt + output. Templates that keep the history whole, tool loops of reasoning models among them.
- not exact: the prompt without what it opened for the model (`<think>`). Most templates strip reasoning from
  history (Qwen3, Gemma 4, gpt-oss do), so prompt + output never comes back. A prefix alone would join strangers
  who began alike, so what follows it must also begin as the answer or the reasoning of that turn did, or be the
  rendering of a tool call where that turn ended in one.
The longest match wins, the newest among equals. A repeated prompt is not its own next turn.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

from exporter.pipeline.output.families import TOOL_TAGS
from exporter.pipeline.output.grammar import Grammar, search_prompt_tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.pipeline.output.segments import Segment

_BLOCK = 256  # bytes between two look-ups in a prompt: finer costs time, coarser crowds the buckets
_BUCKET = 256  # marks that may share all their whole blocks; the oldest gives way
_TAIL = 16  # bytes compared before a hash of the whole prefix is spent
_HEAD = 32  # bytes of an answer that must come back
_MIN_PREFIX = 8  # bytes; a shorter prompt proves nothing
_HARMONY_HEADER = re.compile(rb"\s*<\|channel\|>\w{1,16}<\|message\|>")
_TOOL_OPENERS = (
    *(tag.open.encode() for tag in TOOL_TAGS if not tag.at_start), b"to=", b"<|channel|>commentary to=",
)  # fmt: skip


class Turn(msgspec.Struct, frozen=True):
    """One prediction as a member of its conversation."""

    conversation_id: str
    number: int
    """1 for the first turn we saw."""
    trace_id: int
    span_id: int


class PreviousTurn(msgspec.Struct, frozen=True):
    """The turn before, and whether prompt and output came back whole."""

    turn: Turn
    exact: bool


class Fingerprint(msgspec.Struct):
    """What is kept of a prompt until its output arrives: hash states, no text."""

    previous: PreviousTurn | None
    size: int
    hasher: hashlib._Hash
    crc: int
    block: tuple[int, int]
    stem: tuple[int, tuple[int, int], int, int, bytes] | None  # size, block, tail size, tail crc, digest


class Whole(msgspec.Struct, frozen=True):
    """Prompt and output as hashes."""

    size: int
    block: tuple[int, int]
    tail_size: int
    tail_crc: int
    digest: bytes


class _Mark(msgspec.Struct):
    size: int
    block: tuple[int, int]
    tail_size: int
    tail_crc: int
    digest: bytes
    exact: bool
    turn: Turn
    heads: tuple[tuple[int, int], ...] = ()  # size and crc of how the answer or the reasoning began
    called: bool = False


class Conversations:
    """The last `capacity` turns, by what a next prompt would begin with."""

    def __init__(self, known_tags: Grammar, capacity: int = 4096) -> None:
        self._tags = known_tags
        self._opens = tuple(tag.open.encode() for tag in known_tags.reasoning)
        self._capacity = capacity
        self._marks: dict[tuple[int, int], list[_Mark]] = {}
        self._turns: OrderedDict[int, list[_Mark]] = OrderedDict()
        self._serial = 0

    def __len__(self) -> int:
        return len(self._turns)

    def read(self, prompt: str) -> Fingerprint:
        """Take a prompt's fingerprint and find the turn it continues. One pass over the text, plus one to hash."""
        prompt_end = prompt[-256:]
        opened = search_prompt_tail(prompt_end, self._tags)
        cut = len(prompt) if opened is None else len(prompt) - len(prompt_end) + opened.start()
        data = prompt.encode("utf-8", "surrogatepass")
        cut = len(data) - len(prompt[cut:].encode("utf-8", "surrogatepass"))
        stem_size = len(data[:cut].rstrip())
        view = memoryview(data)
        blocks = [(0, 0)]
        crc = 0
        for number, at in enumerate(range(0, len(data) - _BLOCK + 1, _BLOCK), 1):
            crc = crc32(data[at : at + _BLOCK], crc)
            blocks.append((number, crc))
        candidates = [
            mark
            for block in blocks
            for mark in self._marks.get(block, ())
            if mark.size < stem_size and crc32(view[mark.size - mark.tail_size : mark.size]) == mark.tail_crc
        ]
        hasher = hashlib.sha256()
        seen = 0
        previous: PreviousTurn | None = None
        stem = None
        sizes = sorted({stem_size, *(mark.size for mark in candidates)})
        for size in sizes:
            hasher.update(view[seen:size])
            seen = size
            digest = hasher.digest()
            for mark in candidates:  # oldest first: the newest of equals stays
                if mark.size == size and mark.digest == digest and (mark.exact or self._answers(mark, data)):
                    previous = PreviousTurn(mark.turn, mark.exact)
            if size == stem_size and size >= _MIN_PREFIX:
                tail = min(_TAIL, size)
                stem = (size, blocks[size // _BLOCK], tail, crc32(view[size - tail : size]), digest)
        hasher.update(view[seen:])
        return Fingerprint(
            previous, len(data), hasher, crc32(view[len(data) // _BLOCK * _BLOCK :], crc), blocks[-1], stem
        )

    def add(
        self,
        fingerprint: Fingerprint,
        whole: Whole,
        heads: Sequence[tuple[int, int]],
        turn: Turn,
        *,
        called: bool,
    ) -> None:
        """Remember a turn for the prompts to come. `heads` are from `head`, of what it said and thought."""
        marks = []
        if fingerprint.stem is not None:
            stem = _Mark(*fingerprint.stem, exact=False, turn=turn, heads=tuple(heads[:4]), called=called)
            marks.append(stem)
        if whole.tail_size and whole.size >= _MIN_PREFIX:
            marks.append(
                _Mark(
                    whole.size,
                    whole.block,
                    whole.tail_size,
                    whole.tail_crc,
                    whole.digest,
                    exact=True,
                    turn=turn,
                )
            )
        for mark in marks:
            bucket = self._marks.setdefault(mark.block, [])
            bucket.append(mark)
            if len(bucket) > _BUCKET:
                del bucket[0]
        self._serial += 1
        self._turns[self._serial] = marks
        while len(self._turns) > self._capacity:
            for mark in self._turns.popitem(last=False)[1]:
                self._drop(mark)

    def _drop(self, mark: _Mark) -> None:
        bucket = self._marks.get(mark.block, [])
        bucket[:] = [other for other in bucket if other is not mark]
        if not bucket:
            self._marks.pop(mark.block, None)

    def _answers(self, mark: _Mark, data: bytes) -> bool:
        """Whether the prompt goes on after `mark` as that turn's output did."""
        follows = data[mark.size : mark.size + 256].lstrip()
        if mark.called and follows.startswith(_TOOL_OPENERS):
            return True
        header = _HARMONY_HEADER.match(follows)
        if header:
            follows = follows[header.end() :]
        for opening in self._opens:
            follows = follows.removeprefix(opening)
        follows = follows.lstrip()
        return any(size and crc32(follows[:size]) == crc for size, crc in mark.heads)


def head(output: str, segment: Segment) -> tuple[int, int]:
    """Return size and crc of how a segment begins, white space aside."""
    content = output[segment.content_start : min(segment.content_end, segment.content_start + 2 * _HEAD)]
    data = content.strip().encode("utf-8", "surrogatepass")[:_HEAD]
    return len(data), crc32(data)


def whole(fingerprint: Fingerprint, output: str) -> Whole:
    """Hash prompt and output, without the white space at its end, which templates trim."""
    data = output.rstrip().encode("utf-8", "surrogatepass")
    size = fingerprint.size + len(data)
    block, crc, at = fingerprint.block, fingerprint.crc, 0
    number = block[0]
    for stop in range((number + 1) * _BLOCK - fingerprint.size, len(data) + 1, _BLOCK):
        crc = crc32(data[at:stop], crc)
        at = stop
        number += 1
    if number != block[0]:
        block = (number, crc)
    hasher = fingerprint.hasher.copy()
    hasher.update(data)
    tail = min(_TAIL, len(data))
    return Whole(size, block, tail, crc32(data[len(data) - tail :]), hasher.digest())
