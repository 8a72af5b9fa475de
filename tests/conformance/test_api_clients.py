"""OpenAI's and Anthropic's own Python clients read the simulator's answers, plain and streamed."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from llmster_sim.server import SimConfig, Simulator

MODEL = "qwen/qwen3-8b"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALL = 'call get_weather {"city": "Bern"}'


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimConfig(scenario="idle", speed=50)) as running:
        yield running


@pytest.fixture
async def openai(simulator: Simulator) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic(simulator: Simulator) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=simulator.url, api_key="none", max_retries=0) as client:
        yield client


async def test_a_response_has_reasoning_text_and_usage(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(model=MODEL, input="Say hello.", instructions="Be brief.")
    assert response.status == "completed"
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.output_text
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


async def test_a_streamed_response_ends_with_what_its_deltas_said(openai: AsyncOpenAI) -> None:
    kinds, text, reasoning, numbers = [], "", "", []
    completed: Any = None
    async with openai.responses.stream(model=MODEL, input="Say hello.") as stream:
        async for event in stream:
            kinds.append(event.type)
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.reasoning_text.delta":
                reasoning += event.delta
            elif event.type == "response.completed":
                completed = event.response
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert numbers == list(range(len(numbers)))
    assert completed.output_text == text != ""
    assert completed.output[0].content[0].text == reasoning != ""


async def test_a_response_calls_a_function(openai: AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}
    plain = await openai.responses.create(model=MODEL, input=CALL, tools=[tool])
    calls = [item for item in plain.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [("get_weather", {"city": "Bern"})]
    async with openai.responses.stream(model=MODEL, input=CALL, tools=[tool]) as stream:
        streamed = await stream.get_final_response()
    assert [item.name for item in streamed.output if item.type == "function_call"] == ["get_weather"]


async def test_a_response_that_is_cut_says_so(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(model=MODEL, input="Say hello.", max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


async def test_a_message_has_thinking_text_and_usage(anthropic: AsyncAnthropic) -> None:
    message = await anthropic.messages.create(
        model=MODEL, max_tokens=4096, system="Be brief.", messages=[{"role": "user", "content": "Say hello."}]
    )
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0


async def test_a_streamed_message_is_put_together_by_the_client(anthropic: AsyncAnthropic) -> None:
    text = ""
    async with anthropic.messages.stream(
        model=MODEL, max_tokens=4096, messages=[{"role": "user", "content": "Say hello."}]
    ) as stream:
        async for event in stream:
            if event.type == "text":
                text += event.text
        message = await stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text"]
    (said,) = (block.text for block in message.content if block.type == "text")
    assert said == text != ""
    assert message.usage.output_tokens > 0


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_message_uses_a_tool_and_takes_its_result(
    anthropic: AsyncAnthropic, *, is_streamed: bool
) -> None:
    tools: Any = [{"name": "get_weather", "description": "", "input_schema": WEATHER}]
    asked: Any = [{"role": "user", "content": CALL}]
    message: Any
    if is_streamed:
        async with anthropic.messages.stream(
            model=MODEL, max_tokens=4096, messages=asked, tools=tools
        ) as stream:
            message = await stream.get_final_message()
    else:
        message = await anthropic.messages.create(model=MODEL, max_tokens=4096, messages=asked, tools=tools)
    (use,) = (block for block in message.content if block.type == "tool_use")
    assert (use.name, use.input, message.stop_reason) == ("get_weather", {"city": "Bern"}, "tool_use")
    result: Any = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}],
    }
    answer = await anthropic.messages.create(
        model=MODEL,
        max_tokens=4096,
        tools=tools,
        messages=[*asked, {"role": "assistant", "content": message.content}, result],
    )
    assert answer.stop_reason == "end_turn"
