"""The messages and responses APIs through the tap, with their official clients and answers as their docs show them."""

from typing import Any

import anthropic
import httpx
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from exporter.tap.report import Report, Usage
from tests.exporter.tap.scripted import stream, upstream, whole
from tests.exporter.tap.tapping import tap_before

MODEL = "openai/gpt-oss-20b"
PROMPT: Any = [{"role": "user", "content": "hi"}]


def message_events() -> list[dict[str, Any]]:
    """Follow docs.anthropic.com, "Streaming messages": text, extended thinking and tool use."""
    usage = {"input_tokens": 25, "cache_read_input_tokens": 5, "output_tokens": 1}
    message = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": MODEL,
        "usage": usage,
    }
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        (
            {"type": "thinking", "thinking": "", "signature": ""},
            [{"type": "thinking_delta", "thinking": text} for text in ("Let ", "me ", "see")]
            + [{"type": "signature_delta", "signature": "abc"}],
        ),
        ({"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in ("Hello", "!")]),
        (
            {"type": "tool_use", "id": "t", "name": "get_weather", "input": {}},
            [{"type": "input_json_delta", "partial_json": part} for part in ('{"city":', ' "Paris"}')],
        ),
    ]
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}, {"type": "ping"}]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events.append(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 15},
        }
    )
    return [*events, {"type": "message_stop"}]


def response_events() -> list[dict[str, Any]]:
    """Follow platform.openai.com, "Streaming events" of the responses API."""
    response: dict[str, Any] = {
        "id": "r",
        "object": "response",
        "status": "in_progress",
        "model": MODEL,
        "output": [],
    }
    base = {"output_index": 0, "item_id": "i", "content_index": 0, "sequence_number": 1}
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 16,
    }
    call = {"type": "function_call", "id": "i", "call_id": "c", "name": "get_weather", "arguments": ""}
    return [
        {"type": "response.created", "response": response, "sequence_number": 0},
        *({"type": "response.reasoning_text.delta", **base, "delta": text} for text in ("Hm", "m")),
        *(
            {"type": "response.output_text.delta", **base, "delta": text, "logprobs": []}
            for text in ("Yes", ".")
        ),
        {"type": "response.output_item.added", **base, "item": call},
        {"type": "response.function_call_arguments.delta", **base, "delta": "{}"},
        {
            "type": "response.completed",
            "response": {**response, "status": "completed", "usage": usage},
            "sequence_number": 9,
        },
    ]


def shape(report: Report) -> list[tuple[str, int, int]]:
    return [(phase.kind.value, phase.tokens, phase.chars) for phase in report.phases]


async def test_anthropics_client_streams_through_the_tap_and_its_phases_are_exact() -> None:
    async with upstream(stream(message_events()), stream(message_events())) as daemon:
        seen = []
        async with tap_before(daemon.port) as tap:
            for port in (daemon.port, tap.port):
                async with (
                    AsyncAnthropic(base_url=f"http://127.0.0.1:{port}", api_key="k", max_retries=0) as client,
                    client.messages.stream(model=MODEL, max_tokens=100, messages=PROMPT) as answer,
                ):
                    seen.append([event.to_dict() async for event in answer])
            await tap.settled()
            (report,) = tap.predictions()
    assert seen[0] == seen[1]
    assert len(seen[0]) > 10
    assert report.client == "anthropic-python"
    assert report.route == "/v1/messages"
    assert shape(report) == [("reasoning", 3, 10), ("answer", 2, 6), ("tool_call", 2, 17)]
    assert report.usage == Usage(input=25, output=15, cached=5)
    assert (report.finish, report.tools, report.model) == ("tool_use", ("get_weather",), MODEL)


async def test_anthropics_client_gets_an_error_as_its_own() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    async with upstream(whole(error, status="529 Overloaded")) as daemon, tap_before(daemon.port) as tap:
        url = f"http://127.0.0.1:{tap.port}"
        async with AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client:
            with pytest.raises(anthropic.APIStatusError) as refused:
                await client.messages.create(model=MODEL, max_tokens=10, messages=PROMPT)
        await tap.settled()
        (report,) = tap.reports()
    assert refused.value.status_code == 529
    assert (report.status, report.error, report.is_prediction) == (529, "overloaded_error", False)


async def test_openais_responses_stream_through_the_tap_and_their_phases_are_exact() -> None:
    async with upstream(stream(response_events()), stream(response_events())) as daemon:
        seen = []
        async with tap_before(daemon.port) as tap:
            for port in (daemon.port, tap.port):
                async with AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="k") as client:
                    answer = await client.responses.create(model=MODEL, input="hi", stream=True)
                    seen.append([event.to_dict() async for event in answer])
            await tap.settled()
            (report,) = tap.predictions()
    assert seen[0] == seen[1]
    assert shape(report) == [("reasoning", 2, 3), ("answer", 2, 4), ("tool_call", 1, 2)]
    assert report.usage == Usage(input=9, output=7, reasoning=3, cached=4)
    assert (report.finish, report.tools) == ("completed", ("get_weather",))
    assert report.reasoning_share == 3 / 7


async def test_reasoning_that_an_api_leaves_in_the_text_is_told_apart_by_its_tags() -> None:
    texts = ["<think>", "Let me", " see.", "</think>", "\n\nHello", " you", "!"]
    events = [{"choices": [{"index": 0, "delta": {"content": text}}], "model": MODEL} for text in texts]
    async with (
        upstream(stream(events)) as daemon,
        tap_before(daemon.port) as tap,
        httpx.AsyncClient() as client,
    ):
        await client.post(f"{tap.url}/v1/chat/completions", json={"model": MODEL})
        await tap.idle()
        (report,) = tap.predictions()
    assert [(phase.kind.value, phase.tokens) for phase in report.phases] == [("reasoning", 2), ("answer", 3)]
    assert report.phases[0].start_s <= report.phases[0].end_s <= report.phases[1].start_s


async def test_an_answer_in_one_piece_longer_than_what_is_kept_still_tells_its_counts() -> None:
    message = {"role": "assistant", "content": 'so "usage": {"completion_tokens": 1} ' * 20_000}
    answer = {
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 20_000},
    }
    async with (
        upstream(whole(answer)) as daemon,
        tap_before(daemon.port) as tap,
        httpx.AsyncClient() as client,
    ):
        await client.post(f"{tap.url}/v1/chat/completions", json={"model": MODEL})
        await tap.idle()
        (report,) = tap.predictions()
    assert report.usage == Usage(input=3, output=20_000)
    assert report.model == MODEL


async def test_the_callers_trace_is_read_from_its_header() -> None:
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    async with (
        upstream(whole({}), whole({}), whole({})) as daemon,
        tap_before(daemon.port) as tap,
        httpx.AsyncClient() as client,
    ):
        for headers in (trace, {"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01"}, {}):
            await client.get(f"{tap.url}/v1/models", headers=headers)
        await tap.idle()
        ids = [(report.trace_id, report.parent_id) for report in tap.reports()]
    assert ids == [("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"), (None, None), (None, None)]
