"""How each API writes an answer, as tables: which event carries what text, and where usage, model and errors stand.

Pure. Reads one decoded JSON value at a time into a meter. Unknown events, fields and types pass by: APIs grow.
Sources: OpenAI's API reference (chat completions, completions, responses streaming events), Anthropic's (messages
streaming), LM Studio's docs ("Streaming events" of /api/v1/chat), lmstudio-js (predict channel messages).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exporter.pipeline.output.segments import Kind
from exporter.tap.meter import Meter
from exporter.tap.report import Usage

Path = tuple[str, ...]
_LABEL: Final = re.compile(r"[^A-Za-z0-9_.-]+")
MAX_CHOICES: Final = 64


@dataclass(frozen=True, slots=True)
class Rule:
    """What one type of event carries. Paths lead from the event's top."""

    kind: Kind | None = None
    """Of the text; None with a text path: text of the answer that may hold tags."""
    text: Path = ()
    tool: Path = ()
    """A tool's name."""
    whole: Path = ()
    """A part with usage, model and the reason for the end."""
    error: Path = ()


@dataclass(frozen=True, slots=True)
class Format:
    """An API whose events name their type."""

    subtypes: tuple[Path, ...]
    """Fields with a finer type of an event; the first that exists is appended after a slash."""
    rules: Mapping[str, Rule]
    finish: tuple[Path, ...] = field(default=())
    """Where the reason for the end stands, below `whole`."""


_LMSTUDIO: Final = Format(
    subtypes=(),
    rules={
        "chat.start": Rule(whole=("",)),
        "reasoning.delta": Rule(Kind.REASONING, ("content",)),
        "message.delta": Rule(Kind.ANSWER, ("content",)),
        "tool_call.start": Rule(tool=("tool",)),
        "tool_call.arguments": Rule(Kind.TOOL_CALL, ("arguments",)),
        "error": Rule(error=("error",)),
        "chat.end": Rule(whole=("result",)),
    },
)
_ANTHROPIC: Final = Format(
    subtypes=(("delta", "type"), ("content_block", "type")),
    rules={
        "message_start": Rule(whole=("message",)),
        "content_block_start/tool_use": Rule(tool=("content_block", "name")),
        "content_block_delta/text_delta": Rule(None, ("delta", "text")),
        "content_block_delta/thinking_delta": Rule(Kind.REASONING, ("delta", "thinking")),
        "content_block_delta/input_json_delta": Rule(Kind.TOOL_CALL, ("delta", "partial_json")),
        "message_delta": Rule(whole=("",)),
        "error": Rule(error=("error",)),
    },
    finish=(("delta", "stop_reason"), ("stop_reason",)),
)
_RESPONSES: Final = Format(
    subtypes=(("item", "type"),),
    rules={
        "response.created": Rule(whole=("response",)),
        "response.output_item.added/function_call": Rule(tool=("item", "name")),
        "response.output_item.added/mcp_call": Rule(tool=("item", "name")),
        "response.output_text.delta": Rule(None, ("delta",)),
        "response.refusal.delta": Rule(Kind.ANSWER, ("delta",)),
        "response.reasoning_text.delta": Rule(Kind.REASONING, ("delta",)),
        "response.reasoning_summary_text.delta": Rule(Kind.REASONING, ("delta",)),
        "response.function_call_arguments.delta": Rule(Kind.TOOL_CALL, ("delta",)),
        "response.mcp_call_arguments.delta": Rule(Kind.TOOL_CALL, ("delta",)),
        "response.completed": Rule(whole=("response",)),
        "response.incomplete": Rule(whole=("response",)),
        "response.failed": Rule(whole=("response",), error=("response", "error")),
        "error": Rule(error=("",)),
    },
    finish=(("incomplete_details", "reason"), ("status",)),
)
_PREDICT: Final = Format(
    subtypes=(("fragment", "reasoningType"),),
    rules={
        "fragment/none": Rule(Kind.ANSWER, ("fragment", "content")),
        "fragment/reasoning": Rule(Kind.REASONING, ("fragment", "content")),
        "toolCallGenerationNameReceived": Rule(tool=("name",)),
        "toolCallGenerationArgumentFragmentGenerated": Rule(Kind.TOOL_CALL, ("content",)),
        "success": Rule(whole=("",)),
    },
    finish=(("stats", "stopReason"),),
)
FORMATS: Final = {
    "lmstudio": _LMSTUDIO,
    "anthropic": _ANTHROPIC,
    "responses": _RESPONSES,
    "predict": _PREDICT,
}

