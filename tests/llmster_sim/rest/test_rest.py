import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from llmster_sim.engine.daemon import Settings
from llmster_sim.server import SimConfig, Simulator
from tests.llmster_sim.client import logged

QWEN = "qwen/qwen3-8b"
OSS = "openai/gpt-oss-20b"
EMBEDDER = "text-embedding-nomic-embed-text-v1.5"
TOKEN = "sk-lm-Ab3dE6gH:0123456789abcdefghij"
MCP = {"type": "ephemeral_mcp", "server_label": "hf", "server_url": "http://127.0.0.1:1/mcp"}


@pytest.fixture
async def http(sim: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sim.url) as client:
        yield client


async def _post(sim: Simulator, http: httpx.AsyncClient, path: str, body: Any) -> httpx.Response:
    """Post, and move time on until the answer is there."""
    task = asyncio.create_task(http.post(path, json=body))
    while not task.done():
        sim.clock.advance(0.5)
        await asyncio.sleep(0)
    return task.result()


async def _events(sim: Simulator, http: httpx.AsyncClient, **body: Any) -> list[dict[str, Any]]:
    answer = await _post(sim, http, "/api/v1/chat", {"input": "hi", "stream": True, **body})
    assert answer.headers["content-type"] == "text/event-stream"
    events = []
    for block in answer.text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def _kinds(events: list[dict[str, Any]]) -> list[str]:
    """The event types, repeated ones once."""
    kinds = [event["type"] for event in events]
    return [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind]


async def test_greeting_and_status_say_what_answers(http: httpx.AsyncClient) -> None:
    assert (await http.get("/lmstudio-greeting")).json() == {"lmstudio": True}
    assert (await http.get("/lms-status")).json() == {"package": "llmster", "version": "0.4.24+1"}


@pytest.mark.parametrize(
    ("path", "status"),
    [("/metrics", 200), ("/", 200), ("/v1/nope", 200), ("/api/v0/nope", 200), ("/api/v1/nope", 404)],
)
async def test_unknown_route_answers_200_except_below_api_v1(
    http: httpx.AsyncClient, path: str, status: int
) -> None:
    answer = await http.get(path)
    assert answer.status_code == status
    assert answer.json() == {"error": f"Unexpected endpoint or method. (GET {path})"}


async def test_answers_look_like_they_come_from_express(http: httpx.AsyncClient) -> None:
    headers = (await http.get("/api/v1/models")).headers
    assert headers["x-powered-by"] == "Express"
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert "server" not in headers


async def test_v1_models_show_instances_with_their_remaining_ttl(
    sim: Simulator, http: httpx.AsyncClient
) -> None:
    sim.clock.advance(600)
    models = {model["key"]: model for model in (await http.get("/api/v1/models")).json()["models"]}
    (pinned,) = models[QWEN]["loaded_instances"]
    (jit,) = models[OSS]["loaded_instances"]
    assert "remaining_ttl_seconds" not in pinned
    assert jit["remaining_ttl_seconds"] == 3000
    assert pinned["config"]["parallel"] == 4
    assert models[EMBEDDER]["loaded_instances"] == [{"id": EMBEDDER, "config": {"context_length": 2048}}]
    assert models["deepseek/deepseek-r1-0528-qwen3-8b"]["format"] == "mlx"


async def test_v0_shows_a_model_while_it_loads(sim: Simulator, http: httpx.AsyncClient) -> None:
    path = "/api/v0/models/qwen/qwen3-0.6b"
    states = [(await http.get(path)).json()["state"]]
    sim.daemon.load("qwen/qwen3-0.6b")
    states.append((await http.get(path)).json()["state"])
    sim.clock.advance(60)
    states.append((await http.get(path)).json()["state"])
    assert states == ["not-loaded", "loading", "loaded"]


async def test_load_answers_when_the_model_is_there_and_a_second_call_stacks(
    sim: Simulator, http: httpx.AsyncClient
) -> None:
    body = {"model": "qwen/qwen3-0.6b", "context_length": 2048, "echo_load_config": True}
    first = (await _post(sim, http, "/api/v1/models/load", body)).json()
    second = (await _post(sim, http, "/api/v1/models/load", body)).json()
    assert first["load_config"]["context_length"] == 2048
    assert first["load_time_seconds"] > 0.5
    assert second["instance_id"] == "qwen/qwen3-0.6b:2"


@pytest.mark.parametrize("key", ["ttl", "gpu", "n_parallel"])
async def test_load_schema_is_closed(http: httpx.AsyncClient, key: str) -> None:
    answer = await http.post("/api/v1/models/load", json={"model": QWEN, key: 1})
    assert answer.status_code == 400
    assert answer.json() == {
        "error": {
            "type": "invalid_request",
            "message": f"Unrecognized key(s) in object: '{key}'",
            "code": "unrecognized_keys",
        }
    }


