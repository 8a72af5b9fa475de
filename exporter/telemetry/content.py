"""Pure: what of prompts, answers and log lines may leave, and in what size.

Knows no sink. With capture off nothing a person or a model wrote leaves: log lines pass only in known shapes.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Final

from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.pipeline.predictions import Prediction
from exporter.pipeline.segments import Kind
from exporter.pipeline.slots import parse_line

ATTRIBUTE_BYTES: Final = 2048
"""Tempo cuts attributes here, in the middle of the JSON if it must; so we cut first, inside the strings."""

BODY_BYTES: Final = 200_000
"""Below Loki's default line limit of 256 KB."""

_LINE_CHARS: Final = 2000


class Capture(StrEnum):
    """How much content may leave."""

    OFF = "off"
    REDACTED = "redacted"
    """Content with what looks like a secret or an address masked. A help, no guarantee."""
    FULL = "full"


_SECRETS: Final = (
    (re.compile(r"sk-[A-Za-z0-9_-]{2,}:?[A-Za-z0-9_-]{8,}"), "[token]"),
    (re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}"), "Bearer [token]"),
    (re.compile(r"\b(?:gh[pousr]_|glpat-|xox[baprs]-|AKIA)[A-Za-z0-9_-]{8,}"), "[token]"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}"), "[token]"),
    (
        re.compile(r"(?i)\b(password|passwd|secret|api[_-]?key|token)(\"?\s*[:=]\s*\"?)[^\s\",;}]{3,}"),
        r"\1\2[secret]",
    ),
    (re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,190}\.[A-Za-z]{2,24}"), "[email]"),
    (re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL), "[key]"),
)

# First lines of server.log events that hold nothing but the daemon's own words. Source: published captures.
_STAMP: Final = (
    r"(?:\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\])?\[(?:DEBUG|INFO|WARN|ERROR)\] ?(?:\[[^\]\n]{1,128}\])? ?"
)
_SAFE_SERVER: Final = re.compile(
    _STAMP + r"(?:"
    r"Running chat completion on conversation with \d+ messages\."
    r"|Prompt processing progress: \d{1,3}(?:\.\d+)?%"
    r"|Client disconnected\. Stopping generation\.\.\."
    r" \(If the model is busy processing the prompt, it will finish first\.\)"
    r"|Finished streaming response"
    r"|Success! HTTP server listening on port \d+(?: \| Just-in-time model loading active\.)?"
    r"|stderr: env: [\w.-]{1,32}: No such file or directory"
    r"|The model has crashed without additional information\. \(Exit code: -?\w{1,12}\)\.?"
    r")"
)
_HEAD: Final = re.compile(_STAMP)
_RUNTIME_CONTENT: Final = re.compile(r"[\"'`{}<>]|(?i:prompt|content|message|input|output|text)\s*[:=]")
"""Engines print numbers and names; a quote, a brace or a key like `prompt:` is where content could begin."""


def redact(text: str) -> str:
    """Mask what looks like a secret or an e-mail address."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def prepared(text: str, capture: Capture) -> str:
    """Give content in the form that `capture` lets out. Not for OFF."""
    return redact(text) if capture is Capture.REDACTED else text


def log_body(event: ServerLog | RuntimeLog, capture: Capture) -> str:
    """Give the body of a log record: whole unless capture is off, then a known shape or a note of its length."""
    text = event.content if isinstance(event, ServerLog) else event.message
    if capture is Capture.FULL:
        return cut(text, BODY_BYTES)
    if capture is Capture.REDACTED:
        return cut(redact(text), BODY_BYTES)
    first, _, rest = text.partition("\n")
    first = first[:_LINE_CHARS].rstrip("\r")
    if isinstance(event, ServerLog):
        if _SAFE_SERVER.fullmatch(first) or (event.level == "debug" and _is_engine_line(first)):
            return first + _withheld(len(rest))
        head = _HEAD.match(first)
        return (head[0] if head else "") + _withheld(len(text) - (head.end() if head else 0)).lstrip()
    content = _RUNTIME_CONTENT.search(first)
    kept = first[: content.start()] if content else first
    return kept + _withheld(len(text) - len(kept))


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
        if limit > 16:  # noqa: PLR2004 - shorter pieces than this tell nothing
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


def _is_engine_line(line: str) -> bool:
    head = _HEAD.match(line)
    return parse_line(line[head.end() :] if head else line) is not None


def _withheld(characters: int) -> str:
    return f" (… {characters} characters withheld)" if characters > 0 else ""
