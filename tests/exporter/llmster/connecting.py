"""Keeps clients connected to scripted daemons, and waits for what they do.

Knows no expectation: what must come out is said by the tests.
"""

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Callable

from websockets.asyncio.server import ServerConnection, serve

from exporter.llmster.client import DaemonClient
from tests.exporter.llmster.scripted import PATIENT, Daemon

TOKEN = "sk-lm-Ab3dE6gH:0123456789abcdefghij"


def make(url: str, *, token: str | None = None, **limits: float) -> DaemonClient:
    return DaemonClient(name="d", url=url, token=token, timeouts=dataclasses.replace(PATIENT, **limits))


@contextlib.asynccontextmanager
async def kept(client: DaemonClient) -> AsyncIterator[DaemonClient]:
    """Keep a client connected, from after its first attempt."""
    run = asyncio.create_task(client.run())
    try:
        await client.settled(within_s=10)
        yield client
    finally:
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run


def calls_of(daemon: Daemon, client: DaemonClient) -> Counter[str]:
    assert client.failures == {}
    return daemon.calls()


@contextlib.asynccontextmanager
async def hesitant(path: str) -> AsyncIterator[tuple[Daemon, asyncio.Event]]:
    """Serve a daemon that answers the handshake of one namespace only after the event is set."""
    daemon, go_on = Daemon(), asyncio.Event()

    async def serve_socket(socket: ServerConnection) -> None:
        assert socket.request is not None
        if socket.request.path == path:
            daemon.handshakes.append((path, await socket.recv()))
            await go_on.wait()
            await socket.send('{"success":true}')
            await socket.wait_closed()
        else:
            await daemon.serve_socket(socket)

    async with serve(serve_socket, "127.0.0.1", 0, compression=None, process_request=daemon.admit) as server:
        daemon.port = server.sockets[0].getsockname()[1]
        try:
            yield daemon, go_on
        finally:
            go_on.set()


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else run until something is so; the test's time limit is the only other way out."""
    while not condition():  # noqa: ASYNC110 - there is no event for what a counter reaches
        await asyncio.sleep(0.001)
