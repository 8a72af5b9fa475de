import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect as dial
from websockets.exceptions import InvalidStatus

from llmster_sim.models.catalogue import PEER_DEVICE_IDENTIFIER
from llmster_sim.server import SimConfig, Simulator
from tests.llmster_sim.client import AUTH, Client, logged

Connect = Callable[[str], Client]
TOKEN = "sk-lm-Ab3dE6gH:0123456789abcdefghij"
STACK: dict[str, Any] = {"layers": [{"layerName": "apiOverride", "config": {"fields": []}}]}
QWEN = "qwen/qwen3-8b"


@pytest.mark.parametrize(
    "path", ["/llm", "/embedding", "/system", "/diagnostics", "/runtime", "/repository", "/files", "/plugins"]
)
async def test_every_namespace_accepts_the_handshake(connect: Connect, path: str) -> None:
    assert await connect(path).open() == {"success": True}


async def test_malformed_packet_is_ignored_and_the_handshake_times_out(
    sim: Simulator, connect: Connect
) -> None:
    client = connect("/llm")
    await client.open(auth=None)
    await client.send({"authVersion": 2, "clientIdentifier": "x"})
    await client.send("{not json")
    assert client.socket is not None
    await (await client.socket.ping())
    sim.clock.advance(10)
    assert await client.receive() == {"success": False, "error": "Authentication timed out"}
    assert await client.close_code() == 1005


async def test_first_connection_fixes_the_passkey_until_its_last_socket_is_gone(connect: Connect) -> None:
    first, second = connect("/llm"), connect("/system")
    await first.open()
    other = {**AUTH, "clientPasskey": "another"}
    refused = {
        "success": False,
        "error": 'Failed to validate client: Invalid client passkey for client "guest:test"',
    }
    assert await second.open(auth=other) == refused
    assert await second.close_code() == 1005


async def test_token_is_required_and_checked() -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True, token=TOKEN)) as sim:
        guest, wrong, right = (Client(url=sim.url, path="/system") for _ in range(3))
        required = "An LM Studio API token is required to connect to this server, but none was provided."
        assert await guest.open() == {"success": False, "error": required}
        bad = {"authVersion": 1, "clientIdentifier": "Ab3dE6gH", "clientPasskey": "X" * 20}
        assert await wrong.open(auth=bad) == {"success": False, "error": "Invalid API token."}
        good = {**bad, "clientPasskey": "0123456789abcdefghij"}
        assert await right.open(auth=good) == {"success": True}
        sim.faults.revoke_token()
        assert await right.close_code() == 1005


def test_token_of_another_form_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="sk-lm-XXXXXXXX"):
        Simulator(SimConfig(scenario="idle", manual_clock=True, token="secret"))


async def test_refused_upgrade_is_a_bare_403(sim: Simulator) -> None:
    sim.faults.refuse_upgrades = True
    with pytest.raises(InvalidStatus) as caught:
        await dial(sim.url.replace("http", "ws") + "/llm")
    assert caught.value.response.status_code == 403
    assert not caught.value.response.body
    assert list(caught.value.response.headers.raw_items()) == []


async def test_upgrade_of_an_unknown_path_is_never_answered(sim: Simulator, connect: Connect) -> None:
    dialling = asyncio.ensure_future(dial(sim.url.replace("http", "ws") + "/llm/"))
    client = connect("/llm")
    await client.open()
    await client.call("listLoaded")
    assert not dialling.done()
    dialling.cancel()
    await asyncio.gather(dialling, return_exceptions=True)


