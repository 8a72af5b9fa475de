"""A daemon that dies closes all its sockets at once: what it had said before is read to its end."""

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection

from exporter.llmster.errors import ConnectionLost
from exporter.llmster.wire.channel import Channel
from tests.exporter.llmster.connecting import kept, make
from tests.exporter.llmster.scripted import running, tell

MESSAGES = 3000
"""More than a channel holds for its reader and the socket's own buffer together."""


async def hear(channel: Channel, heard: list[int]) -> None:
    """Read a channel no faster than its socket."""
    async for message in channel:
        heard.append(int(bytes(message)))
        await asyncio.sleep(0)


async def test_the_log_of_a_daemon_that_dies_is_read_to_its_end_whichever_socket_ends_first() -> None:
    async def say_all_and_die(socket: ServerConnection, frame: dict[str, object]) -> bool:
        if frame["type"] != "channelCreate":
            return False
        for number in range(MESSAGES):
            await tell(socket, type="channelSend", channelId=frame["channelId"], message=number)
        daemon.open_sockets["system"].transport.abort()
        socket.transport.close()
        return True

    async with running() as daemon, kept(make(daemon.http_url, close_s=30)) as client:
        daemon.on_frame = say_all_and_die
        heard: list[int] = []
        async with client.log_channel() as channel:
            with pytest.raises(ConnectionLost):
                await hear(channel, heard)

    assert heard == list(range(MESSAGES))
