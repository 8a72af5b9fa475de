"""A protocol client of the tests' own: raw frames over a WebSocket, no help and no recovery."""

import asyncio
import itertools
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from llmster_sim.engine.daemon import Daemon
from llmster_sim.engine.log_events import Event

AUTH = {"authVersion": 1, "clientIdentifier": "guest:test", "clientPasskey": "test-passkey"}
# Only a guard against hanging for ever: nothing here waits for time to pass.
_PATIENCE_S = 10.0


def logged(daemon: Daemon, words: str) -> asyncio.Future[None]:
    """Done as soon as the daemon logs a line with these words."""
    seen: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def look(event: Event) -> None:
        text = event["data"].get("content") or event["data"].get("message") or ""
        if words in text and not seen.done():
            seen.set_result(None)

    daemon.watch(look)
    return seen


class Client:
    """One socket on one namespace."""

    def __init__(self, *, url: str, path: str) -> None:
        self.socket: ClientConnection | None = None
        self._url = url.replace("http://", "ws://") + path
        self._ids = itertools.count(1)

    async def open(self, auth: dict[str, Any] | None = AUTH) -> Any:
        """Connect; with `auth` also send it and return the answer."""
        self.socket = await connect(self._url, compression=None, max_size=None, ping_interval=None)
        if auth is None:
            return None
        await self.send(auth)
        return await self.receive()

    async def send(self, frame: Any) -> None:
        assert self.socket is not None
        await self.socket.send(frame if isinstance(frame, str) else json.dumps(frame))

    async def receive(self) -> Any:
        """The next frame, parsed."""
        return json.loads(await self.receive_text())

    async def receive_text(self) -> str:
        assert self.socket is not None
        text = await asyncio.wait_for(self.socket.recv(), _PATIENCE_S)
        assert isinstance(text, str)
        return text

    async def call(self, endpoint: str, **parameter: Any) -> Any:
        """Call and wait for the answer to this call; other frames are dropped."""
        call_id = await self.begin(endpoint, **parameter)
        while True:
            frame = await self.receive()
            if frame.get("callId") == call_id:
                return frame

    async def begin(self, endpoint: str, **parameter: Any) -> int:
        """Send a call without waiting; without arguments there is no `parameter` key."""
        call_id = next(self._ids)
        frame: dict[str, Any] = {"type": "rpcCall", "endpoint": endpoint, "callId": call_id}
        if parameter:
            frame["parameter"] = parameter
        await self.send(frame)
        return call_id

    async def channel(self, endpoint: str, **parameter: Any) -> int:
        """Open a channel."""
        channel_id = next(self._ids)
        frame: dict[str, Any] = {"type": "channelCreate", "endpoint": endpoint, "channelId": channel_id}
        if parameter:
            frame["creationParameter"] = parameter
        await self.send(frame)
        await self.settle()
        return channel_id

    async def settle(self) -> None:
        """Wait until the daemon has handled everything sent so far."""
        await self.send({"type": "keepAlive"})
        frame = await self.receive()
        self.early: list[Any] = []
        while frame != {"type": "keepAliveAck"}:
            self.early.append(frame)
            frame = await self.receive()

    async def messages(self, channel_id: int) -> list[Any]:
        """Everything a channel says until it ends; the last item is the closing frame."""
        said = [f for f in self.early if f.get("channelId") == channel_id]
        while not said or said[-1]["type"] not in {"channelClose", "channelError"}:
            frame = await self.receive()
            if frame.get("channelId") == channel_id:
                said.append(frame)
        return [frame.get("message", frame) for frame in said]

    async def close_code(self) -> int | None:
        """Wait for the daemon to end the socket; 1005 stands for a close frame without a code."""
        assert self.socket is not None
        try:
            while True:
                await asyncio.wait_for(self.socket.recv(), _PATIENCE_S)
        except ConnectionClosed:
            return self.socket.close_code

    async def close(self) -> None:
        if self.socket is not None:
            await self.socket.close()
