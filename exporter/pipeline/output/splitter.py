"""Splits a model's raw output into reasoning, answer and tool calls, in one pass, in chunks of any size.

Does not depend on tokens, times or the daemon: characters in, segments out, and no text is kept. The segments tile
the output: each character lies in exactly one, markup in the segment of the block it fences.

Where a marker counts (families.py lists the texts):
1. Between blocks (at the start, after a block, white space aside) every opening marker counts.
2. Reasoning ends at the first closing tag, as in the inference engines, so nothing inside opens anything, be it
   code, JSON or a tool call. A closing tag between two equal quotes or backticks is a mention, not an end.
3. After the answer began, control tokens of a model (`[THINK]`, Gemma, Seed) and tool calls of the right shape
   count anywhere. A plain `<think>` counts only first on its line, and only if it is closed later: answers do
   talk about `<think>`. Inside a code fence, after a quote or a backtick (so: in a JSON string) nothing counts.
4. A closing tag without an opening one ends reasoning that the prompt must have opened, if the answer mentioned
   no tag before. Nested blocks: when an opening tag was seen inside reasoning, one more closing tag in the text
   that follows extends the block to there.
5. gpt-oss channels count only if the output begins with one (or the prompt ends in `<|start|>assistant`): then
   analysis is reasoning, a message with a recipient is a tool call, commentary and final are the answer.
6. What is never closed reaches to the end of the output.
"""

from __future__ import annotations

import re
from enum import IntEnum

from exporter.pipeline.output import grammar, harmony
from exporter.pipeline.output.call_names import CallHead
from exporter.pipeline.output.families import REASONING_TAGS, TOOL_TAGS, ReasoningTag, ToolTag
from exporter.pipeline.output.fences import Fences, first_on_line
from exporter.pipeline.output.grammar import MAX_MARKER_CHARS, Grammar
from exporter.pipeline.output.segments import Kind, Segment

MAX_SEGMENTS, MAX_MARKERS = 2048, 20_000
"""Past this many segments, or markers looked at, an output is noise: its rest joins the segment then open."""
_MAX_HEADER_CHARS = 512
_CONTEXT_CHARS = 64  # kept before the position: the line start and the quote before a marker
_IN_A_STRING = ('"', "\\")  # what follows a marker that is part of an argument's string
_INK = re.compile(r"\S")
_NO_HEAD = CallHead()
"""Never added to: a call that is opened has its own."""


class _Mode(IntEnum):
    GAP = 0  # between blocks
    ANSWER = 1
    REASONING = 2
    TOOL = 3
    BODY = 4  # of a gpt-oss message
    HEADER = 5  # of a gpt-oss message


_OPEN_KINDS = {_Mode.REASONING: Kind.REASONING, _Mode.TOOL: Kind.TOOL_CALL}


