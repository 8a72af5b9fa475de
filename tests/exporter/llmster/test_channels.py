"""Channels of one socket: in order, never mixed, no message lost, and a slow reader is waited for."""

import asyncio
import dataclasses
import json
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection

from exporter.llmster.errors import (
    CallFailed,
    ConnectionLost,
)
from exporter.llmster.wire import channel as channel_module
from exporter.llmster.wire.channel import Channel
from exporter.llmster.wire.messages import ABSENT
from tests.exporter.llmster.connecting import until
from tests.exporter.llmster.scripted import PATIENT, Daemon, connected, running, tell
from tests.recorded import frames


async def taken(channel: Channel, count: int) -> list[Any]:
    """Return the next messages of a channel."""
    received: list[Any] = []
    async for message in channel:
        received.append(json.loads(bytes(message)))
        if len(received) == count:
            break
    return received


async def test_the_recorded_log_stream_arrives_in_order_and_ends_when_it_is_closed() -> None:
    recorded = [frame.json for frame in frames("10") if (frame.dir, frame.op) == ("s2c", "text")]
    sends = [body for body in recorded if body.get("type") == "channelSend"]

    async def stream(socket: ServerConnection, frame: Any) -> bool:
        if frame["type"] == "channelCreate":
            for body in sends:
                await tell(socket, **body | {"channelId": frame["channelId"]})
        if frame["type"] == "channelSend" and frame["message"] == {"type": "stop"}:
            await tell(socket, type="channelClose", channelId=frame["channelId"])
        return True

    async with running(Daemon(on_frame=stream)) as daemon, connected(daemon, "diagnostics") as connection:
        channel = await connection.open_channel("streamLogs", ABSENT)
        received = await taken(channel, len(sends))
        channel.send({"type": "stop"})
        await connection.flush()
        received += [message async for message in channel]

    assert received == [body["message"] for body in sends]


async def test_messages_of_two_channels_are_not_mixed() -> None:
    async def stream(socket: ServerConnection, frame: Any) -> bool:
        if frame["channelId"] == 1:
            for number in range(3):
                for channel_id in (1, 0):
                    await tell(socket, type="channelSend", channelId=channel_id, message=[channel_id, number])
        return True

    async with running(Daemon(on_frame=stream)) as daemon, connected(daemon) as connection:
        first = await connection.open_channel("loadModel")
        second = await connection.open_channel("loadModel")

        assert await taken(first, 3) == [[0, 0], [0, 1], [0, 2]]
        assert await taken(second, 3) == [[1, 0], [1, 1], [1, 2]]


async def test_a_channel_error_is_raised_to_its_reader_after_what_came_before() -> None:
    recorded = [frame.json for frame in frames("15") if (frame.dir, frame.op) == ("s2c", "text")]
    told = [body for body in recorded if body.get("channelId") == 0]

    async def refuse(socket: ServerConnection, _: Any) -> bool:
        for body in told:
            await tell(socket, **body)
        return True

    async with running(Daemon(on_frame=refuse)) as daemon, connected(daemon) as connection:
        channel = await connection.open_channel("loadModel")
        assert [message["type"] for message in await taken(channel, 1)] == ["resolved"]
        with pytest.raises(CallFailed, match="insufficient system resources") as caught:
            await taken(channel, 1)

    assert "/opt/daemon" not in str(caught.value)


async def test_a_channel_on_a_dropped_socket_ends_with_connection_lost() -> None:
    async def drop(socket: ServerConnection, frame: Any) -> bool:
        await tell(socket, type="channelSend", channelId=frame["channelId"], message="before")
        socket.transport.abort()
        return True

    async with running(Daemon(on_frame=drop)) as daemon, connected(daemon, "diagnostics") as connection:
        channel = await connection.open_channel("streamLogs")
        received: list[object] = []
        with pytest.raises(ConnectionLost):
            received.extend([message async for message in channel])
        with pytest.raises(ConnectionLost):
            await connection.flush()


async def test_a_message_that_asks_for_it_is_acknowledged() -> None:
    async def send(socket: ServerConnection, frame: Any) -> bool:
        if frame["type"] == "channelCreate":
            await tell(socket, type="channelSend", channelId=frame["channelId"], message=1, ackId=42)
        return True

    async with running(Daemon(on_frame=send)) as daemon, connected(daemon) as connection:
        assert await taken(await connection.open_channel("streamLogs"), 1) == [1]
        await until(lambda: len(daemon.frames) == 2)

    assert daemon.frames[1][1] == {"type": "channelAck", "channelId": 0, "ackId": 42}


async def test_five_megabytes_in_one_frame_are_accepted() -> None:
    output = "x" * 5_000_000

    async def send(socket: ServerConnection, frame: Any) -> bool:
        await tell(socket, type="channelSend", channelId=frame["channelId"], message=output)
        return True

    async with running(Daemon(on_frame=send)) as daemon, connected(daemon) as connection:
        [received] = await taken(await connection.open_channel("streamLogs"), 1)

    assert received == output


async def test_a_slow_reader_holds_up_the_socket_and_is_not_taken_for_a_stalled_daemon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_module, "CHANNEL_BACKLOG", 2)
    sent = 20

    async def flood(socket: ServerConnection, frame: Any) -> bool:
        if frame["type"] == "channelCreate":
            for number in range(sent):
                await tell(socket, type="channelSend", channelId=0, message=number)
        return False

    impatient = dataclasses.replace(PATIENT, keep_alive_every_s=0.01, dead_after_s=0.03)
    async with (
        running(Daemon(on_frame=flood)) as daemon,
        connected(daemon, timeouts=impatient) as connection,
    ):
        channel = await connection.open_channel("streamLogs")
        await until(lambda: connection._held_up)
        await asyncio.sleep(0.1)  # three times what a daemon would be given; nobody reads

        assert connection.unanswered_s == 0
        assert connection.lost is None
        assert await taken(channel, sent) == list(range(sent))


async def test_a_reader_that_is_far_behind_gets_all_that_came_and_then_learns_that_the_socket_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_module, "CHANNEL_BACKLOG", 2)
    channel = Channel(lambda _: None)
    for number in (b"1", b"2"):
        await channel.put(msgspec.Raw(number))

    channel.put_error(ConnectionLost("gone"))

    assert await taken(channel, 2) == [1, 2]
    with pytest.raises(ConnectionLost):
        await taken(channel, 1)


async def test_an_abandoned_channel_never_holds_up_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "CHANNEL_BACKLOG", 2)

    async def flood(socket: ServerConnection, frame: Any) -> bool:
        if frame["type"] == "channelCreate":
            for number in range(20):
                await tell(socket, type="channelSend", channelId=0, message=number)
        return bool(frame["type"] == "channelCreate")

    async with running(Daemon(on_frame=flood)) as daemon, connected(daemon, "system") as connection:
        channel = await connection.open_channel("streamLogs")
        await until(lambda: connection._held_up)
        channel.abandon()

        assert await connection.call("version") is not None
        assert not channel.is_full
