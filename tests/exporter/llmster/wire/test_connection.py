"""One socket against a scripted daemon: every wait ends, every answer finds its call, no secret is told."""

import asyncio
import dataclasses
import json
import logging
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from exporter.llmster.errors import (
    AuthenticationRefused,
    CallFailed,
    ConnectionLost,
    DaemonStalled,
    LlmsterError,
    NotLlmster,
)
from exporter.llmster.wire.connection import MAX_KINDS, Connection, WireCounts, _closing_words
from exporter.llmster.wire.messages import Identity
from tests.exporter.llmster.connecting import TOKEN, until
from tests.exporter.llmster.scripted import PATIENT, Daemon, connected, running, tell
from tests.recorded import frames


async def open_to(daemon: Daemon, **limits: float) -> Connection:
    return await Connection.open(
        daemon.url,
        "llm",
        Identity.from_token(TOKEN),
        timeouts=dataclasses.replace(PATIENT, **limits),
        counts=WireCounts(),
    )


async def test_an_accepted_handshake_opens_the_connection() -> None:
    async with running() as daemon, connected(daemon, "system") as connection:
        result = await connection.call("version")

        assert json.loads(bytes(result or b"")) == {"version": "0.4.24", "build": 1}
        assert connection.lost is None
        assert [namespace for namespace, _ in daemon.handshakes] == ["system"]


@pytest.mark.parametrize(
    "frame", [frame for frame in frames("03") if frame.op == "text" and "false" in frame.data]
)
async def test_every_recorded_refusal_is_told_in_the_daemons_words(frame: Any) -> None:
    async with running(Daemon(handshake=frame.data)) as daemon:
        with pytest.raises(AuthenticationRefused) as caught:
            await open_to(daemon)

    assert str(caught.value) == frame.json["error"]


async def test_an_unanswered_handshake_is_a_stall() -> None:
    async with running(Daemon(handshake=None)) as daemon:
        with pytest.raises(DaemonStalled, match=r"did not answer the handshake in 0\.05 s"):
            await open_to(daemon, handshake_s=0.05)


async def test_a_socket_closed_instead_of_an_answer_is_not_llmster() -> None:
    async with running(Daemon(handshake="")) as daemon:
        with pytest.raises(NotLlmster, match="without answering the handshake"):
            await open_to(daemon)


@pytest.mark.parametrize(
    "handshake", [None, "", '{"success":false,"error":"Invalid API token."}', "nonsense"]
)
async def test_no_failed_handshake_tells_the_token(
    handshake: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(Daemon(handshake=handshake)) as daemon:
        with pytest.raises(LlmsterError) as caught:
            await open_to(daemon, handshake_s=0.5)

        await until(lambda: bool(daemon.handshakes))
        assert daemon.handshakes[0][1]["clientPasskey"] in TOKEN
    # What the scripted server and the library log at DEBUG is not ours.
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("exporter")]
    for told in (str(caught.value), repr(caught.value), *ours):
        assert "0123456789abcdefghij" not in told


async def test_results_that_come_in_another_order_find_their_calls() -> None:
    waiting: list[Any] = []

    async def answer_backwards(socket: ServerConnection, frame: Any) -> bool:
        waiting.append(frame)
        if len(waiting) == 3:
            for asked in reversed(waiting):
                await tell(socket, type="rpcResult", callId=asked["callId"], result=asked["endpoint"])
        return True

    async with running(Daemon(on_frame=answer_backwards)) as daemon, connected(daemon) as connection:
        results = await asyncio.gather(*(connection.call(endpoint) for endpoint in ("a", "b", "c")))

    assert [json.loads(bytes(result or b"")) for result in results] == ["a", "b", "c"]


async def test_a_void_result_is_none() -> None:
    async def answer(socket: ServerConnection, frame: Any) -> bool:
        await tell(socket, type="rpcResult", callId=frame["callId"])
        return True

    async with running(Daemon(on_frame=answer)) as daemon, connected(daemon) as connection:
        assert await connection.call("unloadModel", {"identifier": "m"}) is None


