"""What may leave: nothing by default but known shapes, masked or whole on request, never too large."""

import json
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.events import PredictionInput, PredictionOutput, PredictionStats, RuntimeLog, ServerLog
from exporter.pipeline.predictions import FinishedReason, Prediction, PredictionBuilder
from exporter.telemetry import content
from exporter.telemetry.content import Capture


def server(text: str, level: str = "info") -> ServerLog:
    return ServerLog(0, level, text)


def runtime(text: str) -> RuntimeLog:
    return RuntimeLog(0, "debug", text, "llama.cpp", "2.41.0", "llama.cpp", "qwen", "ref", 7)


def prediction(output: str) -> Prediction:
    builder = PredictionBuilder("box", keep_content=True)
    builder.add(PredictionInput(1000, "qwen", "path", "a prompt"))
    stats = PredictionStats(
        stop_reason="eosFound", tokens_per_second=10, time_to_first_token_s=0.1, predicted_tokens=20
    )
    made = builder.add(PredictionOutput(5000, "qwen", output, stats))
    assert made is not None
    return made


@pytest.mark.parametrize(
    "line",
    [
        "[2026-08-08 22:40:13][INFO][qwen/qwen3-vl-4b] Prompt processing progress: 37.5%",
        "[2026-08-08 22:40:13][INFO][qwen/qwen3-vl-4b] Running chat completion on conversation with 2 messages.",
        "[2026-08-08 22:40:13][INFO][m] Finished streaming response",
        "[2026-08-08 22:40:13][INFO] Success! HTTP server listening on port 11444 | Just-in-time model loading active.",
        "[2025-11-02 15:06:08][ERROR][Plugin(mcp/filesystem)] stderr: env: node: No such file or directory",
    ],
)
def test_published_lines_without_content_pass_whole(line: str) -> None:
    assert content.log_body(server(line), Capture.OFF) == line


@pytest.mark.parametrize(
    "line",
    [
        '[2026-08-08 22:40:13][DEBUG] Received request: POST to /v1/chat/completions with body {"x": "CANARY"',
        "[2026-08-08 22:40:13][INFO][m] Generated prediction: CANARY",
        "[2026-08-08 22:40:13][ERROR][Plugin(mcp/shell)] stderr: ran CANARY",
        "CANARY without any stamp",
        "[2026-08-08 22:40:13][INFO][m] Finished streaming response CANARY",
        "[2026-08-08 22:40:13][INFO][m] Finished streaming response\nCANARY",
    ],
)
def test_any_other_line_leaves_only_its_stamp_and_length(line: str) -> None:
    body = content.log_body(server(line), Capture.OFF)
    assert "CANARY" not in body
    assert "withheld" in body


@pytest.mark.parametrize(
    "line",
    [
        "CANARY",
        'parsed request {"prompt": "CANARY',
        "[2026-08-08 22:40:13][INFO][CANARY] Finished streaming response",
        "[INFO] CANARY",
        "slot launch_slot_: id  0 | task 1 | processing task CANARY",
        "The model has crashed without additional information. (Exit code: 1) CANARY",
        "slot print_timing: id  2 | task 6 | \nCANARY",
    ],
)
def test_an_engine_line_of_any_other_shape_leaves_only_its_length(line: str) -> None:
    body = content.log_body(runtime(line), Capture.OFF)
    assert body == f"(… {len(line)} characters withheld)"


@given(st.text())
def test_of_an_engine_line_nothing_leaves_in_parts(text: str) -> None:
    body = content.log_body(runtime("x" + text), Capture.OFF)
    assert body == f"(… {len(('x' + text).rstrip())} characters withheld)"