async def test_drafted_fragments_say_so(sim: Simulator, connect: Connect) -> None:
    client = connect("/llm")
    await client.open()
    draft = {"key": "llm.prediction.speculativeDecoding.draftModel", "value": "qwen/qwen3-0.6b"}
    channel = await client.channel(
        "predict",
        modelSpecifier={"type": "query", "query": {"identifier": QWEN}},
        history={"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]},
        predictionConfigStack={"layers": [{"layerName": "apiOverride", "config": {"fields": [draft]}}]},
    )
    sim.clock.advance(60)
    said = await client.messages(channel)
    assert all(message["fragment"]["containsDrafted"] for message in said if message["type"] == "fragment")
    assert said[-2]["stats"]["usedDraftModelKey"] == "qwen/qwen3-0.6b"


async def test_compression_is_never_agreed_on(sim: Simulator) -> None:
    async with dial(sim.url.replace("http", "ws") + "/llm", compression="deflate") as socket:
        assert socket.response is not None
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


async def test_client_close_is_echoed_with_its_code(sim: Simulator) -> None:
    async with dial(sim.url.replace("http", "ws") + "/llm") as socket:
        await socket.close(code=1000)
        assert socket.close_code == 1000


async def test_ping_of_the_socket_is_answered(sim: Simulator) -> None:
    async with dial(sim.url.replace("http", "ws") + "/llm") as socket:
        assert await (await socket.ping()) >= 0


async def test_load_channel_reports_to_the_end_and_closes(sim: Simulator, connect: Connect) -> None:
    client = connect("/llm")
    await client.open()
    channel = await client.channel(
        "loadModel", modelKey="qwen/qwen3-0.6b", identifier="small", ttlMs=60_000, loadConfigStack=STACK
    )
    sim.clock.advance(60)
    said = await client.messages(channel)
    kinds = [message["type"] for message in said]
    assert kinds == ["resolved", *["progress"] * 11, "success", "channelClose"]
    assert [m["progress"] for m in said if m["type"] == "progress"] == [n / 10 for n in range(11)]
    assert (said[-2]["info"]["identifier"], said[-2]["info"]["ttlMs"]) == ("small", 60_000)


async def test_cancelled_load_leaves_nothing(sim: Simulator, connect: Connect) -> None:
    client = connect("/llm")
    await client.open()
    channel = await client.channel("loadModel", modelKey="qwen/qwen3-0.6b", loadConfigStack=STACK)
    await client.send({"type": "channelSend", "channelId": channel, "message": {"type": "cancel"}})
    assert (await client.messages(channel))[-1]["type"] == "channelClose"
    assert len(sim.daemon.instances) == 3


async def test_refused_load_ends_with_a_channel_error(connect: Connect) -> None:
    client = connect("/llm")
    await client.open()
    fields = [{"key": "llm.load.contextLength", "value": 262_144}]
    stack = {"layers": [{"layerName": "apiOverride", "config": {"fields": fields}}]}
    channel = await client.channel("loadModel", modelKey="google/gemma-4-26b-a4b", loadConfigStack=stack)
    resolved, error = await client.messages(channel)
    assert resolved["type"] == "resolved"
    assert error["error"]["title"] == "Model loading was stopped due to insufficient system resources."


async def test_get_or_load_finds_what_is_loaded_and_loads_what_is_not(
    sim: Simulator, connect: Connect
) -> None:
    client = connect("/llm")
    await client.open()
    channel = await client.channel("getOrLoad", identifier=QWEN, loadConfigStack=STACK)
    assert [m["type"] for m in await client.messages(channel)] == ["alreadyLoaded", "channelClose"]
    channel = await client.channel(
        "getOrLoad", identifier="qwen/qwen3-0.6b", loadTtlMs=5000, loadConfigStack=STACK
    )
    sim.clock.advance(2)
    said = await client.messages(channel)
    kinds = [message["type"] for message in said]
    assert (kinds[0], kinds[-2]) == ("startLoading", "loadSuccess")
    assert said[-2]["info"]["ttlMs"] == 5000


async def test_prediction_channel_carries_progress_fragments_and_stats(
    sim: Simulator, connect: Connect
) -> None:
    client = connect("/llm")
    await client.open()
    channel = await client.channel(
        "predict",
        modelSpecifier={"type": "query", "query": {"identifier": QWEN}},
        history={"messages": [{"role": "user", "content": [{"type": "text", "text": "hello there"}]}]},
        predictionConfigStack=STACK,
    )
    sim.clock.advance(60)
    said = await client.messages(channel)
    kinds = [message["type"] for message in said]
    assert list(dict.fromkeys(kinds)) == ["promptProcessingProgress", "fragment", "success", "channelClose"]
    fragments = [message["fragment"] for message in said if message["type"] == "fragment"]
    assert {"reasoningStartTag", "reasoning", "reasoningEndTag", "none"} == {
        f["reasoningType"] for f in fragments
    }
    assert sum(f["tokensCount"] for f in fragments) == said[-2]["stats"]["predictedTokensCount"]


async def test_client_that_goes_away_stops_its_prediction(sim: Simulator, connect: Connect) -> None:
    client = connect("/llm")
    await client.open()
    await client.channel(
        "predict",
        modelSpecifier={"type": "query", "query": {"identifier": QWEN}},
        history={"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]},
        predictionConfigStack=STACK,
    )
    sim.clock.advance(0.5)
    stopped = logged(sim.daemon, "Client disconnected. Stopping generation")
    await client.close()
    await stopped
    assert sim.daemon.totals.by_stop_reason == {"userStopped": 1}


async def test_processing_state_tells_what_an_instance_is_doing(connect: Connect) -> None:
    client = connect("/llm")
    await client.open()
    specifier = {"type": "query", "query": {"identifier": QWEN}}
    idle = await client.call("getInstanceProcessingState", specifier=specifier, throwIfNotFound=True)
    assert idle["result"] == {"status": "idle", "queued": 0}
    gone = {"type": "instanceReference", "instanceReference": "nope"}
    error = await client.call("getInstanceProcessingState", specifier=gone, throwIfNotFound=True)
    assert error["error"]["displayData"] == {"code": "generic.specificModelUnloaded"}
    nobody = {"type": "query", "query": {"identifier": "nope"}}
    error = await client.call("getInstanceProcessingState", specifier=nobody, throwIfNotFound=True)
    assert error["error"]["displayData"]["code"] == "generic.noModelMatchingQuery"


async def test_log_stream_goes_to_every_subscriber_and_ends_when_stopped(
    sim: Simulator, connect: Connect
) -> None:
    clients = [connect("/diagnostics"), connect("/diagnostics")]
    channels = []
    for client in clients:
        await client.open()
        channels.append(await client.channel("streamLogs"))
    sim.daemon.server_line(level="info", text="hello")
    for client, channel in zip(clients, channels, strict=True):
        frame = await client.receive()
        assert frame["message"]["log"]["data"]["content"].endswith("[INFO] hello")
        await client.send({"type": "channelSend", "channelId": channel, "message": {"type": "stop"}})
        assert await client.receive() == {"type": "channelClose", "channelId": channel}


async def test_engine_selections_travel_as_a_map(connect: Connect) -> None:
    client = connect("/runtime")
    await client.open()
    answer = await client.call("getEngineSelections", json=None, meta={"values": ["undefined"]})
    assert answer["result"]["meta"] == {"values": ["map"]}
    assert answer["result"]["json"][0][0] == "GGUF"


async def test_link_status_names_the_peer_whose_model_is_listed(connect: Connect) -> None:
    repository, system = connect("/repository"), connect("/system")
    await repository.open()
    await system.open()
    status = (await repository.call("lmLinkStatus"))["result"]
    models = (await system.call("listDownloadedModels"))["result"]
    remote = {m["deviceIdentifier"] for m in models if m["deviceIdentifier"] is not None}
    assert remote == {peer["deviceIdentifier"] for peer in status["peers"]}


async def test_unload_reaches_only_the_device_it_names(sim: Simulator, connect: Connect) -> None:
    client = connect("/llm")
    await client.open()
    wrong = await client.call("unloadModel", identifier=QWEN, deviceIdentifier="elsewhere")
    right = await client.call("unloadModel", identifier=QWEN, deviceIdentifier=None)
    assert wrong["error"]["displayData"]["code"] == "generic.identifierNotFound"
    assert right == {"type": "rpcResult", "callId": 2}
    assert QWEN not in {instance.identifier for instance in sim.daemon.loaded}


async def test_load_finds_a_model_only_on_the_device_asked_for(sim: Simulator, connect: Connect) -> None:
    client = connect("/llm")
    await client.open()
    peer = PEER_DEVICE_IDENTIFIER
    for device, last in ((None, "channelError"), ("elsewhere", "channelError"), (peer, "channelClose")):
        channel = await client.channel(
            "loadModel", modelKey="qwen/qwen3-32b", deviceIdentifier=device, loadConfigStack=STACK
        )
        sim.clock.advance(60)
        assert (await client.messages(channel))[-1]["type"] == last
    assert sim.daemon.loaded[-1].model.device_identifier == peer


async def test_calls_are_counted_by_namespace_and_endpoint(sim: Simulator, connect: Connect) -> None:
    client = connect("/llm")
    await client.open()
    for _ in range(3):
        await client.call("listLoaded")
    assert sim.calls == {("llm", "listLoaded"): 3}
