"""A daemon that answers what a test tells it to, over real sockets; by default what the recordings answer.

Knows the wire only as JSON, so that it cannot be wrong together with the code under test.
"""

import asyncio
import contextlib
import http
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from exporter.llmster.wire.connection import Connection, Timeouts, WireCounts
from exporter.llmster.wire.messages import Identity
from tests.recorded import frames

WELCOME: Final = '{"success":true}'

PATIENT: Final = Timeouts(connect_s=10, handshake_s=10, call_s=10, keep_alive_every_s=60, dead_after_s=60)
"""Nothing here ever runs out in a test that works."""

NAMESPACES: Final = frozenset(
    {"system", "llm", "embedding", "repository", "runtime", "diagnostics", "files", "plugins"}
)

Answer = Callable[[Any], Any]
"""Takes the frame of a call, returns the result; or raises Failing."""


class Failing(Exception):
    """Answered as an rpcError with this error object."""


class Silence(Exception):
    """Not answered at all."""


def recorded_results() -> dict[tuple[str, str], Any]:
    """Return the first recorded result of every endpoint that the official clients called."""
    found: dict[tuple[str, str], Any] = {}
    for name in ("06", "07", "08", "09", "14"):
        asked: dict[tuple[int, int], tuple[str, str]] = {}
        for frame in frames(name):
            if frame.op != "text":
                continue
            body = frame.json
            if body.get("type") == "rpcCall":
                asked[frame.conn, body["callId"]] = (frame.ns, body["endpoint"])
            if body.get("type") == "rpcResult":
                found.setdefault(asked[frame.conn, body["callId"]], body.get("result"))
    return found


@dataclass
class Daemon:
    """What the scripted daemon answers, and what it was sent."""

    port: int = 0
    handshake: str | None = WELCOME
    """The answer to the first frame; None leaves it unanswered, "" closes the socket."""
    results: dict[tuple[str, str], Any] = field(default_factory=recorded_results)
    """Results, or Answers, by namespace and endpoint."""
    on_frame: Callable[[ServerConnection, Any], Awaitable[bool]] | None = None
    """Sees every frame after the handshake first; True when it dealt with it."""
    namespaces: frozenset[str] = NAMESPACES
    handshakes: list[tuple[str, Any]] = field(default_factory=list)
    frames: list[tuple[str, Any]] = field(default_factory=list)
    open_sockets: dict[str, ServerConnection] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def calls(self) -> Counter[str]:
        """Count the calls so far, as `namespace.endpoint`."""
        return Counter(
            f"{namespace}.{frame['endpoint']}"
            for namespace, frame in self.frames
            if frame["type"] == "rpcCall"
        )

    def admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """Reject the upgrade of a namespace it does not have, as the official wire framework does."""
        if request.path.removeprefix("/") in self.namespaces:
            return None
        return socket.respond(http.HTTPStatus.FORBIDDEN, "")

    async def serve_socket(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        namespace = socket.request.path.removeprefix("/")
        self.handshakes.append((namespace, json.loads(await socket.recv())))
        if self.handshake is None:
            await socket.wait_closed()
            return
        if self.handshake == "":
            return
        await socket.send(self.handshake)
        if self.handshake != WELCOME:
            return
        self.open_sockets[namespace] = socket
        async for text in socket:
            frame = json.loads(text)
            self.frames.append((namespace, frame))
            if self.on_frame is not None and await self.on_frame(socket, frame):
                continue
            await self._answer(socket, namespace, frame)

    async def _answer(self, socket: ServerConnection, namespace: str, frame: Any) -> None:
        if frame["type"] == "keepAlive":
            await tell(socket, type="keepAliveAck")
        elif frame["type"] == "rpcCall":
            result = self.results[namespace, frame["endpoint"]]
            try:
                result = result(frame) if callable(result) else result
            except Silence:
                return
            except Failing as error:
                await tell(socket, type="rpcError", callId=frame["callId"], error=error.args[0])
                return
            await tell(socket, type="rpcResult", callId=frame["callId"], result=result)


async def tell(socket: ServerConnection, **frame: Any) -> None:
    """Send one frame to a client."""
    await socket.send(json.dumps(frame))


@contextlib.asynccontextmanager
async def running(daemon: Daemon | None = None, *, port: int = 0) -> AsyncIterator[Daemon]:
    """Serve a scripted daemon on a free port, or on the port that a former one had."""
    daemon = daemon or Daemon()
    async with serve(
        daemon.serve_socket,
        "127.0.0.1",
        port,
        compression=None,
        max_size=None,
        process_request=daemon.admit,
    ) as server:
        daemon.port = server.sockets[0].getsockname()[1]
        yield daemon


@contextlib.asynccontextmanager
async def connected(
    daemon: Daemon, namespace: str = "llm", *, timeouts: Timeouts = PATIENT, counts: WireCounts | None = None
) -> AsyncIterator[Connection]:
    """Open a connection to a scripted daemon and keep it running."""
    connection = await Connection.open(
        daemon.url, namespace, Identity.guest(), timeouts=timeouts, counts=counts or WireCounts()
    )
    run = asyncio.create_task(connection.run())
    try:
        yield connection
    finally:
        await connection.close()
        await run


Respond = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def tcp_server(respond: Respond) -> AsyncIterator[int]:
    """Serve TCP with a function per connection, and leave none of them behind. Yields the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await respond(reader, writer)
        writer.close()

    async with await asyncio.start_server(run, "127.0.0.1", 0) as server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def raw_server(reply: bytes | None) -> AsyncIterator[int]:
    """Serve TCP: answer whatever comes with `reply` and close; None never answers. Yields the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reply is None:
            await asyncio.Event().wait()
        elif reply:
            await reader.read(65536)
            writer.write(reply)
            await writer.drain()

    async with tcp_server(answer) as port:
        yield port