@pytest.mark.parametrize(
    "line",
    [
        "slot print_timing: id  1 | task 916 | n_gen = 276, tg = 28.66 t/s, tg_3s = 30.85 t/s",
        "Prompt cache restore: cached_tokens=6 uncached_tokens=7",
        "draft acceptance = 0.82653 ( 81 accepted / 98 generated)",
        "draft acceptance = 0.82653 ( 81 accepted / 98 generated), mean len = 2.65",
        "The model has crashed without additional information. (Exit code: 18446744072635812000)",
        "The model has crashed without additional information. (Exit code: 6). Error Data: n/a, Additional Data: n/a",
        "Engine protocol runtime llama-server for mmVG exited before becoming healthy. exitCode=1, signal=null",
    ],
)
def test_engine_lines_of_known_shape_pass_whole(line: str) -> None:
    assert content.log_body(runtime(line), Capture.OFF) == line
    assert content.log_body(runtime(f"{line}\nmore"), Capture.OFF) == f"{line} (… 5 characters withheld)"


def test_full_capture_lets_everything_out_and_redacted_masks_secrets() -> None:
    text = "[INFO] mail me@example.org with sk-lm-Ab3dE6gH:0123456789abcdefghij and password=hunter22"
    assert content.log_body(server(text), Capture.FULL) == text
    masked = content.log_body(server(text), Capture.REDACTED)
    for secret in ("me@example.org", "0123456789abcdefghij", "hunter22"):
        assert secret not in masked
    assert "[email]" in masked


@given(st.text(max_size=5000), st.integers(0, 400))
def test_captured_messages_are_valid_json_below_tempos_limit(text: str, repeats: int) -> None:
    made = prediction("<think>" + text + "</think>" + "\N{GRINNING FACE}" * repeats + text)
    dumped = content.messages(made, Capture.FULL)
    assert len(dumped.encode("utf-8", "replace")) <= content.ATTRIBUTE_BYTES
    [message] = json.loads(dumped)
    assert message["role"] == "assistant"
    assert message["finish_reason"] == "stop"


def test_captured_messages_keep_reasoning_and_answer_apart() -> None:
    [message] = json.loads(content.messages(prediction("<think>\nhm\n</think>\n\n42"), Capture.FULL))
    assert [part["type"] for part in message["parts"]] == ["reasoning", "text"]
    assert [part["content"].strip() for part in message["parts"]] == ["hm", "42"]


@given(st.text(), st.integers(0, 50))
def test_cutting_never_breaks_a_character_and_respects_the_limit(text: str, limit: int) -> None:
    shortened = content.cut(text, limit)
    assert len(shortened.encode("utf-8", "replace")) <= max(limit, len("…".encode()))
    shortened.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    ("output", "parts"),
    [
        (
            '<tool_call>\n{"name": "f", "arguments": {"city": "Paris"}}\n</tool_call>',
            [{"type": "tool_call", "name": "f", "arguments": {"city": "Paris"}}],
        ),
        (
            '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]',
            [
                {"type": "tool_call", "name": "f", "arguments": {"a": 1}},
                {"type": "tool_call", "name": "g", "arguments": {}},
            ],
        ),
        (
            "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>",
            [
                {
                    "type": "tool_call",
                    "name": "f",
                    "arguments": "<function=f>\n<parameter=a>\n1\n</parameter>\n</function>",
                }
            ],
        ),
        (
            '<think>hm</think>Look. <tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>',
            [
                {"type": "reasoning", "content": "hm"},
                {"type": "text", "content": "Look. "},
                {"type": "tool_call", "name": "f", "arguments": '{"a": 1}'},
            ],
        ),
    ],
)
def test_tool_calls_are_parts_with_a_name_and_arguments(output: str, parts: list[dict[str, object]]) -> None:
    [message] = json.loads(content.messages(prediction(output), Capture.FULL))
    assert message["parts"] == parts


def test_arguments_are_masked_and_cut_like_any_text() -> None:
    output = '<tool_call>{"name": "f", "arguments": {"password": "hunter22", "mail": "me@example.org"}}</tool_call>'
    [message] = json.loads(content.messages(prediction(output), Capture.REDACTED))
    assert "hunter22" not in str(message)
    assert "me@example.org" not in str(message)
    long = '<tool_call>{"name": "f", "arguments": {"text": "' + "x" * 5000 + '"}}</tool_call>'
    dumped = content.messages(prediction(long), Capture.FULL)
    assert len(dumped.encode()) <= content.ATTRIBUTE_BYTES
    [part] = json.loads(dumped)[0]["parts"]
    assert part["arguments"].startswith('{"text": "xxx')
    assert part["arguments"].endswith("…")


