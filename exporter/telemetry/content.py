"""Decides which content of prompts, answers and log lines may be exported, and bounds its size. Pure.

With capture off, no text of a person or a model is exported: log lines pass only in known shapes.
"""

from __future__ import annotations

import contextlib
import json
from enum import StrEnum
from typing import Any, Final

import msgspec

from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.pipeline.log_formats import daemon, engine, stamps
from exporter.pipeline.log_formats.redaction import redact
from exporter.pipeline.output.call_names import UNKNOWN, call_arguments
from exporter.pipeline.output.segments import Kind
from exporter.pipeline.phases import Phase
from exporter.pipeline.predictions import FinishedReason, Prediction

ATTRIBUTE_BYTES: Final = 2048
"""Tempo cuts attributes here, in the middle of the JSON if it must; so we cut first, inside the strings."""

BODY_BYTES: Final = 200_000
"""Below Loki's default line limit of 256 KB."""

_LINE_CHARS: Final = 2000


class Capture(StrEnum):
    """How much content may leave."""

    OFF = "off"
    REDACTED = "redacted"
    """Content with secrets and addresses masked. Best effort, no guarantee."""
    FULL = "full"


def prepared(text: str, capture: Capture) -> str:
    """Give content in the form that `capture` lets out. Not for OFF."""
    return redact(text, limit_chars=BODY_BYTES) if capture is Capture.REDACTED else text


def log_body(event: ServerLog | RuntimeLog, capture: Capture) -> str:
    """Give the body of a log record: whole unless capture is off, then a known shape or a note of its length."""
    text = event.content if isinstance(event, ServerLog) else event.message
    if capture is not Capture.OFF:
        return cut(prepared(text, capture), BODY_BYTES)
    text = text.rstrip()
    first = text.partition("\n")[0][:_LINE_CHARS].rstrip("\r")
    # Only server.log is stamped: what an engine prints in brackets may be a user's text.
    stamp = stamps.read(first) if isinstance(event, ServerLog) else stamps.NO_STAMP
    kept = first if _is_known(event, first[stamp.end :], stamp) else first[: stamp.end]
    withheld = len(text) - len(kept)
    return f"{kept.rstrip()} (… {withheld} characters withheld)".lstrip() if withheld > 0 else kept


def finish_reason(reason: FinishedReason) -> str:
    """Give the conventions' word for why a prediction ended; metrics have vLLM's."""
    return "tool_call" if reason is FinishedReason.TOOL_CALLS else reason.value


def messages(prediction: Prediction, capture: Capture) -> str:
    """Give `gen_ai.output.messages` of a prediction as JSON of at most ATTRIBUTE_BYTES.

    Source of the shape: gen-ai-output-messages.json of the GenAI conventions, one assistant message with typed parts.
    Where there is no room, texts are cut, and arguments with them become texts.
    """
    output = prediction.output or ""
    parts = [
        part
        for phase in prediction.phases
        for part in _parts(phase, output[phase.start_char : phase.end_char], capture)
    ]
    limit = ATTRIBUTE_BYTES
    while True:
        # What is too long before it is JSON need not become JSON to be found so.
        if sum(min(part.length, limit) for part in parts) <= ATTRIBUTE_BYTES:
            message = {
                "role": "assistant",
                "parts": [part.shortened(limit) for part in parts],
                "finish_reason": finish_reason(prediction.finished_reason),
            }
            text = json.dumps([message], ensure_ascii=False)
            if len(text.encode("utf-8", "replace")) <= ATTRIBUTE_BYTES:
                return text
        if limit > 16:  # noqa: PLR2004 - shorter pieces identify nothing
            limit //= 2
        else:
            parts = parts[: len(parts) // 2]


class _Part(msgspec.Struct, frozen=True):
    """One part of a message. `text` is the content; for a call its arguments, as JSON if they are `value`."""

    fields: dict[str, str]
    key: str
    text: str
    value: Any = None

    @property
    def length(self) -> int:
        return len(self.text)

    def shortened(self, limit_bytes: int) -> dict[str, Any]:
        text = cut(self.text, limit_bytes)
        return {**self.fields, self.key: self.value if self.value is not None and text == self.text else text}


def _parts(phase: Phase, text: str, capture: Capture) -> list[_Part]:
    if phase.kind is not Kind.TOOL_CALL:
        kind = "reasoning" if phase.kind is Kind.REASONING else "text"
        return [_Part({"type": kind}, "content", prepared(text, capture))]
    arguments = call_arguments(text, phase.tools)
    parts = []
    for tool, given in zip(phase.tools or (UNKNOWN,), arguments, strict=True):
        shown = prepared(given if isinstance(given, str) else json.dumps(given, ensure_ascii=False), capture)
        value = None
        if not isinstance(given, str):
            with contextlib.suppress(ValueError, RecursionError):  # masking may leave what is no JSON
                value = json.loads(shown)
        parts.append(_Part({"type": "tool_call", "name": tool}, "arguments", shown, value))
    return parts


def cut(text: str, limit_bytes: int) -> str:
    """Shorten text to a number of UTF-8 bytes, never in the middle of a character, and say so."""
    # A character has at least one byte: what lies behind so many need not be encoded.
    data = text[: limit_bytes + 1].encode("utf-8", "replace")
    if len(data) <= limit_bytes:
        return text
    mark = "…"
    return data[: max(0, limit_bytes - len(mark.encode()))].decode("utf-8", "ignore") + mark


def _is_known(event: ServerLog | RuntimeLog, line: str, stamp: stamps.Stamp) -> bool:
    """Return whether a line has a known shape, without its stamp; engine lines may come in server.log."""
    if isinstance(event, ServerLog) and stamp.end and daemon.is_known(line):
        return True
    if isinstance(event, ServerLog) and event.level != "debug":
        return False
    return daemon.is_known_to_engines(line) or engine.is_harmless(line)
