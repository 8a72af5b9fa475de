import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from llmster_sim.errors import DaemonError
from llmster_sim.server import Simulator
from llmster_sim.wire.faults import BIG_FRAME_BYTES
from tests.llmster_sim.client import Client

Connect = Callable[[str], Client]


@pytest.fixture
async def llm(connect: Connect) -> Client:
    client = connect("/llm")
    await client.open()
    return client


async def test_hanging_call_is_never_answered_and_others_are(sim: Simulator, llm: Client) -> None:
    sim.faults.hang("llm.listLoaded", times=1)
    await llm.begin("listLoaded")
    await llm.settle()
    assert llm.early == []
    assert len((await llm.call("listLoaded"))["result"]) == 2


async def test_delayed_call_is_answered_when_its_time_has_come(sim: Simulator, llm: Client) -> None:
    sim.faults.delay("llm.*", 3.0)
    await llm.begin("listLoaded")
    await llm.settle()
    assert llm.early == []
    sim.clock.advance(3.0)
    assert (await llm.receive())["type"] == "rpcResult"


async def test_call_can_be_answered_by_a_warning_or_an_error(sim: Simulator, llm: Client) -> None:
    sim.faults.warn("llm.listLoaded", times=1)
    sim.faults.fail("llm.listLoaded", error=DaemonError("Broken"), times=1)
    await llm.begin("listLoaded")
    assert (await llm.receive())["type"] == "communicationWarning"
    assert (await llm.call("listLoaded"))["error"]["title"] == "Broken"


async def test_answer_can_be_half_a_frame(sim: Simulator, llm: Client) -> None:
    sim.faults.malformed_json("llm.listLoaded")
    call_id = await llm.begin("listLoaded")
    text = await llm.receive_text()
    assert f'"callId":{call_id}' in text
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(text)


async def test_answer_can_hold_an_unknown_enum_value(sim: Simulator, llm: Client) -> None:
    sim.faults.unknown_enum("llm.listLoaded", key="format", value="gguf2")
    assert {model["format"] for model in (await llm.call("listLoaded"))["result"]} == {"gguf2"}


async def test_answer_can_have_wrong_types(sim: Simulator, llm: Client) -> None:
    sim.faults.wrong_types("llm.listLoaded")
    model = (await llm.call("listLoaded"))["result"][0]
    assert isinstance(model["sizeBytes"], str)
    assert isinstance(model["modelKey"], int)


async def test_answer_can_be_larger_than_any_default_limit(sim: Simulator, llm: Client) -> None:
    sim.faults.big_frame("llm.listLoaded", times=1)
    await llm.begin("listLoaded")
    assert len(await llm.receive_text()) > BIG_FRAME_BYTES


async def test_socket_can_be_cut_in_the_middle_of_a_call(sim: Simulator, llm: Client) -> None:
    sim.faults.close_mid_call("llm.listLoaded")
    await llm.begin("listLoaded")
    assert await llm.close_code() == 1006


async def test_all_sockets_can_be_dropped_at_once(sim: Simulator, connect: Connect, llm: Client) -> None:
    other = connect("/system")
    await other.open()
    assert sim.faults.drop_connections() == 2
    assert [await llm.close_code(), await other.close_code()] == [1006, 1006]


async def test_frozen_daemon_accepts_and_says_nothing_until_it_thaws(
    sim: Simulator, connect: Connect, llm: Client
) -> None:
    sim.faults.freeze()
    other = connect("/system")
    await other.open(auth=None)
    await llm.send({"type": "keepAlive"})
    async with httpx.AsyncClient(base_url=sim.url) as http:
        greeting = asyncio.create_task(http.get("/lmstudio-greeting"))
        waiting = asyncio.create_task(llm.receive())
        for _ in range(50):
            await asyncio.sleep(0)
        assert not greeting.done()
        assert not waiting.done()
        sim.faults.thaw()
        assert await waiting == {"type": "keepAliveAck"}
        assert (await greeting).status_code == 200


@pytest.mark.parametrize("status", [200, 500])
async def test_rest_can_answer_with_a_web_page(sim: Simulator, status: int) -> None:
    sim.faults.html("GET /api/*", status=status)
    async with httpx.AsyncClient(base_url=sim.url) as http:
        answer = await http.get("/api/v0/models")
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert (await http.get("/lmstudio-greeting")).json() == {"lmstudio": True}


async def test_rest_can_fail_hang_up_and_answer_nonsense(sim: Simulator) -> None:
    async with httpx.AsyncClient(base_url=sim.url) as http:
        sim.faults.fail("GET /api/v1/models", times=1)
        assert (await http.get("/api/v1/models")).status_code == 500
        sim.faults.raw("GET /api/v1/models", "{", times=1)
        assert (await http.get("/api/v1/models")).text == "{"
        sim.faults.close_mid_call("GET /api/v1/models", times=1)
        with pytest.raises(httpx.TransportError):
            await http.get("/api/v1/models")


async def test_rest_answers_can_be_altered(sim: Simulator) -> None:
    sim.faults.unknown_enum("GET /api/v0/models", key="state", value="surprising")
    async with httpx.AsyncClient(base_url=sim.url) as http:
        models = (await http.get("/api/v0/models")).json()["data"]
    assert {model["state"] for model in models} == {"surprising"}


async def test_odd_frames_reach_every_open_log_stream(sim: Simulator, connect: Connect) -> None:
    client = connect("/diagnostics")
    await client.open()
    channel = await client.channel("streamLogs")
    sim.faults.send_raw('{"type":"channelSend","channelId":{id},"mess')
    sim.faults.send_log({"timestamp": "soon", "data": {"type": "llm.prediction.toolCall"}})
    assert await client.receive_text() == f'{{"type":"channelSend","channelId":{channel},"mess'
    assert (await client.receive())["message"]["log"]["timestamp"] == "soon"


async def test_log_stream_messages_can_be_altered(sim: Simulator, connect: Connect) -> None:
    sim.faults.alter("diagnostics.streamLogs", lambda message: {**message, "extra": True})
    client = connect("/diagnostics")
    await client.open()
    await client.channel("streamLogs")
    sim.daemon.server_line(level="info", text="x")
    assert (await client.receive())["message"]["extra"] is True


async def test_cleared_faults_leave_a_well_behaved_daemon(sim: Simulator, connect: Connect) -> None:
    sim.faults.hang("*")
    sim.faults.refuse_upgrades = True
    sim.faults.freeze()
    sim.faults.clear()
    client = connect("/llm")
    assert await client.open() == {"success": True}
    answer: dict[str, Any] = await client.call("listLoaded")
    assert len(answer["result"]) == 2


async def test_clients_notice_a_socket_that_is_gone(sim: Simulator, llm: Client) -> None:
    sim.faults.drop_connections()
    with pytest.raises(ConnectionClosed):
        await llm.receive()
