"""The official OpenAI client gets through the tap what it gets without: streams, tools, errors, cancellation, size."""

import asyncio
import hashlib
import json
from typing import Any

import msgspec
import openai
import pytest
from openai import AsyncOpenAI

from exporter.tap.clients import Clients
from llmster_sim.server import SimConfig, Simulator
from tests.exporter.tap.conftest import SPEED, TappedSimulator
from tests.exporter.tap.scripted import upstream, whole
from tests.exporter.tap.tapping import tap_before

CHAT = "qwen/qwen3-8b"
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "search",
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
        },
    }
]


def client_of(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0)


async def converse(url: str) -> list[Any]:
    """Use everything; return what came, without ids and times of creation."""
    got: list[Any] = []
    async with client_of(url) as client:
        for text, tools in (("Say something.", openai.omit), ("Use the tool to search for cats.", TOOLS)):
            messages: Any = [{"role": "user", "content": text}]
            whole = await client.chat.completions.create(model=CHAT, messages=messages, tools=tools)
            got.append(whole.model_dump(exclude={"id", "created"}))
            stream = await client.chat.completions.create(
                model=CHAT, messages=messages, tools=tools, stream=True
            )
            got += [chunk.model_dump(exclude={"id", "created"}) async for chunk in stream]
        completion = await client.completions.create(model=CHAT, prompt="Once", max_tokens=5)
        got.append(completion.model_dump(exclude={"id", "created"}))
        vector = await client.embeddings.create(
            model="text-embedding-nomic-embed-text-v1.5", input=["a", "b"], encoding_format="float"
        )
        got.append(vector.model_dump())
        messages = "no list"
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(model=CHAT, messages=messages)
        got.append((refused.value.status_code, refused.value.body))
        got.append([model.id async for model in client.models.list()])
    return got


async def test_what_the_client_gets_is_the_same_with_and_without_the_tap() -> None:
    config = SimConfig(seed=11, scenario="idle", speed=SPEED)
    async with Simulator(config) as simulator:
        bare = await converse(simulator.url)
    async with Simulator(config) as simulator, tap_before(simulator.port) as tap:
        tapped = await converse(tap.url)
        await tap.settled()
        totals = simulator.daemon.totals
        predictions = tap.predictions()
    assert tapped == bare
    assert len(predictions) == totals.predictions
    assert {report.client for report in tap.reports()} == {"openai-python"}
    assert all(
        report.usage.output is None for report in predictions if report.phases
    )  # the client asked for none


async def test_phases_of_a_stream_are_exact_and_a_tool_is_named(sim: TappedSimulator) -> None:
    messages: Any = [{"role": "user", "content": "Use the tool to search for cats."}]
    async with client_of(sim.url) as client:
        stream = await client.chat.completions.create(model=CHAT, messages=messages, tools=TOOLS, stream=True)
        chunks = [chunk async for chunk in stream]
    await sim.tap.idle()
    (report,) = sim.tap.predictions()
    assert report.model == CHAT
    assert report.finish == chunks[-1].choices[0].finish_reason == "tool_calls"
    assert report.tools == ("search",)
    assert report.phases[0].kind == "reasoning"
    assert report.phases[-1].kind == "tool_call"
    assert report.phases[0].chars == sim.daemon.totals.reasoning_characters
    assert all(a.end_s == b.start_s for a, b in zip(report.phases, report.phases[1:], strict=False))
    assert sum(report.gaps) == report.tokens - 1


async def test_a_client_that_breaks_off_stops_the_daemons_work(sim: TappedSimulator) -> None:
    sim.clock.detach()
    sim.clock.speed = 0.2  # the rest would take many seconds
    sim.clock.attach(asyncio.get_running_loop())
    async with client_of(sim.url) as client:
        stream = await client.chat.completions.create(
            model=CHAT, messages=[{"role": "user", "content": "Talk for long."}], stream=True
        )
        async for _ in stream:
            break
        await stream.close()
        await sim.tap.settled()
    (report,) = sim.tap.predictions()
    assert report.cancelled
    assert sim.daemon.totals.by_stop_reason["userStopped"] == 1


async def test_a_body_of_ten_megabytes_passes_and_its_model_is_still_known() -> None:
    text = "word " * 2_100_000
    async with upstream(whole({"choices": []})) as daemon, tap_before(daemon.port) as tap:
        async with client_of(tap.url) as client:
            await client.completions.create(model=CHAT, prompt=text, max_tokens=1)
        await tap.settled()
        (report,) = tap.reports()
        (request,) = daemon.requests
    assert json.loads(request.partition(b"\r\n\r\n")[2])["prompt"] == text
    assert report.model == CHAT


async def test_a_thousand_idle_connections_do_not_hold_up_one_that_works(sim: TappedSimulator) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", sim.port) for _ in range(1000)]
    try:
        async with client_of(sim.url) as client:
            models = await client.models.list()
        assert CHAT in {model.id for model in models.data}
        assert len(sim.tap.relay.connections) >= 1000
    finally:
        for _, writer in idle:
            writer.close()
    await sim.tap.settled()


async def test_a_key_names_the_client_and_is_kept_nowhere() -> None:
    key = "sk-test"
    clients = Clients({hashlib.sha256(key.encode()).hexdigest(): "ci"})
    async with (
        Simulator(SimConfig(seed=7, scenario="idle", speed=SPEED)) as simulator,
        tap_before(simulator.port, clients=clients) as tap,
    ):
        async with client_of(tap.url) as client:
            await client.completions.create(model=CHAT, prompt="Once", max_tokens=3)
        await tap.settled()
        batch = await tap.registry.batch(tap.registry._boot, 1, within_s=0)
    assert [report.client for report in batch.reports] == ["ci"]
    told = msgspec.json.encode(batch).decode()
    assert key not in told
    assert "Once" not in told
    assert json.loads(told)["reports"][0]["client"] == "ci"
