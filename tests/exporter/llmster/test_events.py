"""Log events: typed from the captured frames, unharmed by anything else."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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

FIXTURES = Path(__file__).parents[2] / "fixtures" / "protocol"


def captured_messages(name: str) -> list[str]:
    """Return what a captured server sent on its channel, as JSON texts; broken frames are left out."""
    messages = []
    for line in (FIXTURES / name).read_text().splitlines():
        record = json.loads(line)
        if record["dir"] != "s2c" or record["op"] != "text":
            continue
        try:
            frame = json.loads(record["data"])
        except json.JSONDecodeError:
            continue
        if frame.get("type") == "channelSend":
            messages.append(json.dumps(frame["message"]))
    return messages


def output_event(**stats: Any) -> LogEvent:
    data = {"type": "llm.prediction.output", "output": "pong", "modelIdentifier": "m", "stats": stats}
    return parse(json.dumps({"timestamp": 1_786_253_679_909, "data": data}))


def stats_of(**stats: Any) -> PredictionStats:
    event = output_event(**stats)
    assert isinstance(event, PredictionOutput)
    assert event.stats is not None
    return event.stats


def test_captured_stream_yields_every_event_typed() -> None:
    events = [parse_message(message) for message in captured_messages("10-streamLogs.jsonl")]

    assert [type(event) for event in events] == [
        ServerLog,
        ServerLog,
        PredictionInput,
        RuntimeLog,
        RuntimeLog,
        RuntimeLog,
        PredictionOutput,
        ServerLog,
    ]
    launch, output = events[3], events[6]
    assert isinstance(launch, RuntimeLog)
    assert launch.message == "slot launch_slot_: id  2 | task 6 | processing task, is_child = 0"
    assert (launch.model, launch.instance_reference, launch.pid) == (
        "qwen/qwen3-8b",
        "heJSMjjYzDKkw3rW",
        40065,
    )
    assert isinstance(output, PredictionOutput)
    assert output.timestamp_ms == 1_795_351_873_016
    assert output.stats == PredictionStats(
        stop_reason="eosFound",
        tokens_per_second=57.24,
        time_to_first_token_s=0.058,
        prompt_tokens=13,
        predicted_tokens=12,
    )


def test_odd_captured_stream_keeps_what_is_known_and_names_what_is_not() -> None:
    unknown, extra_keys, no_stats = (parse_message(m) for m in captured_messages("11-streamLogs-odd.jsonl"))

    assert unknown == UnknownEvent("llm.prediction.toolCall", 1_795_351_873_987)
    assert isinstance(extra_keys, PredictionOutput)
    assert extra_keys.output == "hello"
    assert isinstance(no_stats, PredictionOutput)
    assert no_stats.stats is None


def test_lms_log_stream_lines_are_the_same_objects() -> None:
    for message in captured_messages("27-lms-log-stream.jsonl"):
        log = json.dumps(json.loads(message)["log"])
        assert parse_ndjson_line(log + "\n") == parse_message(message)
        assert parse_ndjson_line(b"\xef\xbb\xbf" + log.encode() + b"\r\n") == parse_message(message)


@pytest.mark.parametrize("line", ["", "\n", " \t\r\n", b"", b"\n"])
def test_a_blank_line_is_no_event(line: str | bytes) -> None:
    assert parse_ndjson_line(line) is None


def test_published_mlx_output_is_read_as_published() -> None:
    stats = stats_of(
        stopReason="eosFound",
        tokensPerSecond=131.135,
        numGpuLayers=-1,
        timeToFirstTokenSec=0.598,
        totalTimeSec=0.016,
        promptTokensCount=19,
        predictedTokensCount=2,
        totalTokensCount=21,
    )
    assert (stats.tokens_per_second, stats.time_to_first_token_s) == (131.135, 0.598)


def test_raw_bytes_and_text_are_read_alike() -> None:
    text = captured_messages("10-streamLogs.jsonl")[6]
    assert parse_message(text) == parse_message(text.encode()) == parse_message(msgspec.Raw(text.encode()))


def test_an_unknown_stop_reason_is_kept_as_text() -> None:
    assert stats_of(stopReason="cosmicRay").stop_reason == "cosmicRay"


@pytest.mark.parametrize("value", [0, -3, 1e300, 1_000_000.0, None, "fast", [1], True])
def test_an_absurd_rate_is_unknown(value: object) -> None:
    assert stats_of(stopReason="eosFound", tokensPerSecond=value).tokens_per_second is None


@pytest.mark.parametrize("value", [-1, 1e12, 2.5, None, "12", {}])
def test_an_absurd_count_is_unknown_and_spares_the_others(value: object) -> None:
    stats = stats_of(stopReason="eosFound", promptTokensCount=value, predictedTokensCount=7)
    assert (stats.prompt_tokens, stats.predicted_tokens) == (None, 7)


def test_a_negative_time_is_unknown() -> None:
    assert stats_of(timeToFirstTokenSec=-0.1).time_to_first_token_s is None


def test_not_a_number_is_unknown() -> None:
    raw = (
        b'{"timestamp":1,"data":{"type":"llm.prediction.output","output":"x","modelIdentifier":"m",'
        b'"stats":{"stopReason":"eosFound","tokensPerSecond":NaN,"timeToFirstTokenSec":Infinity}}}'
    )
    event = parse(raw)
    assert isinstance(event, PredictionOutput)
    assert event.stats == PredictionStats(stop_reason="eosFound")


def test_output_cut_inside_an_emoji_is_not_lost() -> None:
    event = parse(
        '{"timestamp":1,"data":{"type":"llm.prediction.output","output":"hi \\ud83d","modelIdentifier":"m"}}'
    )
    assert event == PredictionOutput(1, "m", "hi \ufffd", None)
    event.output.encode()


@pytest.mark.parametrize("stamp", [0, 0.5, -1, 2**63 // 10**6, 10**14, 10**300])
def test_a_time_that_nanoseconds_in_64_bits_cannot_hold_is_no_time(stamp: float) -> None:
    raw = json.dumps({"timestamp": stamp, "data": {"type": "server.log", "content": "x", "level": "info"}})
    assert parse(raw) == UnknownEvent(MALFORMED)


@pytest.mark.parametrize(
    ("sent", "read"), [(7, 7), (2**31 - 1, 2**31 - 1), (2**31, None), (2**70, None), (0, None), (-5, None)]
)
def test_a_pid_that_no_process_can_have_is_unknown(sent: int, read: int | None) -> None:
    event = parse(json.dumps({"timestamp": 1, "data": {"type": "runtime.log", "message": "x", "pid": sent}}))
    assert isinstance(event, RuntimeLog)
    assert event.pid == read


def test_half_a_character_in_the_stats_of_an_output_is_mended_too() -> None:
    event = parse(
        r'{"timestamp":1,"data":{"type":"llm.prediction.output","output":"x","modelIdentifier":"m",'
        r'"stats":{"stopReason":"\ud83d","usedDraftModelKey":"d\ude00"}}}'
    )
    assert event == PredictionOutput(
        1, "m", "x", PredictionStats(stop_reason="\ufffd", draft_model="d\ufffd")
    )


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "null",
        "[]",
        "{",
        "I  Streaming logs from LM Studio",
        b"\xff\xfe",
        b"[" * 200_000,
        '{"timestamp":1}',
        '{"timestamp":1,"data":[]}',
        '{"timestamp":1,"data":{"type":7}}',
        '{"timestamp":1,"data":{"type":"server.log","content":3,"level":"info"}}',
        '{"timestamp":1,"data":{"type":"llm.prediction.output","output":"x"}}',
        '{"timestamp":-1,"data":{"type":"server.log","content":"x","level":"info"}}',
        '{"timestamp":1e99,"data":{"type":"server.log","content":"x","level":"info"}}',
        '{"timestamp":"now","data":{"type":"server.log","content":"x","level":"info"}}',
    ],
)
def test_malformed_entries_are_counted_not_raised(raw: str | bytes) -> None:
    event = parse(raw)
    assert isinstance(event, UnknownEvent)
    assert event.type == MALFORMED


def test_a_hostile_type_name_cannot_become_a_label() -> None:
    for hostile in ("x\ny", "\u202e", "", "é"):
        event = parse(json.dumps({"timestamp": 1, "data": {"type": hostile}}))
        assert event == UnknownEvent(MALFORMED, 1)
    assert parse(json.dumps({"timestamp": 1, "data": {"type": "y" * 999}})) == UnknownEvent("y" * 64, 1)


def test_unknown_events_hold_no_content() -> None:
    event = parse('{"timestamp":1,"data":{"type":"llm.prediction.new","output":"CANARY"}}')
    assert "CANARY" not in repr(event)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KINDS = ["llm.prediction.input", "llm.prediction.output", "server.log", "runtime.log", "other"]
KEYS = ["output", "input", "content", "message", "level", "modelIdentifier", "modelPath", "stats", "pid"]


@given(st.binary() | st.text())
def test_any_bytes_and_any_text_parse_to_some_event(raw: bytes | str) -> None:
    assert isinstance(parse(raw), UnknownEvent)
    parse_message(raw)
    parse_ndjson_line(raw)


@given(
    st.fixed_dictionaries(
        {"timestamp": json_values | st.integers(1, 10**13)},
        optional={
            "data": st.dictionaries(st.sampled_from(KEYS), json_values).flatmap(
                lambda fields: st.sampled_from(KINDS).map(lambda kind: {**fields, "type": kind})
            )
        },
    )
)
def test_any_json_parses_to_some_event(entry: dict[str, Any]) -> None:
    raw = json.dumps(entry)
    event = parse(raw)
    assert parse_message(json.dumps({"type": "log", "log": entry})) == event
    for text in (getattr(event, name) for name in event.__struct_fields__):
        if isinstance(text, str):
            text.encode()
