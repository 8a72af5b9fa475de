"""The log channel of a client: stopped by its reader, ended by its socket, opened again."""

from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from exporter.llmster.errors import (
    ConnectionLost,
)
from exporter.llmster.wire import channel as channel_module
from tests.exporter.llmster.connecting import kept, make, until
from tests.exporter.llmster.scripted import Daemon, running, tell


async def test_a_log_channel_is_stopped_when_its_reader_leaves() -> None:
    async def stream(socket: ServerConnection, frame: Any) -> bool:
        if frame["type"] == "channelCreate":
            await tell(socket, type="channelSend", channelId=frame["channelId"], message="line")
        return bool(frame["type"].startswith("channel"))

    async with running(Daemon(on_frame=stream)) as daemon, kept(make(daemon.http_url)) as client:
        async with client.log_channel() as channel:
            async for message in channel:
                assert bytes(message) == b'"line"'
                break
        await until(lambda: daemon.frames[-1][1]["type"] == "channelSend")

    assert daemon.frames[-1] == (
        "diagnostics",
        {"type": "channelSend", "channelId": 0, "message": {"type": "stop"}},
    )
    assert [frame for _, frame in daemon.frames if frame["type"] == "channelCreate"] == [
        {"type": "channelCreate", "endpoint": "streamLogs", "channelId": 0}
    ]


async def test_a_log_stream_can_be_opened_again_after_a_reader_left_it_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_module, "CHANNEL_BACKLOG", 2)

    async def flood(socket: ServerConnection, frame: Any) -> bool:
        if frame["type"] == "channelCreate":
            for number in range(20):
                await tell(socket, type="channelSend", channelId=frame["channelId"], message=number)
        return bool(frame["type"].startswith("channel"))

    async with running(Daemon(on_frame=flood)) as daemon, kept(make(daemon.http_url)) as client:
        for _ in range(2):
            async with client.log_channel() as channel:
                async for message in channel:
                    assert bytes(message) == b"0"
                    break


async def test_a_log_channel_ends_with_its_socket_and_can_be_opened_again() -> None:
    async with running() as daemon, kept(make(daemon.http_url)) as client:
        daemon.on_frame = _quietly_open
        async with client.log_channel() as channel:
            daemon.open_sockets["diagnostics"].transport.abort()
            with pytest.raises(ConnectionLost):
                await anext(aiter(channel))
        assert client.sessions == 1
        async with client.log_channel():
            pass


async def _quietly_open(_: ServerConnection, frame: Any) -> bool:
    return bool(frame["type"].startswith("channel"))
