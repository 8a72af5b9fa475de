"""Decides which content of prompts, answers and log lines may be exported, and bounds its size. Pure.

With capture off, no text of a person or a model is exported: log lines pass only in known shapes.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Final

from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.pipeline.log_formats import daemon, engine, stamps
from exporter.pipeline.log_formats.redaction import redact
from exporter.pipeline.output.segments import Kind
from exporter.pipeline.predictions import Prediction

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
    if capture is Capture.FULL:
        return cut(text, BODY_BYTES)
    if capture is Capture.REDACTED:
        return cut(redact(text, limit_chars=BODY_BYTES), BODY_BYTES)
    text = text.rstrip()
    first = text.partition("\n")[0][:_LINE_CHARS].rstrip("\r")
    # Only server.log is stamped: what an engine prints in brackets may be a user's text.
    stamp = stamps.read(first) if isinstance(event, ServerLog) else stamps.NO_STAMP
    kept = first if _is_known(event, first[stamp.end :], stamp) else first[: stamp.end]
    withheld = len(text) - len(kept)
    return f"{kept.rstrip()} (… {withheld} characters withheld)".lstrip() if withheld > 0 else kept


def messages(prediction: Prediction, capture: Capture) -> str:
    """Give `gen_ai.output.messages` of a prediction as JSON of at most ATTRIBUTE_BYTES.

    Source of the shape: OpenTelemetry GenAI conventions v1.41, one assistant message with typed parts.
    """
    output = prediction.output or ""
    parts = [
        {
            "type": _PART_TYPES[phase.kind],
            "content": prepared(output[phase.start_char : phase.end_char], capture),
        }
        for phase in prediction.phases
    ]
    limit = ATTRIBUTE_BYTES
    while True:
        # What is too long before it is JSON need not become JSON to be found so.
        if sum(min(len(part["content"]), limit) for part in parts) <= ATTRIBUTE_BYTES:
            shortened = [part | {"content": cut(part["content"], limit)} for part in parts]
            message = {"role": "assistant", "parts": shortened, "finish_reason": prediction.finished_reason}
            text = json.dumps([message], ensure_ascii=False)
            if len(text.encode("utf-8", "replace")) <= ATTRIBUTE_BYTES:
                return text
        if limit > 16:  # noqa: PLR2004 - shorter pieces identify nothing
            limit //= 2
        else:
            parts = parts[: len(parts) // 2]


def cut(text: str, limit_bytes: int) -> str:
    """Shorten text to a number of UTF-8 bytes, never in the middle of a character, and say so."""
    # A character has at least one byte: what lies behind so many need not be encoded.
    data = text[: limit_bytes + 1].encode("utf-8", "replace")
    if len(data) <= limit_bytes:
        return text
    mark = "…"
    return data[: max(0, limit_bytes - len(mark.encode()))].decode("utf-8", "ignore") + mark


_PART_TYPES: Final = {Kind.REASONING: "reasoning", Kind.ANSWER: "text", Kind.TOOL_CALL: "tool_call"}


def _is_known(event: ServerLog | RuntimeLog, line: str, stamp: stamps.Stamp) -> bool:
    """Return whether a line has a known shape, without its stamp; engine lines may come in server.log."""
    if isinstance(event, ServerLog) and stamp.end and daemon.is_known(line):
        return True
    if isinstance(event, ServerLog) and event.level != "debug":
        return False
    return daemon.is_known_to_engines(line) or engine.is_harmless(line)