def test_a_body_is_cut_below_what_loki_takes_and_masked_before() -> None:
    assert content.prepared("password=hunter22", Capture.FULL) == "password=hunter22"
    assert "hunter22" not in content.prepared("password=hunter22", Capture.REDACTED)
    long = "x" * (content.BODY_BYTES + 9)
    for capture in (Capture.FULL, Capture.REDACTED):
        body = content.log_body(server(long), capture)
        assert len(body.encode()) <= content.BODY_BYTES
    assert len(content.prepared(long, Capture.REDACTED)) <= content.BODY_BYTES + 100


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("abcd", 4, "abcd"),
        ("abcde", 4, "a…"),
        ("abcde", 3, "…"),
        ("abcde", 0, "…"),
        ("éé", 4, "éé"),
        ("ééé", 5, "é…"),
        ("a\ud83d", 2, "a\ud83d"),
    ],
)
def test_a_cut_text_ends_in_a_mark_within_the_limit(text: str, limit: int, expected: str) -> None:
    assert content.cut(text, limit) == expected


def test_calls_of_tools_have_the_conventions_finish_reason_and_letters_stay_letters() -> None:
    output = '<tool_call>{"name": "f", "arguments": {"city": "Zürich"}}</tool_call>'
    dumped = content.messages(prediction(output), Capture.FULL)
    [message] = json.loads(dumped)
    assert message["parts"][0]["arguments"] == {"city": "Zürich"}
    assert [
        content.finish_reason(reason) for reason in FinishedReason if reason.value.startswith("tool")
    ] == ["tool_call"]
    assert content.finish_reason(FinishedReason.STOP) == "stop"
    assert "Zürich" in dumped
    assert "Zürich" in content.messages(prediction("Zürich"), Capture.FULL)


def test_what_is_too_long_is_cut_in_halves_until_it_fits_and_then_left_out() -> None:
    [message] = json.loads(content.messages(prediction("x" * 5000), Capture.FULL))
    assert message["parts"] == [{"type": "text", "content": "x" * (1024 - 3) + "…"}]
    fits = "x" * (content.ATTRIBUTE_BYTES - len(content.messages(prediction("x"), Capture.FULL)) + 1)
    dumped = content.messages(prediction(fits), Capture.FULL)
    assert len(dumped) == content.ATTRIBUTE_BYTES
    assert json.loads(dumped)[0]["parts"] == [{"type": "text", "content": fits}]
    calls = "".join(
        f'<tool_call>{{"name": "tool{n}", "arguments": {{"a": {n}}}}}</tool_call>' for n in range(100)
    )
    [message] = json.loads(content.messages(prediction(calls), Capture.FULL))
    assert [part["name"] for part in message["parts"]] == [f"tool{n}" for n in range(len(message["parts"]))]
    assert len(message["parts"]) == 16


def test_arguments_that_masking_breaks_are_text() -> None:
    output = '<tool_call>{"name": "f", "arguments": {"password": "hunter22"}}</tool_call>'
    with mock.patch.object(content, "redact", return_value='{"password": [masked}'):
        [message] = json.loads(content.messages(prediction(output), Capture.REDACTED))
    assert message["parts"][0]["arguments"] == '{"password": [masked}'


def test_an_engines_line_in_server_log_is_known_only_as_debug() -> None:
    engines = "slot print_timing: id  1 | task 916 | n_gen = 276, tg = 28.66 t/s, tg_3s = 30.85 t/s"
    line = f"[2026-08-08 22:40:13][DEBUG] {engines}"
    assert content.log_body(server(line, "debug"), Capture.OFF) == line
    assert content.log_body(server(line, "info"), Capture.OFF) != line
    assert content.log_body(server(line + "\r\nmore", "debug"), Capture.OFF).startswith(line + " (…")
