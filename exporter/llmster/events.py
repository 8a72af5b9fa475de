"""Turns one entry of the daemon's log stream into a typed event.

Does not depend on channels, queues or metrics. Keeps no content longer than its caller.

Source of every shape: `diagnosticsLogEventSchema` of lmstudio-js, carried by `diagnostics.streamLogs` as
`{"type":"log","log":{"timestamp":ms,"data":{"type":...}}}` and printed one `log` object per line by
`lms log stream --json` (its own notices go to stderr). Newer daemons add keys and types: keys are ignored,
types become `UnknownEvent`. Nothing here raises on what the daemon sends.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from exporter.llmster import lenient

MALFORMED = "malformed"
"""`UnknownEvent.type` of an entry that is not JSON, or breaks the schema where we rely on it."""

_MAX_TYPE_CHARS = 64
_MAX_SECONDS = 7 * 86_400.0  # a week: longer than any prediction, shorter than a clock error
_MAX_TOKENS = 1_000_000_000
_MAX_TOKENS_PER_S = 500_000.0  # llama.cpp prints 1000000.00 when it measured no time at all
_MAX_TIMESTAMP_MS = (
    2**63 // 10**6
)  # the year 2262: OTLP counts nanoseconds, and one too many costs a whole batch
_MAX_PID = 2**31  # pid_t; a larger one is not a process, and OTLP has no number for it


class PredictionStats(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the daemon measured; a field it did not send, or sent as nonsense, is None.

    Source: `llmPredictionStatsSchema`. `numGpuLayers` is left out: it is documented wrong.
    """

    stop_reason: str | None = None
    """As sent, also when no known value."""
    tokens_per_second: float | None = None
    time_to_first_token_s: float | None = None
    prompt_tokens: int | None = None
    predicted_tokens: int | None = None
    draft_model: str | None = None
    draft_tokens: int | None = None
    draft_tokens_accepted: int | None = None


class PredictionInput(msgspec.Struct, frozen=True, gc=False):
    """`llm.prediction.input`: the full templated prompt."""

    timestamp_ms: int
    model: str
    """modelIdentifier: the identifier of the loaded instance."""
    model_path: str
    prompt: str


class PredictionOutput(msgspec.Struct, frozen=True, gc=False):
    """`llm.prediction.output`: the whole raw output, reasoning tags included, once at the end."""

    timestamp_ms: int
    model: str
    output: str
    stats: PredictionStats | None


class ServerLog(msgspec.Struct, frozen=True, gc=False):
    """`server.log`: a line, or several, of the server's own log. May hold prompts and completions."""

    timestamp_ms: int
    level: str
    content: str


class RuntimeLog(msgspec.Struct, frozen=True, gc=False):
    """`runtime.log`: one message of an inference engine."""

    timestamp_ms: int
    level: str
    message: str
    engine_name: str
    engine_version: str
    engine_type: str
    model: str | None
    instance_reference: str | None
    pid: int | None


class UnknownEvent(msgspec.Struct, frozen=True, gc=False):
    """An entry we have no use for: a type of a newer daemon, or `MALFORMED`. Never carries content."""

    type: str
    timestamp_ms: int | None = None


LogEvent: TypeAlias = PredictionInput | PredictionOutput | ServerLog | RuntimeLog | UnknownEvent


class _Stats(msgspec.Struct, rename="camel", gc=False):
    """`stats` of an output. Its totalTimeSec is not read: decode only on some engines, with the prompt on others."""

    stop_reason: str | None = None
    tokens_per_second: float | None = None
    time_to_first_token_sec: float | None = None
    prompt_tokens_count: float | None = None
    predicted_tokens_count: float | None = None
    used_draft_model_key: str | None = None
    total_draft_tokens_count: float | None = None
    accepted_draft_tokens_count: float | None = None


class _Input(msgspec.Struct, tag_field="type", tag="llm.prediction.input", rename="camel", gc=False):
    input: str
    model_identifier: str
    model_path: str = ""


class _Output(msgspec.Struct, tag_field="type", tag="llm.prediction.output", rename="camel", gc=False):
    output: str
    model_identifier: str
    stats: _Stats | None = None


class _Server(msgspec.Struct, tag_field="type", tag="server.log", rename="camel", gc=False):
    content: str
    level: str = ""


class _Runtime(msgspec.Struct, tag_field="type", tag="runtime.log", rename="camel", gc=False):
    message: str
    level: str = ""
    engine_name: str = ""
    engine_version: str = ""
    engine_type: str = ""
    model_identifier: str | None = None
    instance_reference: str | None = None
    pid: int | None = None


_Data: TypeAlias = _Input | _Output | _Server | _Runtime


class _Entry(msgspec.Struct, gc=False):
    timestamp: float
    data: _Data


class _Message(msgspec.Struct, gc=False):
    type: str
    log: _Entry