_CHOICE_TEXTS: Final[tuple[tuple[str, Kind | None], ...]] = (
    ("reasoning_content", Kind.REASONING),
    ("reasoning", Kind.REASONING),  # LM Studio, for gpt-oss
    ("content", None),
)
_COMPLETION_TEXTS: Final[tuple[tuple[str, Kind | None], ...]] = (("text", None),)

_USAGE: Final[dict[str, tuple[Path, ...]]] = {
    "input": (("prompt_tokens",), ("input_tokens",), ("promptTokensCount",)),
    "output": (
        ("completion_tokens",),
        ("output_tokens",),
        ("total_output_tokens",),
        ("predictedTokensCount",),
    ),
    "reasoning": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
        ("reasoning_output_tokens",),
    ),
    "cached": (
        ("prompt_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cached_tokens"),
        ("cache_read_input_tokens",),
    ),
}
_MODELS: Final = ("model_instance_id", "model")
_MAX_COUNT: Final = 2**53
_MAX_MODEL_CHARS: Final = 256


def read_event(name: str, value: Any, meter: Meter, now_s: float) -> None:
    """Read one event of a stream into the meter."""
    if not isinstance(value, dict):
        return
    if name == "openai":
        _read_openai(value, meter, now_s, is_delta=True)
        return
    format_ = FORMATS[name]
    type_ = value.get("type")
    for path in format_.subtypes:
        if isinstance(sub := _at(value, path), str):
            exact = format_.rules.get(f"{type_}/{sub}")
            if exact is not None:
                _apply(exact, value, format_, meter, now_s)
                return
    rule = format_.rules.get(type_) if isinstance(type_, str) else None
    if rule is not None:
        _apply(rule, value, format_, meter, now_s)


def read_whole(name: str, value: Any, meter: Meter) -> None:
    """Read an answer that came in one piece."""
    if not isinstance(value, dict):
        return
    if value.get("error") is not None:
        meter.error = error_type(value["error"])
    if name == "openai":
        _read_openai(value, meter, 0.0, is_delta=False)
        return
    _read_summary(value, FORMATS[name].finish, meter)
    items = _items(value.get("output"), value.get("content"))
    if items and isinstance(text := _text_of(items[-1]), str):
        meter.whole(text)
    for item in items:
        if item.get("type") in {"tool_use", "function_call", "mcp_call"}:
            meter.tool(item.get("name"))
        elif item.get("type") == "tool_call":
            meter.tool(item.get("tool"))


def _text_of(item: dict[str, Any]) -> Any:
    """Give the text of the last part of a whole answer: LM Studio's, Anthropic's, or of the responses API."""
    if item.get("type") in {"tool_call", "tool_use", "function_call", "mcp_call"}:
        return None
    content = item.get("content", item.get("text", item.get("thinking")))
    parts = _items(content)
    return parts[-1].get("text") if parts else content


def error_type(error: Any) -> str:
    """Name an error as its API does, made safe for a label."""
    if isinstance(error, dict):
        named = error.get("type") or error.get("code") or error.get("rootTitle") or "error"
        error = named if isinstance(named, str) else "error"
    elif not isinstance(error, str):
        return "error"
    return _LABEL.sub("_", error)[:48] or "error"


