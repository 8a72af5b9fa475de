"""Every field of a log event arrives as it was written, and a value out of its bounds is absent."""

import json
from typing import Any

import msgspec
import pytest

from exporter.llmster.events import (
    MALFORMED,
    LogEvent,
    PredictionInput,
    PredictionOutput,
    PredictionStats,
    RuntimeLog,
    ServerLog,
    UnknownEvent,
    parse,
    parse_message,
    parse_ndjson_line,
)

AT = 1_786_253_679_909


def event(kind: str, at: Any = AT, **data: Any) -> LogEvent:
    return parse(json.dumps({"timestamp": at, "data": {"type": kind, **data}}))


def test_every_field_of_an_event_is_read() -> None:
    assert event("llm.prediction.input", input="hi", modelIdentifier="m", modelPath="p/m") == (
        PredictionInput(AT, "m", "p/m", "hi")
    )
    assert event("server.log", content="text", level="info") == ServerLog(AT, "info", "text")
    told = {
        "message": "text", "level": "debug", "engineName": "llama.cpp", "engineVersion": "2.41", "engineType": "gguf",
        "modelIdentifier": "m", "instanceReference": "r",
    }  # fmt: skip
    whole = RuntimeLog(AT, "debug", "text", "llama.cpp", "2.41", "gguf", "m", "r", 1)
    assert event("runtime.log", **told, pid=1) == whole
    assert event("runtime.log", message="text") == RuntimeLog(AT, "", "text", "", "", "", None, None, None)
    for pid in (0, -1):
        found = event("runtime.log", **told, pid=pid)
        assert isinstance(found, RuntimeLog)
        assert found.pid is None


def stats(**values: Any) -> PredictionStats | None:
    found = event("llm.prediction.output", output="x", modelIdentifier="m", stats=values)
    assert isinstance(found, PredictionOutput)
    return found.stats


def test_every_count_and_time_of_an_output_is_read() -> None:
    assert stats(
        stopReason="eosFound", tokensPerSecond=0.5, timeToFirstTokenSec=0, promptTokensCount=3,
        predictedTokensCount=0, usedDraftModelKey="d", totalDraftTokensCount=9, acceptedDraftTokensCount=8,
    ) == PredictionStats(
        stop_reason="eosFound", tokens_per_second=0.5, time_to_first_token_s=0, prompt_tokens=3,
        predicted_tokens=0, draft_model="d", draft_tokens=9, draft_tokens_accepted=8,
    )  # fmt: skip
    odd = {
        "tokensPerSecond": 0,
        "timeToFirstTokenSec": -1,
        "promptTokensCount": -1,
        "predictedTokensCount": 0.5,
    }
    assert stats(**odd) == PredictionStats()
    huge = dict.fromkeys(odd, 1e30)
    assert stats(**huge) == PredictionStats()


def test_an_event_comes_as_bytes_as_text_or_raw() -> None:
    text = json.dumps({"timestamp": AT, "data": {"type": "server.log", "content": "x"}})
    log = ServerLog(AT, "", "x")
    assert parse(text) == parse(text.encode()) == parse(msgspec.Raw(text.encode())) == log
    message = json.dumps({"type": "log", "log": json.loads(text)})
    assert parse_message(message) == parse_message(msgspec.Raw(message.encode())) == log
    assert parse_ndjson_line(f"\ufeff{text}\n") == parse_ndjson_line(f"\ufeff{text}".encode()) == log
    assert parse_ndjson_line(" \n") is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"timestamp": AT, "data": {"type": "newer"}}, UnknownEvent("newer", AT)),
        ({"timestamp": AT, "data": {"type": 5}}, UnknownEvent(MALFORMED, AT)),
        ({"timestamp": AT, "data": {"type": "server.log"}}, UnknownEvent(MALFORMED, AT)),
        ({"timestamp": 0, "data": {"type": "newer"}}, UnknownEvent(MALFORMED)),
        ({"timestamp": "x"}, UnknownEvent(MALFORMED)),
        ([], UnknownEvent(MALFORMED)),
    ],
)
def test_what_cannot_be_read_says_so_with_its_time(raw: Any, expected: UnknownEvent) -> None:
    assert parse(json.dumps(raw)) == expected


def test_a_message_of_another_type_is_named() -> None:
    inner = {"timestamp": AT, "data": {"type": "server.log", "content": "x"}}
    assert parse_message(json.dumps({"type": "newer", "log": inner})) == UnknownEvent("newer")