class Splitter:
    """The split of one output. Feed it in chunks, then `finish`; any chunking yields the same segments."""

    def __init__(self, opened_by_prompt: str = "", known: Grammar | None = None) -> None:
        self._grammar = known or grammar.grammar()
        self._text = ""  # what is not decided yet, and a little context before it
        self._base = 0  # where in the output `_text` begins
        self._at = 0  # position in `_text`
        self._mode = _Mode.GAP
        self._out: list[Segment] = []
        self._emitted = 0
        self._start = 0  # where the current segment begins
        self._content = 0  # where its content begins
        self._ink = False  # whether its content holds more than white space
        self._pair: ReasoningTag = REASONING_TAGS[0]
        self._tool: ToolTag = TOOL_TAGS[0]
        self._tools: tuple[str, ...] = ()
        self._head = _NO_HEAD
        self._kind = Kind.ANSWER  # of the gpt-oss message
        self._harmony = False
        self._header = ""  # the part of a header that the prompt already holds
        self._nested = False
        self._held: Segment | None = None  # reasoning that one more closing tag may extend
        self._maybe: tuple[int, int, ReasoningTag | None] | None = None  # where reasoning may have begun
        self._fences = Fences()
        self._markers = grammar.MarkerSearch(self._grammar)
        self._scanned = 0
        self._marks = 0
        if opened_by_prompt:
            self._enter_from_prompt(opened_by_prompt)

    @property
    def scanned(self) -> int:
        """Characters looked at so far, the measure of the work done: bounded by a multiple of the length."""
        return self._scanned + self._fences.scanned + self._markers.scanned

    @property
    def kind(self) -> Kind:
        """What the text at the current position is, as far as it is decided."""
        return self._kind if self._mode is _Mode.BODY else _OPEN_KINDS.get(self._mode, Kind.ANSWER)

    def feed(self, chunk: str) -> list[Segment]:
        """Take in more of the output; return the segments that became certain."""
        keep = max(0, self._at - _CONTEXT_CHARS)
        self._text = self._text[keep:] + chunk
        self._base, self._at = self._base + keep, self._at - keep
        self._run(len(self._text) - MAX_MARKER_CHARS, final=False)
        return self._certain()

    def finish(self) -> list[Segment]:
        """End the output; return the segments not returned yet."""
        self._run(len(self._text), final=True)
        end = self._base + len(self._text)
        kind = self.kind
        self._content = end if self._mode in (_Mode.GAP, _Mode.HEADER) else self._content
        if self._start < end:
            cut = kind is Kind.REASONING or (self._mode is _Mode.TOOL and self._tool.close is not None)
            self._close(kind, end, end, closed=not cut)
        self._flush()
        return self._certain()

    def _certain(self) -> list[Segment]:
        start, self._emitted = self._emitted, len(self._out)
        return self._out[start:]

    def _enter_from_prompt(self, tail: str) -> None:
        self._harmony = harmony.ASSISTANT in tail
        if self._harmony and "<|message|>" in tail:
            self._open_message(tail, 0)
        elif self._harmony:
            self._header = tail
            self._mode = _Mode.HEADER if "<|channel|>" in tail else _Mode.GAP
        else:
            for pair in self._grammar.reasoning:
                if tail.rfind(pair.open) > tail.rfind(pair.close):
                    self._pair, self._mode = pair, _Mode.REASONING
                    return

    @property
    def _is_noise(self) -> bool:
        return len(self._out) >= MAX_SEGMENTS or self._marks > MAX_MARKERS

    def _run(self, limit: int, *, final: bool) -> None:
        """Decide everything that begins before `limit`; beyond it a marker might still be incomplete."""
        self._markers.restart(self._text)
        scans = (self._scan_gap, self._scan_answer, self._scan_reasoning, self._scan_tool, self._scan_body)
        while self._at < limit:
            mode = self._mode
            if self._marks > MAX_MARKERS and mode is not _Mode.GAP:
                self._see_ink(limit)
                self._move(limit)
            elif mode is not _Mode.HEADER:
                scans[mode](limit)
            elif not self._scan_header(limit, final=final):
                return

    def _scan_gap(self, limit: int) -> None:
        ink = _INK.search(self._text, self._at, limit)
        self._move(ink.start() if ink else limit)
        if not ink:
            return
        first = not self._out and self._held is None
        if self._is_noise:
            self._begin_answer()
        elif (first or self._harmony) and harmony.START.match(self._text, self._at):
            self._flush()
            self._harmony = True
            self._mode = _Mode.HEADER
        elif match := self._grammar.opener.match(self._text, self._at):
            self._open_block(match)
        else:
            self._begin_answer()
            if first:
                self._maybe = (self._start, self._content, None)

    def _open_block(self, match: re.Match[str]) -> None:
        """Open the block whose opening marker `match` stands at the position."""
        self._flush()
        marker = self._grammar.markers[match.group()]
        self._content = self._base + match.end()
        self._ink = False
        if marker.reasoning is not None:
            self._pair = marker.reasoning
            self._nested = False
            self._mode = _Mode.REASONING
        elif (tool := marker.tool(self._text, match.end())) is not None:
            self._tool = tool
            self._head = CallHead(tool.open if tool.at_start else "")
            self._mode = _Mode.TOOL
        self._move(match.end())

    def _begin_answer(self) -> None:
        self._mode = _Mode.ANSWER
        self._content = self._base + self._at
        self._ink = True
        self._fences.restart(self._content)

    def _scan_answer(self, limit: int) -> None:
        text, fences = self._text, self._fences
        edge = fences.edge(text, self._base, limit)
        found = None
        if not self._is_noise and not fences.inside:  # in code nothing counts
            found = self._markers.next(self._at, min(edge + 1, limit))
        if found is None:
            self._move(limit if edge >= limit else fences.cross(text, self._base, edge))
            return
        self._marks += 1
        start = found.start()
        self._move(start)
        quoted = start > 0 and text[start - 1] in grammar.QUOTES
        self._take_marker(found, quoted=quoted)
        self._move(found.end())

    def _take_marker(self, found: re.Match[str], *, quoted: bool) -> None:
        """Act on a marker in the answer, outside of code; it may be only text."""
        marker = self._grammar.markers[found.group()]
        pair = marker.reasoning
        here = self._base + found.start()
        if marker.closes:
            if not quoted and self._maybe is not None and self._maybe[2] in (None, pair):
                self._close_late(self._maybe, here, self._base + found.end())
            return
        if pair is not None:
            if quoted or not pair.control:
                first = first_on_line(self._text, found.start(), from_start=False)
                if not quoted and first and self._held is None:
                    self._maybe = (here, self._base + found.end(), pair)
                elif self._maybe is not None and self._maybe[2] is None:
                    self._maybe = None  # the answer talks about tags
                return
        elif quoted:
            return
        self._close(Kind.ANSWER, here, here, closed=True)
        self._open_block(found)

    def _close_late(self, maybe: tuple[int, int, ReasoningTag | None], content_end: int, end: int) -> None:
        """Turn the text since `maybe` into reasoning that ends at `end`."""
        start, content, _ = maybe
        if self._held is not None:
            self._held = None
        elif start > self._start:
            self._close(Kind.ANSWER, start, start, closed=True)
        self._start, self._content, self._ink = start, content, content < content_end
        self._close(Kind.REASONING, content_end, end, closed=True)
        self._mode = _Mode.GAP

    def _scan_reasoning(self, limit: int) -> None:
        if not self._ink and not self._scan_reasoning_start(limit, self._pair):
            return
        text, at, close = self._text, self._at, self._pair.close
        found = text.find(close, at, limit + len(close) - 1)
        stop = limit if found < 0 else found
        if not self._nested:
            self._scanned += stop - at
            self._nested = grammar.mentions(text, self._pair.open, at, stop)
        self._move(stop)
        if found < 0:
            return
        self._marks += 1
        after = found + len(close)
        before = text[found - 1 : found]
        self._move(after)
        if before and before in grammar.QUOTES and text[after : after + 1] == before:
            return
        end = self._base + after
        segment = self._segment(Kind.REASONING, self._base + found, end, closed=True)
        if self._nested:
            self._held = segment
            self._maybe = (segment.start, segment.content_start, self._pair)
        else:
            self._out.append(segment)
        self._begin(end)

    def _scan_reasoning_start(self, limit: int, pair: ReasoningTag) -> bool:
        """Pass white space, and opening tags that only repeat what the prompt opened; True at the content."""
        ink = _INK.search(self._text, self._at, limit)
        self._move(ink.start() if ink else limit)
        if ink and self._text.startswith(pair.open, self._at):
            self._marks += 1
            self._move(self._at + len(pair.open))
            self._content = self._base + self._at
        elif ink:
            self._ink = not self._text.startswith(pair.close, self._at)
            return True
        return False

    def _scan_tool(self, limit: int) -> None:
        text, at, close = self._text, self._at, self._tool.close
        if close is None:
            match = self._grammar.opener.match
            mark = self._tool.open
            found = -1 if self._tool.at_start else text.find(mark, at, limit + len(mark) - 1)
            counts = found >= 0 and match(text, found) is not None
            after, skip = found, found + len(self._tool.open)
        else:
            found = text.find(close, at, limit + len(close) - 1)
            after = skip = found + len(close)
            counts = found >= 0 and text[after : after + 1] not in _IN_A_STRING
        stop = limit if found < 0 else found if counts else skip
        self._marks += found >= 0
        self._head.add(text, at, stop)
        self._see_ink(stop)
        self._move(stop)
        if counts:
            self._move(after)
            self._close(Kind.TOOL_CALL, self._base + found, self._base + after, closed=True)
            self._mode = _Mode.GAP

    def _scan_header(self, limit: int, *, final: bool) -> bool:
        """Read one header once it is whole; False while it is not."""
        text, at = self._text, self._at
        body = text.find(harmony.BODY, at, at + _MAX_HEADER_CHARS)
        if 0 <= body < limit:
            self._move(body + len(harmony.BODY))
            self._open_message(f"{self._header} {text[at:body]}", self._base + self._at)
            self._header = ""
            return True
        if limit - at < _MAX_HEADER_CHARS and not (final and "<|" not in text[at:]):
            if final:
                self._move(limit)
            return False
        self._begin_answer()  # no header after all
        return True

    def _open_message(self, header_text: str, content: int) -> None:
        header = harmony.read_header(header_text)
        of_channel = Kind.REASONING if header.channel == "analysis" else Kind.ANSWER
        self._kind = Kind.TOOL_CALL if header.tool else of_channel
        self._tools = (header.tool,) if header.tool else ()
        self._content = content
        self._ink, self._mode = False, _Mode.BODY
        self._fences.restart(content)

    def _scan_body(self, limit: int) -> None:
        text = self._text
        found = None if self._is_noise else harmony.END.search(text, self._at)
        stop = limit if found is None or found.start() >= limit else found.start()
        if self._kind is Kind.ANSWER:
            self._fences.see(text, self._base, stop)
        self._see_ink(stop)
        self._move(stop)
        if found is None or found.start() >= limit:
            return
        self._marks += 1
        quoted = text[stop - 1 : stop] in tuple(grammar.QUOTES)
        if self._kind is Kind.ANSWER and (self._fences.inside or quoted):
            self._move(found.end())
            return
        here = self._base + stop
        if found.lastgroup == "stop":
            self._move(found.end())
        self._close(self._kind, here, self._base + self._at, closed=True)
        self._mode = _Mode.GAP

    def _see_ink(self, stop: int) -> None:
        self._ink = self._ink or _INK.search(self._text, self._at, stop) is not None

    def _move(self, to: int) -> None:
        if to > self._at:
            self._scanned += to - self._at
            self._at = to

    def _segment(self, kind: Kind, content_end: int, end: int, *, closed: bool) -> Segment:
        tools = self._tools
        if self._mode is _Mode.TOOL:
            tools = self._head.names(self._tool.names)
        elif kind is not Kind.TOOL_CALL:
            tools = ()
        return Segment(kind, self._start, end, self._content, content_end, not self._ink, closed, tools)

    def _close(self, kind: Kind, content_end: int, end: int, *, closed: bool) -> None:
        self._flush()
        self._out.append(self._segment(kind, content_end, end, closed=closed))
        self._begin(end)

    def _flush(self) -> None:
        if self._held is not None:
            self._out.append(self._held)
            self._held = None
        self._maybe = None

    def _begin(self, start: int) -> None:
        self._start = self._content = start
        self._ink = False
        self._mode = _Mode.GAP


def split(output: str, opened_by_prompt: str = "", known: Grammar | None = None) -> list[Segment]:
    """Split a whole output. `opened_by_prompt` is what `prompt_opening` returned for its prompt."""
    known = known or grammar.grammar()
    if not opened_by_prompt and output and not any(char in output for char in known.first_chars):
        ink = _INK.search(output)
        content = ink.start() if ink else len(output)
        if known.starter.match(output, content) is None and harmony.START.match(output, content) is None:
            return [
                Segment(Kind.ANSWER, 0, len(output), content, len(output), blank=ink is None, closed=True)
            ]
    splitter = Splitter(opened_by_prompt, known)
    splitter._text = output  # noqa: SLF001 - one pass instead of two
    return splitter.finish()