async def test_guardrail_refusal_has_the_published_shape(http: httpx.AsyncClient) -> None:
    body = {"model": "google/gemma-4-26b-a4b", "context_length": 262_144}
    answer = await http.post("/api/v1/models/load", json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", None)
    assert error["message"].startswith(
        'Failed to load model "google/gemma-4-26b-a4b". Error: Model loading was stopped due to insufficient system'
        " resources. Under the current settings, this model requires approximately 35.89 GB of memory, "
    )


async def test_unload_takes_an_instance_and_refuses_an_unknown_one(
    sim: Simulator, http: httpx.AsyncClient
) -> None:
    done = await http.post("/api/v1/models/unload", json={"instance_id": QWEN})
    again = await http.post("/api/v1/models/unload", json={"instance_id": QWEN})
    assert done.json() == {"instance_id": QWEN}
    assert again.status_code == 404
    assert again.json()["error"]["message"] == f"Model instance not found: {QWEN}"
    assert len(sim.daemon.instances) == 2


async def test_download_goes_from_downloading_to_completed(sim: Simulator, http: httpx.AsyncClient) -> None:
    job = (await http.post("/api/v1/models/download", json={"model": "ibm/granite-4-micro"})).json()
    path = f"/api/v1/models/download/status/{job['job_id']}"
    sim.clock.advance(10)
    half = (await http.get(path)).json()
    sim.clock.advance(1000)
    whole = (await http.get(path)).json()
    assert (half["status"], whole["status"]) == ("downloading", "completed")
    assert 0 < half["downloaded_bytes"] < whole["downloaded_bytes"] == whole["total_size_bytes"]
    have = (await http.post("/api/v1/models/download", json={"model": QWEN})).json()
    assert have == {"status": "already_downloaded"}


async def test_token_is_asked_for_in_the_published_words() -> None:
    async with (
        Simulator(SimConfig(scenario="idle", manual_clock=True, token=TOKEN)) as sim,
        httpx.AsyncClient(base_url=sim.url) as http,
    ):
        refused = await http.get("/api/v1/models")
        passed = await http.get("/api/v1/models", headers={"Authorization": f"Bearer {TOKEN}"})
        assert (refused.status_code, passed.status_code) == (401, 200)
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert refused.json()["error"]["message"].startswith(
            "An LM Studio API token is required to make requests"
        )


async def test_chat_answers_with_reasoning_message_and_exact_counts(
    sim: Simulator, http: httpx.AsyncClient
) -> None:
    answer = (await _post(sim, http, "/api/v1/chat", {"model": QWEN, "input": "hi"})).json()
    assert [item["type"] for item in answer["output"]] == ["reasoning", "message"]
    assert answer["stats"]["reasoning_output_tokens"] == sim.daemon.totals.reasoning_tokens
    assert answer["stats"]["total_output_tokens"] == sim.daemon.totals.generated_tokens
    assert answer["response_id"].startswith("resp_")


async def test_chat_stream_has_its_events_in_the_documented_order(
    sim: Simulator, http: httpx.AsyncClient
) -> None:
    events = await _events(sim, http, model="qwen/qwen3-0.6b")
    assert _kinds(events) == [
        "chat.start",
        "model_load.start",
        "model_load.progress",
        "model_load.end",
        "prompt_processing.start",
        "prompt_processing.progress",
        "prompt_processing.end",
        "reasoning.start",
        "reasoning.delta",
        "reasoning.end",
        "message.start",
        "message.delta",
        "message.end",
        "chat.end",
    ]
    result = events[-1]["result"]
    said = "".join(event["content"] for event in events if event["type"] == "message.delta")
    assert result["output"][-1] == {"type": "message", "content": said}
    assert result["stats"]["model_load_time_seconds"] > 0


async def test_prompt_processing_ends_twice_on_gpt_oss(sim: Simulator, http: httpx.AsyncClient) -> None:
    events = await _events(sim, http, model=OSS)
    assert [event["type"] for event in events].count("prompt_processing.end") == 2


async def test_chat_with_an_integration_calls_its_tool_and_goes_on(
    sim: Simulator, http: httpx.AsyncClient
) -> None:
    events = await _events(sim, http, model=QWEN, integrations=[{**MCP, "allowed_tools": ["model_search"]}])
    calls = {event["type"]: event for event in events if event["type"].startswith("tool_call.")}
    assert list(calls) == ["tool_call.start", "tool_call.arguments", "tool_call.success"]
    assert {event["tool"] for event in calls.values()} == {"model_search"}
    assert calls["tool_call.success"]["provider_info"] == {"type": "ephemeral_mcp", "server_label": "hf"}
    output = [item["type"] for item in events[-1]["result"]["output"]]
    assert [kind for kind in output if kind != "reasoning"] == ["tool_call", "message"]
    assert sim.daemon.totals.tools == {"model_search": 1}


async def test_failed_tool_call_is_told_and_the_chat_goes_on(sim: Simulator, http: httpx.AsyncClient) -> None:
    sim.daemon.next_tool_failure = "invalid_name"
    events = await _events(sim, http, model=QWEN, integrations=[{**MCP, "allowed_tools": ["open_browser"]}])
    (failure,) = [event for event in events if event["type"] == "tool_call.failure"]
    assert failure["reason"] == "Cannot find tool with name open_browser."
    assert failure["metadata"] == {"type": "invalid_name", "tool_name": "open_browser"}
    assert events[-2]["type"] == "message.end"


async def test_plugin_is_refused_unless_the_setting_allows_it(
    sim: Simulator, http: httpx.AsyncClient
) -> None:
    body = {"model": QWEN, "input": "hi", "integrations": ["mcp/playwright"]}
    refused = await http.post("/api/v1/chat", json=body)
    assert refused.status_code == 403
    assert refused.json()["error"]["message"].startswith("Permission denied to use plugin 'mcp/playwright'.")
    assert sim.daemon.totals.predictions == 0
    config = SimConfig(scenario="idle", manual_clock=True, settings=Settings(allow_mcp_json=True))
    async with Simulator(config) as open_sim, httpx.AsyncClient(base_url=open_sim.url) as open_http:
        assert (await _post(open_sim, open_http, "/api/v1/chat", body)).status_code == 200


async def test_failed_load_is_an_error_event_and_the_stream_still_ends(
    sim: Simulator, http: httpx.AsyncClient
) -> None:
    events = await _events(sim, http, model="google/gemma-4-26b-a4b", context_length=262_144)
    assert [event["type"] for event in events[-2:]] == ["error", "chat.end"]
    assert events[-1]["result"]["output"] == []


async def test_stored_chat_goes_on_where_it_was(sim: Simulator, http: httpx.AsyncClient) -> None:
    seen: list[dict[str, Any]] = []
    sim.daemon.watch(seen.append)
    first = (await _post(sim, http, "/api/v1/chat", {"model": QWEN, "input": "one"})).json()
    body = {"model": QWEN, "input": "two", "previous_response_id": first["response_id"]}
    await _post(sim, http, "/api/v1/chat", body)
    sim.clock.advance(0)
    prompts = [e["data"]["input"] for e in seen if e["data"]["type"] == "llm.prediction.input"]
    outputs = [e["data"]["output"] for e in seen if e["data"]["type"] == "llm.prediction.output"]
    assert prompts[1].startswith(prompts[0] + outputs[0])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"input": "hi"}, 400, "missing_required_parameter"),
        ({"model": QWEN}, 400, "missing_required_parameter"),
        ({"model": QWEN, "input": "hi", "nope": 1}, 400, "unrecognized_keys"),
        ({"model": "nope", "input": "hi"}, 404, "model_not_found"),
        ({"model": OSS, "input": "hi", "reasoning": "off"}, 400, "invalid_value"),
    ],
)
async def test_chat_refuses_what_it_cannot_do(
    http: httpx.AsyncClient, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await http.post("/api/v1/chat", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_wrong_name_means_the_only_loaded_model(sim: Simulator, http: httpx.AsyncClient) -> None:
    sim.daemon.unload(OSS)
    answer = (await _post(sim, http, "/api/v1/chat", {"model": "nope", "input": "hi"})).json()
    assert answer["model_instance_id"] == QWEN


async def test_openai_chat_streams_chunks_and_a_last_marker(sim: Simulator, http: httpx.AsyncClient) -> None:
    body = {"model": QWEN, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    answer = await _post(sim, http, "/v1/chat/completions", body)
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_v0_chat_adds_the_daemons_stats(sim: Simulator, http: httpx.AsyncClient) -> None:
    body = {"model": QWEN, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    answer = (await _post(sim, http, "/api/v0/chat/completions", body)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["stats"]["stop_reason"] == "maxPredictedTokensReached"
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["runtime"]["supported_formats"] == ["gguf"]


async def test_openai_tools_come_back_as_tool_calls(sim: Simulator, http: httpx.AsyncClient) -> None:
    tool = {
        "type": "function",
        "function": {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}},
    }
    body = {"model": QWEN, "messages": [{"role": "user", "content": "hi"}], "tools": [tool]}
    choice = (await _post(sim, http, "/v1/chat/completions", body)).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "add"


async def test_embeddings_answer_one_vector_per_text(sim: Simulator, http: httpx.AsyncClient) -> None:
    answer = (await _post(sim, http, "/v1/embeddings", {"model": EMBEDDER, "input": ["a", "b"]})).json()
    assert [len(item["embedding"]) for item in answer["data"]] == [768, 768]
    assert sim.daemon.totals.embeddings == 2


async def test_client_that_goes_away_stops_the_generation(sim: Simulator, http: httpx.AsyncClient) -> None:
    begun = logged(sim.daemon, "slot launch_slot_")
    stopped = logged(sim.daemon, "Client disconnected. Stopping generation")
    body = {"model": QWEN, "input": "hi", "stream": True}
    request = asyncio.create_task(http.post("/api/v1/chat", json=body))
    await begun
    sim.clock.advance(0.3)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await stopped
    assert sim.daemon.totals.by_stop_reason == {"userStopped": 1}
