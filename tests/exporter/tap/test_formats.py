"""Each API's events and whole answers as a meter gets them: text by kind, tools, counts, model, end and error."""

from collections.abc import Iterable
from typing import Any

import pytest

from exporter.pipeline.output.ending import ending
from exporter.pipeline.output.segments import Kind
from exporter.tap.formats import FORMATS, MAX_CHOICES, error_type, read_event, read_whole
from exporter.tap.meter import Meter
from exporter.tap.report import Usage

MANY = 2**53


def streamed(name: str, events: Iterable[Any]) -> Meter:
    """Read events, one each second from second 1 on."""
    meter = Meter((0.1,))
    for number, event in enumerate(events, 1):
        read_event(name, event, meter, float(number))
    return meter


def whole(name: str, value: Any) -> Meter:
    meter = Meter((0.1,))
    read_whole(name, value, meter)
    return meter


def told(meter: Meter) -> list[tuple[str, float, float, int, int]]:
    """List the stretches of an answer: kind, start, end, tokens, characters."""
    return [(mark.kind.value, mark.start_s, mark.end_s, mark.tokens, mark.chars) for mark in meter.phases()]


def delta(**parts: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": parts}]}


def call(name: str | None = None, arguments: str | None = None) -> dict[str, Any]:
    return {"tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def fragment(content: str, kind: str = "none", count: Any = 1) -> dict[str, Any]:
    return {
        "type": "fragment",
        "fragment": {"content": content, "reasoningType": kind, "tokensCount": count},
    }


def test_a_chat_stream_tells_of_reasoning_answer_and_call_when_each_arrives() -> None:
    meter = streamed(
        "openai",
        [
            {**delta(role="assistant", content=""), "model": "m"},
            delta(reasoning_content="Hm"),
            delta(reasoning="mm"),
            delta(content="Yes"),
            delta(**call("search", "")),
            delta(**call(None, '{"q"')),
            delta(**call(None, ":1}")),
            {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}},
        ],
    )
    assert told(meter) == [
        ("reasoning", 2.0, 4.0, 2, 4),
        ("answer", 4.0, 6.0, 1, 3),
        ("tool_call", 6.0, 7.0, 2, 7),
    ]
    assert (meter.model, meter.tools, meter.finish) == ("m", ["search"], "tool_calls")
    assert meter.usage == Usage(input=3, output=9)
    assert meter.error is None


def test_text_of_a_chat_stream_may_hold_tags_and_a_completion_is_text_too() -> None:
    tagged = streamed("openai", [delta(content=text) for text in ("<think>", "Hm", "</think>", "Yes")])
    assert [(kind, start) for kind, start, *_ in told(tagged)] == [("reasoning", 2.0), ("answer", 4.0)]
    plain = streamed("openai", [{"choices": [{"text": "Once"}]}, {"choices": [{"text": " upon"}]}])
    assert told(plain) == [("answer", 1.0, 2.0, 2, 9)]


def test_lm_studios_events_tell_the_same_in_their_words() -> None:
    meter = streamed(
        "lmstudio",
        [
            {"type": "chat.start", "model_instance_id": "m:2", "model": "m"},
            {"type": "reasoning.delta", "content": "Hm"},
            {"type": "tool_call.start", "tool": "search"},
            {"type": "tool_call.arguments", "arguments": {"q": 1}},
            {"type": "message.delta", "content": "Yes"},
            {"type": "message.delta", "content": ""},
            {"type": "message.delta"},
            {
                "type": "chat.end",
                "result": {
                    "stats": {"input_tokens": 5, "total_output_tokens": 7, "reasoning_output_tokens": 2}
                },
            },
        ],
    )
    assert told(meter) == [("reasoning", 2.0, 5.0, 1, 2), ("answer", 5.0, 5.0, 1, 3)]
    assert (meter.model, meter.tools) == ("m:2", ["search"])
    assert meter.usage == Usage(input=5, output=7, reasoning=2)


def test_the_predict_channel_states_how_many_tokens_a_fragment_has() -> None:
    meter = streamed(
        "predict",
        [
            fragment("Hm", "reasoning", 3),
            fragment("m", "reasoning", 0),
            fragment("Yes", "none", 2),
            *(fragment("x", "none", odd) for odd in (-1, MANY, "2", None)),
            fragment("x", "none", MANY - 1),
            {"type": "fragment", "fragment": {"content": "y", "reasoningType": "a newer one"}},
            {"type": "toolCallGenerationNameReceived", "name": "search"},
            {"type": "toolCallGenerationArgumentFragmentGenerated", "content": "{}"},
            {
                "type": "success",
                "stats": {"stopReason": "toolCalls", "promptTokensCount": 4, "predictedTokensCount": 6},
                "modelInfo": {"identifier": "m:2"},
            },
        ],
    )
    assert told(meter) == [
        ("reasoning", 1.0, 3.0, 3, 3),
        ("answer", 3.0, 11.0, 2 + 4 + MANY - 1, 8),
        ("tool_call", 11.0, 11.0, 1, 2),
    ]
    assert (meter.model, meter.tools, meter.finish) == ("m:2", ["search"], "toolCalls")
    assert meter.usage == Usage(input=4, output=6)


def test_a_count_of_tokens_is_read_of_fragments_only() -> None:
    event = {"type": "message.delta", "content": "Yes", "fragment": {"tokensCount": 9}}
    assert told(streamed("lmstudio", [event])) == [("answer", 1.0, 1.0, 1, 3)]


@pytest.mark.parametrize(
    ("name", "events", "error"),
    [
        ("openai", [{"error": {"type": "overloaded"}}], "overloaded"),
        ("openai", [{"error": None}], None),
        ("lmstudio", [{"type": "error", "error": {"code": "no_model"}}], "no_model"),
        ("lmstudio", [{"type": "error"}], None),
        ("anthropic", [{"type": "error", "error": {"type": "overloaded_error"}}], "overloaded_error"),
        ("responses", [{"type": "error", "code": "no_model"}], "error"),
        ("responses", [{"type": "response.failed", "response": {"error": {"code": "bad"}}}], "bad"),
        ("responses", [{"type": "response.failed", "response": 5}], None),
    ],
)
def test_an_error_is_named_as_its_api_does(name: str, events: list[Any], error: str | None) -> None:
    assert streamed(name, events).error == error


@pytest.mark.parametrize(
    ("error", "named"),
    [
        ({"type": "a", "code": "b"}, "a"),
        ({"type": "", "code": "b"}, "b"),
        ({"rootTitle": "No model"}, "No_model"),
        ({"message": "a text of the daemon"}, "error"),
        ({"type": 5}, "error"),
        ("too many / requests", "too_many_requests"),
        ("", "error"),
        (5, "error"),
        ("a" * 60, "a" * 48),
    ],
)
def test_an_errors_name_is_safe_for_a_label(error: Any, named: str) -> None:
    assert error_type(error) == named


@pytest.mark.parametrize("name", ["openai", *FORMATS])
@pytest.mark.parametrize(
    "event",
    [
        None, "x", 5, [], {}, {"type": 5}, {"type": []}, {"type": "new"}, {"choices": {}}, {"choices": [5]},
        {"choices": [{"delta": 5}]}, {"choices": [{"delta": {"tool_calls": [{"function": 5}], "content": 5}}]},
        {"type": "content_block_delta", "delta": {"type": "new", "text": "x"}},
        {"type": "message.delta", "content": 5},
        {"usage": 5, "stats": [], "modelInfo": {"identifier": 5}, "model": ""},
        {"usage": {"prompt_tokens": -1, "completion_tokens": True, "prompt_tokens_details": 5}},
        {"usage": {"prompt_tokens": MANY, "completion_tokens": "5"}},
    ],
)  # fmt: skip
def test_what_is_not_known_passes_by(name: str, event: Any) -> None:
    for meter in (streamed(name, [event]), whole(name, event)):
        assert (meter.model, meter.usage, meter.tools, meter.finish, meter.error, meter.tokens, meter.ending) == (
            "", Usage(), [], None, None, 0, 0,
        )  # fmt: skip


def test_a_field_of_another_type_does_not_hide_the_event_it_belongs_to() -> None:
    stopped = {"type": "message_delta", "delta": {"type": "new", "stop_reason": "end_turn"}}
    assert streamed("anthropic", [stopped]).finish == "end_turn"
    begun = {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f"}, "delta": {}}
    assert streamed("anthropic", [{**begun, "delta": {"type": "new"}}]).tools == ["f"]


def test_counts_come_in_parts_and_the_latest_of_each_stays() -> None:
    meter = streamed(
        "anthropic",
        [
            {"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}},
            {"type": "message_delta", "usage": {"output_tokens": 15, "cache_read_input_tokens": 0}},
            {"type": "message_delta", "usage": {"output_tokens": MANY}},
        ],
    )
    assert meter.usage == Usage(input=25, output=15, cached=0)
    largest = {"usage": {"prompt_tokens": MANY - 1, "prompt_tokens_details": {"cached_tokens": 1}}}
    assert streamed("openai", [largest]).usage == Usage(input=MANY - 1, cached=1)
    both = {"usage": {"prompt_tokens": "x", "input_tokens": 4}, "stats": {"promptTokensCount": 5}}
    assert streamed("openai", [both]).usage == Usage(input=5)


def test_names_and_reasons_are_kept_to_a_length() -> None:
    event = {"model": "m" * 300, "choices": [{"finish_reason": "s" * 40}]}
    meter = streamed("openai", [event])
    assert (meter.model, meter.finish) == ("m" * 256, "s" * 32)
    meter = streamed(
        "predict",
        [{"type": "success", "modelInfo": {"identifier": "i" * 300}, "stats": {"stopReason": "s" * 40}}],
    )
    assert (meter.model, meter.finish) == ("i" * 256, "s" * 32)


def test_of_an_endless_list_only_the_first_are_read() -> None:
    assert streamed("openai", [{"choices": [{"text": "x"}] * (MAX_CHOICES + 1)}]).tokens == MAX_CHOICES


def test_the_reason_that_is_more_exact_is_the_end() -> None:
    part = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    stopped = {"type": "response.incomplete", "response": part}
    assert streamed("responses", [stopped]).finish == "max_output_tokens"
    assert whole("responses", {"status": "completed", "incomplete_details": None}).finish == "completed"


@pytest.mark.parametrize(
    "message",
    [
        {"message": {"content": "It is so."}},
        {"message": {"content": "", "text": "It is so."}},
        {"message": {"content": None, "reasoning_content": "It is so."}},
        {"message": {"reasoning": "It is so."}},
        {"message": {"content": "It is so.", "tool_calls": []}},
        {"text": "It is so."},
    ],
)
def test_a_whole_message_ends_as_its_text_does(message: dict[str, Any]) -> None:
    answer = {"model": "m", "choices": [{**message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}
    meter = whole("openai", answer)
    assert meter.ending == ending("It is so.")
    assert (meter.model, meter.finish, meter.usage, meter.phases()) == ("m", "stop", Usage(input=3), ())


def test_a_whole_message_that_calls_tools_names_them_and_does_not_end_in_text() -> None:
    message = {"content": "Let me see.", **call("search", '{"q": 1}')}
    meter = whole("openai", {"choices": [{"message": message, "delta": {"content": "x"}}]})
    assert (meter.tools, meter.ending, meter.tokens) == (["search"], 0, 0)


THOUGHT = {"type": "reasoning", "content": "Hm."}
PARTS = [{"type": "output_text", "text": "It"}, {"type": "output_text", "text": "It is so."}]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("lmstudio", {"output": [THOUGHT, {"type": "message", "content": "It is so."}]}),
        ("anthropic", {"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "It is so."}]}),
        ("anthropic", {"content": [{"type": "thinking", "thinking": "It is so."}]}),
        ("responses", {"output": [THOUGHT, {"type": "message", "content": PARTS}]}),
    ],
)  # fmt: skip
def test_a_whole_answer_ends_as_its_last_part_does(name: str, answer: dict[str, Any]) -> None:
    assert whole(name, answer).ending == ending("It is so.")


@pytest.mark.parametrize("kind", ["tool_use", "function_call", "mcp_call", "tool_call"])
def test_a_whole_answer_that_ends_in_a_call_has_no_end_of_text(kind: str) -> None:
    named = {"tool": "search"} if kind == "tool_call" else {"name": "search"}
    meter = whole("lmstudio", {"output": [THOUGHT, {"type": kind, "content": "It is so.", **named}]})
    assert (meter.tools, meter.ending) == (["search"], 0)
    after = whole("lmstudio", {"output": [{"type": kind, **named}, {"type": "message", "content": "Yes."}]})
    assert (after.tools, after.ending) == (["search"], ending("Yes."))


def test_a_whole_answer_may_be_an_error() -> None:
    assert (
        whole("anthropic", {"type": "error", "error": {"type": "overloaded_error"}}).error
        == "overloaded_error"
    )
    assert whole("openai", {"error": "no model"}).error == "no_model"
    assert whole("responses", {"error": None, "model": "m"}).error is None


def test_the_kind_that_an_api_states_is_taken_at_its_word() -> None:
    meter = streamed("anthropic", [
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "a <think> b"}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "c </think> d"}},
        {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    ])  # fmt: skip
    assert meter.kind is Kind.TOOL_CALL
    assert told(meter) == [
        ("reasoning", 1.0, 2.0, 1, 11),
        ("answer", 2.0, 3.0, 1, 12),
        ("tool_call", 3.0, 3.0, 1, 2),
    ]