DATA_SHAPES: dict[str, type[_Input | _Output | _Server | _Runtime]] = {
    "llm.prediction.input": _Input,
    "llm.prediction.output": _Output,
    "server.log": _Server,
    "runtime.log": _Runtime,
}
_decode_entry = msgspec.json.Decoder(_Entry).decode
_decode_message = msgspec.json.Decoder(_Message).decode


def parse(raw: bytes | str | msgspec.Raw) -> LogEvent:
    """Parse one `log` object, `{"timestamp":ms,"data":{...}}`."""
    data = bytes(raw) if isinstance(raw, msgspec.Raw) else raw
    try:
        return _typed(_decode_entry(data))
    except (*lenient.UNDECODABLE, OverflowError):
        return _salvage(data)


def parse_message(raw: bytes | str | msgspec.Raw) -> LogEvent:
    """Parse one message of the `streamLogs` channel, `{"type":"log","log":{...}}`."""
    data = bytes(raw) if isinstance(raw, msgspec.Raw) else raw
    try:
        message = _decode_message(data)
        if message.type == "log":
            return _typed(message.log)
        return UnknownEvent(_label(message.type))
    except (*lenient.UNDECODABLE, OverflowError):
        return _salvage(data)


def parse_ndjson_line(line: bytes | str) -> LogEvent | None:
    """Parse one line of `lms log stream --json`; None for a blank line.

    The command filters by `--source` and `--filter` before printing, so a recorded day may lack whole types.
    """
    bare = line.strip()
    bare = bare.removeprefix(b"\xef\xbb\xbf") if isinstance(bare, bytes) else bare.removeprefix("\ufeff")
    return parse(bare) if bare else None


def _typed(entry: _Entry) -> LogEvent:
    timestamp_ms = _timestamp(entry.timestamp)
    if timestamp_ms is None:
        return UnknownEvent(MALFORMED)
    data = entry.data
    if type(data) is _Output:
        return PredictionOutput(timestamp_ms, data.model_identifier, data.output, _clean(data.stats))
    if type(data) is _Input:
        return PredictionInput(timestamp_ms, data.model_identifier, data.model_path, data.input)
    if type(data) is _Server:
        return ServerLog(timestamp_ms, data.level, data.content)
    if type(data) is _Runtime:
        return RuntimeLog(
            timestamp_ms,
            data.level,
            data.message,
            data.engine_name,
            data.engine_version,
            data.engine_type,
            data.model_identifier,
            data.instance_reference,
            data.pid if data.pid is not None and 0 < data.pid < _MAX_PID else None,
        )
    return UnknownEvent(MALFORMED, timestamp_ms)


def _clean(stats: _Stats | None) -> PredictionStats | None:
    if stats is None:
        return None
    return PredictionStats(
        stop_reason=stats.stop_reason,
        tokens_per_second=_positive(stats.tokens_per_second, _MAX_TOKENS_PER_S),
        time_to_first_token_s=_quantity(stats.time_to_first_token_sec),
        prompt_tokens=_count(stats.prompt_tokens_count),
        predicted_tokens=_count(stats.predicted_tokens_count),
        draft_model=stats.used_draft_model_key,
        draft_tokens=_count(stats.total_draft_tokens_count),
        draft_tokens_accepted=_count(stats.accepted_draft_tokens_count),
    )


def _timestamp(value: float) -> int | None:
    return int(value) if 1 <= value < _MAX_TIMESTAMP_MS else None


def _positive(value: float | None, limit: float) -> float | None:
    return value if value is not None and 0 < value <= limit else None


def _quantity(value: float | None) -> float | None:
    return value if value is not None and 0 <= value <= _MAX_SECONDS else None


def _count(value: float | None) -> int | None:
    if value is None or not 0 <= value <= _MAX_TOKENS:
        return None
    count = int(value)
    return count if count == value else None


def _label(text: str) -> str:
    """Bound a type name that comes from outside: it ends up as a label."""
    plain = text[:_MAX_TYPE_CHARS]
    return plain if plain and plain.isascii() and plain.isprintable() else MALFORMED


class _LooseEntry(msgspec.Struct, gc=False):
    timestamp: float
    data: dict[str, Any]


def _salvage(data: bytes | str) -> LogEvent:
    """Read an entry that the strict decoder refused: slow, rare, and never raising."""
    timestamp_ms = None
    try:
        loaded = lenient.loads(data)
        fields = loaded.get("log", loaded) if isinstance(loaded, dict) else None
        entry = lenient.fitting(fields, _LooseEntry)
        timestamp_ms = _timestamp(entry.timestamp)
        kind = entry.data.get("type")
        if not isinstance(kind, str) or timestamp_ms is None:
            return UnknownEvent(MALFORMED, timestamp_ms)
        shape = DATA_SHAPES.get(kind)
        if shape is None:
            return UnknownEvent(_label(kind), timestamp_ms)
        return _typed(_Entry(timestamp_ms, lenient.fitting(entry.data, shape)))
    except (*lenient.UNDECODABLE, OverflowError):
        return UnknownEvent(MALFORMED, timestamp_ms)