def _apply(rule: Rule, value: dict[str, Any], format_: Format, meter: Meter, now_s: float) -> None:
    if rule.text:
        text = _at(value, rule.text)
        if isinstance(text, str) and text:
            tokens = _at(value, ("fragment", "tokensCount")) if format_ is _PREDICT else 1
            count = tokens if isinstance(tokens, int) and 0 <= tokens < _MAX_COUNT else 1
            if rule.kind is None:
                meter.text(text, now_s, count)
            else:
                meter.delta(rule.kind, text, now_s, count)
    if rule.tool:
        meter.tool(_at(value, rule.tool))
    if rule.whole:
        part = value if rule.whole == ("",) else _at(value, rule.whole)
        if isinstance(part, dict):
            _read_summary(part, format_.finish, meter)
    if rule.error:
        error = value if rule.error == ("",) else _at(value, rule.error)
        if error is not None:
            meter.error = error_type(error)


def _read_openai(value: dict[str, Any], meter: Meter, now_s: float, *, is_delta: bool) -> None:
    _read_summary(value, (), meter)
    if is_delta and value.get("error") is not None:
        meter.error = error_type(value["error"])
    for choice in _items(value.get("choices")):
        if isinstance(reason := choice.get("finish_reason"), str):
            meter.finish = reason[:32]
        part = choice.get("delta" if is_delta else "message")
        _read_calls(part, meter, now_s, is_delta=is_delta)
        if not is_delta:
            _read_message(part if isinstance(part, dict) else choice, meter)
        else:
            texts = _CHOICE_TEXTS if isinstance(part, dict) else _COMPLETION_TEXTS
            _read_texts(part if isinstance(part, dict) else choice, texts, meter, now_s)


def _read_message(part: dict[str, Any], meter: Meter) -> None:
    """Take the text of a whole message, or of a completion."""
    if not _items(part.get("tool_calls")):
        texts = (part.get(key) for key in ("content", "text", "reasoning_content", "reasoning"))
        text = next((text for text in texts if isinstance(text, str) and text), None)
        if text is not None:
            meter.whole(text)


def _read_calls(part: Any, meter: Meter, now_s: float, *, is_delta: bool) -> None:
    for call in _items(part.get("tool_calls")) if isinstance(part, dict) else ():
        meter.tool(_at(call, ("function", "name")))
        arguments = _at(call, ("function", "arguments"))
        if is_delta and isinstance(arguments, str) and arguments:
            meter.delta(Kind.TOOL_CALL, arguments, now_s)


def _read_texts(
    part: dict[str, Any], texts: tuple[tuple[str, Kind | None], ...], meter: Meter, now_s: float
) -> None:
    for key, kind in texts:
        text = part.get(key)
        if not isinstance(text, str) or not text:
            continue
        if kind is None:
            meter.text(text, now_s)
        else:
            meter.delta(kind, text, now_s)


def _read_summary(part: dict[str, Any], finish: tuple[Path, ...], meter: Meter) -> None:
    """Read model, usage and the reason for the end, wherever this API keeps them."""
    for key in _MODELS:
        if isinstance(model := part.get(key), str) and model:
            meter.model = model[:_MAX_MODEL_CHARS]
            break
    for key in ("usage", "stats"):
        if isinstance(counts := part.get(key), dict):
            meter.usage = _usage(counts, meter.usage)
    if isinstance(info := part.get("modelInfo"), dict) and isinstance(name := info.get("identifier"), str):
        meter.model = name[:_MAX_MODEL_CHARS]
    for path in finish:
        if isinstance(reason := _at(part, path), str):
            meter.finish = reason[:32]
            break


def _usage(counts: dict[str, Any], known: Usage) -> Usage:
    """Read counts; those missing in this part stay unchanged."""
    found: dict[str, int | None] = {}
    for name, paths in _USAGE.items():
        found[name] = getattr(known, name)
        for path in paths:
            count = _at(counts, path)
            if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < _MAX_COUNT:
                found[name] = count
                break
    return Usage(**found)


def _at(value: Any, path: Path) -> Any:
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _items(*lists: Any) -> list[dict[str, Any]]:
    return [
        item
        for given in lists
        if isinstance(given, list)
        for item in given[:MAX_CHOICES]
        if isinstance(item, dict)
    ]
