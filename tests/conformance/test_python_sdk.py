"""The official Python SDK drives the simulator: nothing logged at warning or above, no unknown message."""

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Literal

import lmstudio
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from llmster_sim.server import Simulator
from llmster_sim.wire.transfer_calls import HUB_MODEL, HUB_SIZES

CHAT = "qwen/qwen3-8b"
OTHER_CHAT = "openai/gpt-oss-20b"
PLAIN = "google/gemma-3-12b"
PHASES: tuple[Literal["setup", "call", "teardown"], ...] = ("setup", "call", "teardown")
EMBEDDING = "text-embedding-nomic-embed-text-v1.5"


def _complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        f"{record.name}: {record.getMessage()}"
        for phase in PHASES
        for record in caplog.get_records(phase)
        if record.levelno >= logging.WARNING
    ]


@pytest.fixture(autouse=True)
def _nothing_but_silence(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test during which anything was logged at warning or above; unknown messages are raised anyway."""
    with caplog.at_level(logging.WARNING):
        yield
    assert _complaints(caplog) == []


def _host(sim: Simulator) -> str:
    return f"127.0.0.1:{sim.port}"


@asynccontextmanager
async def _daemon(*answers: dict[str, Any]) -> AsyncIterator[str]:
    """Serve a daemon that lets everyone in and answers the first call of each connection with these frames."""

    async def handle(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(json.dumps({"success": True}))
        async for text in socket:
            for answer in answers:
                its_call = {"callId": json.loads(text)["callId"]} if answer["type"] == "rpcResult" else {}
                await socket.send(json.dumps({**its_call, **answer}))

    def greet(socket: ServerConnection, request: Request) -> Response | None:
        if request.path == "/lmstudio-greeting":
            return socket.respond(HTTPStatus.OK, '{"lmstudio":true}')
        return None

    async with serve(handle, "127.0.0.1", 0, process_request=greet) as server:
        yield f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@pytest.mark.parametrize(
    ("stray", "complaint"),
    [
        ({"type": "rpcResult", "callId": 999, "result": []}, "Received response to unknown call"),
        ({"type": "communicationWarning", "warning": "no such endpoint"}, "no such endpoint"),
    ],
    ids=["answer to a call nobody made", "warning from the daemon"],
)
async def test_silence_is_broken_by_a_daemon_that_is_wrong_on_purpose(
    caplog: pytest.LogCaptureFixture, stray: dict[str, Any], complaint: str
) -> None:
    async with (
        _daemon(stray, {"type": "rpcResult", "result": []}) as host,
        lmstudio.AsyncClient(host) as client,
    ):
        assert await client.llm.list_loaded() == []
    assert any(complaint in text for text in _complaints(caplog))
    caplog.clear()


async def test_python_sdk_recognises_the_simulator_as_an_api_host(sim: Simulator) -> None:
    assert await lmstudio.AsyncClient.is_valid_api_host(_host(sim))


async def test_python_sdk_lists_downloaded_and_loaded_models(sim: Simulator) -> None:
    async with lmstudio.AsyncClient(_host(sim)) as client:
        downloaded = await client.list_downloaded_models()
        llms = await client.llm.list_downloaded()
        embeddings = await client.embedding.list_downloaded()
        loaded = await client.list_loaded_models()
    assert {CHAT, OTHER_CHAT, PLAIN, EMBEDDING} <= {model.model_key for model in downloaded}
    assert len(llms) + len(embeddings) == len(downloaded)
    assert {model.identifier for model in loaded} == {i.identifier for i in sim.daemon.loaded}


async def test_python_sdk_uploads_an_image_and_searches_the_hub(sim: Simulator) -> None:
    async with lmstudio.AsyncClient(_host(sim)) as client:
        handle = await client.files.prepare_image(b"not really a picture", "dot.png")
        (found,) = await client.repository.search_models(HUB_MODEL)
        options = await found.get_download_options()
    assert (handle.file_type, handle.size_bytes, handle.name) == ("image", 20, "dot.png")
    assert {option.info.quantization for option in options} == set(HUB_SIZES)


async def test_python_sdk_loads_with_ttl_and_config_and_unloads(sim: Simulator) -> None:
    progress: list[float] = []
    async with lmstudio.AsyncClient(_host(sim)) as client:
        model = await client.llm.load_new_instance(
            OTHER_CHAT,
            "oss",
            ttl=600,
            config={"contextLength": 8192, "gpu": {"ratio": 0.5}, "flashAttention": True},
            on_load_progress=progress.append,
        )
        info = await model.get_info()
        (ttl_ms,) = [i.ttl_ms for i in sim.daemon.loaded if i.identifier == "oss"]
        config = await model.get_load_config()
        context_length = await model.get_context_length()
        during = {handle.identifier for handle in await client.llm.list_loaded()}
        await model.unload()
        after = {handle.identifier for handle in await client.llm.list_loaded()}
    assert progress[0] == 0
    assert progress[-1] == 1
    assert progress == sorted(progress)
    assert info.identifier == "oss"
    assert ttl_ms == 600_000
    assert isinstance(info, lmstudio.LlmInstanceInfo)
    assert isinstance(config, lmstudio.LlmLoadModelConfig)
    assert info.context_length == context_length == config.context_length == 8192
    assert config.gpu is not None
    assert config.gpu.ratio == 0.5
    assert config.flash_attention is True
    assert during - after == {"oss"}


async def test_python_sdk_reports_unknown_models_as_its_own_errors(sim: Simulator) -> None:
    async with lmstudio.AsyncClient(_host(sim)) as client:
        with pytest.raises(lmstudio.LMStudioModelNotFoundError, match="satisfies all requirements"):
            await client.llm.get_model_info("nope")
        with pytest.raises(lmstudio.LMStudioServerError, match=r"generic\.identifierNotFound"):
            await client.llm.unload("nope")
        with pytest.raises(lmstudio.LMStudioServerError, match=r"generic\.pathNotFound"):
            await client.llm.load_new_instance("nope/nope")


async def test_python_sdk_streams_a_response_with_reasoning_and_stats(sim: Simulator) -> None:
    progress: list[float] = []
    async with lmstudio.AsyncClient(_host(sim)) as client:
        model = await client.llm.model(CHAT)
        stream = await model.respond_stream("Say something.", on_prompt_processing_progress=progress.append)
        fragments = [fragment async for fragment in stream]
        result = stream.result()
    kinds = [kind for kind, _ in itertools.groupby(fragment.reasoning_type for fragment in fragments)]
    assert kinds == ["reasoningStartTag", "reasoning", "reasoningEndTag", "none"]
    assert "".join(fragment.content for fragment in fragments) == result.content
    assert result.stats.stop_reason == "eosFound"
    assert result.stats.predicted_tokens_count == sum(fragment.tokens_count for fragment in fragments)
    assert progress[-1] == 1
    assert result.model_info.model_key == CHAT


async def test_python_sdk_cancels_a_prediction(sim: Simulator) -> None:
    async with lmstudio.AsyncClient(_host(sim)) as client:
        model = await client.llm.model(CHAT)
        sim.clock.detach()
        sim.clock.speed = 0.1  # the rest of the prediction would take ten seconds and more
        sim.clock.attach(asyncio.get_running_loop())
        stream = await model.respond_stream("Talk for a long time.")
        async for _ in stream:
            await stream.cancel()
        result = stream.result()
    assert result.stats.stop_reason == "userStopped"


async def test_python_sdk_completes_and_tokenizes(sim: Simulator) -> None:
    async with lmstudio.AsyncClient(_host(sim)) as client:
        model = await client.llm.model(PLAIN)
        result = await model.complete("Once upon a time", config={"maxTokens": 12})
        tokens = await model.tokenize("one two three")
        count = await model.count_tokens("one two three")
        formatted = await model.apply_prompt_template("What is up?")
    assert result.stats.stop_reason == "maxPredictedTokensReached"
    assert result.stats.predicted_tokens_count == 12
    assert len(tokens) == count > 0
    assert "What is up?" in formatted


async def test_python_sdk_embeds(sim: Simulator) -> None:
    async with lmstudio.AsyncClient(_host(sim)) as client:
        model = await client.embedding.model(EMBEDDING)
        one = await model.embed("Hello, world")
        many = await model.embed(["Hello, world", "b"])
    assert one == many[0] != many[1]
    assert one


async def test_python_sdk_acts_with_a_tool_over_several_rounds(sim: Simulator) -> None:
    calls: list[tuple[float, float]] = []
    roles: list[str] = []

    def multiply(a: float, b: float) -> float:
        """Given two numbers a and b, returns their product."""
        calls.append((a, b))
        return a * b

    async with lmstudio.AsyncClient(_host(sim)) as client:
        model = await client.llm.model(CHAT)
        result = await model.act(
            "What is 12345 times 54321? Use the tool.",
            [multiply],
            max_prediction_rounds=4,
            on_message=lambda message: roles.append(message.role),
        )
    assert calls
    assert result.rounds >= 2
    assert roles[:2] == ["assistant", "tool"]
    assert roles[-1] == "assistant"


async def test_synchronous_python_client_works_from_a_thread_of_its_own(sim: Simulator) -> None:
    def use() -> tuple[int, str]:
        with lmstudio.Client(_host(sim)) as client:
            model = client.llm.model(PLAIN)
            answer = model.respond("Say something.", config={"maxTokens": 8})
            return len(client.list_downloaded_models()), answer.content

    count, content = await asyncio.to_thread(use)
    assert count == len(sim.daemon.models)
    assert content