@pytest.mark.parametrize(
    "frame",
    [frame for frame in frames("12") if frame.op == "text" and '"rpcError"' in frame.data],
    ids=lambda frame: frame.json["error"]["title"],
)
async def test_every_recorded_error_is_raised_without_its_stack(frame: Any) -> None:
    error = frame.json["error"]

    async def answer(socket: ServerConnection, asked: Any) -> bool:
        await tell(socket, type="rpcError", callId=asked["callId"], error=error)
        return True

    async with running(Daemon(on_frame=answer)) as daemon, connected(daemon) as connection:
        with pytest.raises(CallFailed) as caught:
            await connection.call("unloadModel")

    assert caught.value.title == error["title"]
    assert caught.value.code == error.get("displayData", {}).get("code")
    assert "/opt/daemon" not in str(caught.value)
    assert "/opt/daemon" not in repr(vars(caught.value))


async def test_a_call_left_unanswered_is_a_stall_and_costs_no_other_call() -> None:
    async def ignore_one(_: ServerConnection, frame: Any) -> bool:
        return bool(frame.get("endpoint") == "noSuchEndpoint")

    async with (
        running(Daemon(on_frame=ignore_one)) as daemon,
        connected(daemon, "system") as connection,
    ):
        with pytest.raises(DaemonStalled, match=r"system\.noSuchEndpoint did not answer within 0\.02 s"):
            await connection.call("noSuchEndpoint", timeout_s=0.02)

        assert await connection.call("version") is not None


async def test_an_answer_that_comes_too_late_is_counted_and_harmless() -> None:
    counts = WireCounts()

    async def answer_twice(socket: ServerConnection, frame: Any) -> bool:
        for _ in range(2):
            await tell(socket, type="rpcResult", callId=frame["callId"], result=frame["callId"])
        return True

    async with (
        running(Daemon(on_frame=answer_twice)) as daemon,
        connected(daemon, counts=counts) as connection,
    ):
        for expected in range(3):
            assert await connection.call("a") == msgspec.Raw(str(expected).encode())
        await until(lambda: counts.unreadable["unknown_call"] == 3)


async def test_a_socket_lost_in_the_middle_of_a_call_fails_it_and_every_later_one() -> None:
    async def drop(socket: ServerConnection, _: Any) -> bool:
        socket.transport.abort()
        return True

    async with running(Daemon(on_frame=drop)) as daemon, connected(daemon) as connection:
        with pytest.raises(ConnectionLost, match="/llm socket closed"):
            await connection.call("listLoaded")
        with pytest.raises(ConnectionLost):
            await connection.call("listLoaded")
        with pytest.raises(ConnectionLost):
            await connection.open_channel("streamLogs")
        assert isinstance(connection.lost, ConnectionLost)


async def test_a_closed_connection_fails_whoever_still_waits() -> None:
    async def ignore(_: ServerConnection, __: Any) -> bool:
        return True

    async with running(Daemon(on_frame=ignore)) as daemon, connected(daemon) as connection:
        call = asyncio.create_task(connection.call("listLoaded"))
        await until(lambda: len(daemon.frames) == 1)
        await connection.close()

        with pytest.raises(ConnectionLost, match="was closed"):
            await call


async def test_answered_keep_alives_keep_the_connection() -> None:
    often = dataclasses.replace(PATIENT, keep_alive_every_s=0.005, dead_after_s=30)
    async with running() as daemon, connected(daemon, timeouts=often) as connection:
        await until(lambda: len(daemon.frames) >= 3)

        assert {frame["type"] for _, frame in daemon.frames} == {"keepAlive"}
        assert connection.lost is None
        await until(lambda: connection.unanswered_s == 0)


async def test_an_unanswered_keep_alive_ends_the_connection_as_stalled() -> None:
    async def ignore(_: ServerConnection, __: Any) -> bool:
        return True

    impatient = dataclasses.replace(PATIENT, keep_alive_every_s=0.01, dead_after_s=0.03)
    async with (
        running(Daemon(on_frame=ignore)) as daemon,
        connected(daemon, timeouts=impatient) as connection,
    ):
        with pytest.raises(DaemonStalled, match="keepAlive unanswered"):
            await connection.call("listLoaded")

        assert isinstance(connection.lost, DaemonStalled)
        assert connection.unanswered_s == 0  # nobody is left to answer: a lost socket must not look stalled


