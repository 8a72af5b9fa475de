"""Pure: what of prompts, answers and log lines may leave, and in what size.

Knows no sink. With capture off nothing a person or a model wrote leaves: log lines pass only in known shapes.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Final

from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.pipeline.output.segments import Kind
from exporter.pipeline.predictions import Prediction
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

# First lines of log events that hold nothing but the daemon's or an engine's own words. Source: published captures.
_STAMP: Final = (
    r"(?:\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\])?\[(?:DEBUG|INFO|WARN|ERROR)\] ?(?:\[[^\]\n]{1,128}\])? ?"
)
_CRASH: Final = (
    r"The model has crashed without additional information\. \(Exit code: -?\w{1,24}\)"
    r"(?:\.(?: Error Data: n/a, Additional Data: n/a)?)?"
    r"|Engine protocol runtime [\w.-]{1,64} for [\w./@:-]{1,128} exited before becoming healthy\. "
    r"exitCode=-?\w{1,24}(?:, signal=\w{1,16})?"
)
_SERVER_WORDS: Final = re.compile(
    r"Running chat completion on conversation with \d+ messages\."
    r"|Prompt processing progress: \d{1,3}(?:\.\d+)?%"
    r"|Client disconnected\. Stopping generation\.\.\."
    r" \(If the model is busy processing the prompt, it will finish first\.\)"
    r"|Finished streaming response"
    r"|Success! HTTP server listening on port \d+(?: \| Just-in-time model loading active\.)?"
    r"|stderr: env: [\w.-]{1,32}: No such file or directory"
    r"|" + _CRASH
)
_ENGINE_WORDS: Final = re.compile(
    r"Prompt cache restore: cached_tokens=\d+ uncached_tokens=\d+"
    r"|draft acceptance = [\d.]+ \( *\d+ accepted / *\d+ generated\)(?:, mean len = +[\d.]+)?"
    r"|" + _CRASH
)
_HEAD: Final = re.compile(_STAMP)


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
    text = text.rstrip()
    first = text.partition("\n")[0][:_LINE_CHARS].rstrip("\r")
    # Only server.log is stamped: what an engine prints in brackets may be anybody's words.
    head = _HEAD.match(first) if isinstance(event, ServerLog) else None
    stamp = head[0] if head else ""
    kept = first if _is_known(event, first[len(stamp) :], stamped=head is not None) else stamp
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


def _is_known(event: ServerLog | RuntimeLog, line: str, *, stamped: bool) -> bool:
    """Tell whether a line, its stamp aside, has a known shape: an engine's may come in server.log, at level debug."""
    if isinstance(event, ServerLog) and stamped and _SERVER_WORDS.fullmatch(line):
        return True
    if isinstance(event, ServerLog) and event.level != "debug":
        return False
    return parse_line(line) is not None or _ENGINE_WORDS.fullmatch(line) is not None