async def test_a_waiting_keep_alive_shows_how_long_it_waits() -> None:
    async def ignore(_: ServerConnection, __: Any) -> bool:
        return True

    often = dataclasses.replace(PATIENT, keep_alive_every_s=0.005, dead_after_s=30)
    async with running(Daemon(on_frame=ignore)) as daemon, connected(daemon, timeouts=often) as connection:
        assert connection.unanswered_s == 0
        await until(lambda: connection.unanswered_s > 0)
        await until(lambda: len(daemon.frames) >= 2)


async def test_one_answer_settles_only_until_the_next_question() -> None:
    async def answer_first_only(socket: ServerConnection, _: Any) -> bool:
        if len(daemon.frames) == 1:
            await tell(socket, type="keepAliveAck")
        return True

    impatient = dataclasses.replace(PATIENT, keep_alive_every_s=0.01, dead_after_s=0.03)
    async with (
        running(Daemon(on_frame=answer_first_only)) as daemon,
        connected(daemon, timeouts=impatient) as connection,
    ):
        await until(lambda: isinstance(connection.lost, DaemonStalled))
        assert len(daemon.frames) >= 2


async def test_recorded_warnings_are_counted_by_kind_and_never_quoted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warnings = [frame for frame in frames("13") if "communicationWarning" in frame.data]
    counts = WireCounts("box")

    async def warn(socket: ServerConnection, frame: Any) -> bool:
        for warning in warnings:
            await socket.send(warning.data)
        await tell(socket, type="rpcResult", callId=frame["callId"])
        return True

    async with running(Daemon(on_frame=warn)) as daemon, connected(daemon, counts=counts) as connection:
        await connection.call("listLoaded")

    assert counts.warnings == {"rpcParameterTypeError": 2, "rpcEndpointUnknown": 1, "channelUnknown": 1}
    assert counts.unreadable == {}
    assert [record.__dict__["daemon"] for record in caplog.records] == ["box"] * 3  # once for each kind
    assert "Zod" not in caplog.text


async def test_unreadable_frames_are_counted_by_what_is_wrong_with_them() -> None:
    counts = WireCounts()

    async def babble(socket: ServerConnection, frame: Any) -> bool:
        for text in ("{not json", '{"type":"tomorrow"}', '{"type":"rpcResult","callId":99}', "[]"):
            await socket.send(text)
        await socket.send(b"\xff\xfe", text=True)
        await socket.send(b"[" * 50_000)
        await tell(socket, type="rpcResult", callId=frame["callId"])
        return True

    async with running(Daemon(on_frame=babble)) as daemon, connected(daemon, counts=counts) as connection:
        await connection.call("listLoaded")

    assert counts.unreadable == {"malformed": 4, "unknown_type": 1, "unknown_call": 1}


async def test_the_kinds_of_warnings_counted_are_bounded() -> None:
    counts = WireCounts()

    async def warn(socket: ServerConnection, frame: Any) -> bool:
        for number in range(MAX_KINDS + 10):
            await tell(socket, type="communicationWarning", warning="", kind=f"kind {number}")
        await tell(socket, type="communicationWarning", warning="", kind="kind 0")
        await tell(socket, type="rpcResult", callId=frame["callId"])
        return True

    async with running(Daemon(on_frame=warn)) as daemon, connected(daemon, counts=counts) as connection:
        await connection.call("listLoaded")

    assert len(counts.warnings) == MAX_KINDS + 1
    assert counts.warnings["other"] == 10
    assert counts.warnings["kind 0"] == 2


async def test_closing_takes_no_longer_than_allowed_when_the_daemon_does_not_answer_it() -> None:
    async def hang(socket: ServerConnection, _: Any) -> bool:
        socket.transport.pause_reading()
        return True

    async with running(Daemon(on_frame=hang)) as daemon:
        connection = await open_to(daemon, close_s=0.02)
        run = asyncio.create_task(connection.run())
        with pytest.raises(DaemonStalled):
            await connection.call("listLoaded", timeout_s=0.02)
        await connection.close()
        connection.abort()

        assert isinstance(await run, ConnectionLost)
        daemon.open_sockets["llm"].transport.resume_reading()  # lets the scripted server go, too


def test_a_lost_connection_is_named_by_its_code_only() -> None:
    assert _closing_words(ConnectionClosed(None, None)) == "no close frame"
