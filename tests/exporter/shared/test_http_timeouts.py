"""Slow, silent, huge and many: what a socket may do to the HTTP side, with real sockets."""

import asyncio
import contextlib
import inspect
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from exporter.shared import http_timeouts
from exporter.shared.http_timeouts import PatientProtocol
from tests.exporter.shared.running import running

BIG = b"x" * 64 * 1024 * 1024
"""More than the buffers of a socket and of ours hold."""
HELD = asyncio.Event()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the body and answer with its length; /early answers without reading, /big with a lot, /held when HELD."""
    size = 0
    if scope["path"] != "/early":
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message["body"])
            more = message["more_body"]
    if scope["path"] == "/held":
        await HELD.wait()
    body = BIG if scope["path"] == "/big" else str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A server whose patience is short."""
    for name in ("HEAD_S", "BODY_S", "READ_S"):
        monkeypatch.setattr(http_timeouts, name, 0.2)
    monkeypatch.setattr(http_timeouts, "MAX_CONNECTIONS", 8)
    async with running(app) as port:
        yield port


class Peer:
    """A connection of somebody who means no good."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def dribble(self, start: bytes, byte: bytes) -> None:
        """Send a byte now and then until the other side has had enough."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(start)
            while not self.reader.at_eof():
                await self.writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await self.reader.read(100_000)
                self.writer.write(byte)

    async def ask(self, request: bytes) -> bytes:
        """Send a request that wants the connection closed, and read all of its answer."""
        self.writer.write(request)
        return await self.reader.read()


@contextlib.asynccontextmanager
async def peer(port: int) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


GOOD = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def still_serves(port: int) -> bool:
    async with peer(port) as one:
        return (await one.ask(GOOD)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("start", "byte"),
    [
        (b"", b"G"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (GOOD.replace(b"close", b"keep-alive"), b"\r\n"),
    ],
    ids=["request line", "headers", "body", "chunked body", "body after the answer", "after an answer"],
)
async def test_whoever_dribbles_is_cut_off(port: int, start: bytes, byte: bytes) -> None:
    async with asyncio.timeout(20), peer(port) as slow:
        await slow.dribble(start, byte)
    assert await still_serves(port)


async def test_whoever_says_nothing_is_cut_off(port: int) -> None:
    async with asyncio.timeout(20), peer(port) as silent:
        with contextlib.suppress(ConnectionError):
            assert await silent.reader.read() == b""


async def test_whoever_does_not_read_is_cut_off(port: int) -> None:
    async with asyncio.timeout(20), peer(port) as deaf:
        deaf.writer.write(GOOD.replace(b"GET / ", b"GET /big "))
        transport: Any = deaf.writer.transport
        transport.pause_reading()
        await asyncio.sleep(0)
        while await connected(port) > 1:  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.02)  # what is awaited happens in the server's timers


async def connected(port: int) -> int:
    """Count the connections that the server holds, this one included; read from the kernel's table."""
    local = f"0100007F:{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: ASYNC230, PTH123 - a file in memory
        rows = [line.split() for line in table.readlines()[1:]]
    return 1 + sum(1 for row in rows if row[1] == local and row[3] == "01")


async def test_a_slow_but_steady_upload_within_its_time_is_served(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_timeouts, "BODY_S", 20)
    async with peer(port) as patient:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"
        patient.writer.write(head)
        for _ in range(10):
            patient.writer.write(b"x")
            await patient.writer.drain()
        answer = await patient.reader.read()
    assert answer.endswith(b"\r\n\r\n10")


LATE_BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
UNREAD = GOOD.replace(b"GET / ", b"GET /big ")


@pytest.mark.parametrize(
    "start", [b"", b"GET / HT", GOOD.replace(b"close", b"keep-alive"), LATE_BODY, UNREAD],
    ids=["silent", "half a head", "idle", "half a body", "unread"],
)  # fmt: skip
async def test_connections_that_are_waited_for_give_way_to_one_that_asks(
    port: int, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    for name in ("HEAD_S", "BODY_S", "READ_S"):
        monkeypatch.setattr(http_timeouts, name, 60)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            held = await stack.enter_async_context(peer(port))
            transport: Any = held.writer.transport
            transport.pause_reading()
            held.writer.write(start)
            async with asyncio.timeout(20):
                assert await still_serves(port)
        async with asyncio.timeout(20):
            while await connected(port) > 9:  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.02)


async def test_requests_that_are_worked_on_do_not_give_way(port: int) -> None:
    """Beyond the limit of those, new connections are turned away, and served later."""
    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(peer(port)) for _ in range(8)]
        for one in held:
            one.writer.write(GOOD.replace(b"GET / ", b"GET /held "))
        async with asyncio.timeout(20):
            while await served(port):  # noqa: ASYNC110 - the server has to read the eight first
                await asyncio.sleep(0.02)
        HELD.set()
        for one in held:
            assert (await one.reader.read()).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(20):
        while not await served(port):  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.02)  # the server has to notice first that the others left


async def served(port: int) -> bool:
    try:
        return await still_serves(port)
    except ConnectionError:
        return False


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    ],
    ids=[
        "one huge header",
        "huge path",
        "many headers",
        "two hosts",
        "two lengths",
        "negative length",
        "unknown coding",
        "NUL",
        "TLS",
    ],
)
async def test_what_is_no_proper_request_is_refused(port: int, request_: bytes) -> None:
    async with asyncio.timeout(20), peer(port) as rude:
        try:
            answer = await rude.ask(request_)
        except ConnectionError:
            answer = b""
    assert answer[9:12] in {b"", b"400", b"431", b"501"}
    assert await still_serves(port)


async def test_a_request_to_upgrade_is_answered_as_a_plain_one_and_not_worth_a_line(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with peer(port) as hopeful:
        answer = await hopeful.ask(GOOD.replace(b"close", b"Upgrade, close\r\nUpgrade: websocket"))
    assert answer.startswith(b"HTTP/1.1 200")
    assert caplog.text == ""


def test_uvicorn_still_has_what_the_timeouts_are_built_on() -> None:
    """H11Protocol is not public: a release that renames one of these must be noticed here, not in production."""
    own = {name for name in vars(PatientProtocol) if callable(vars(PatientProtocol)[name])}
    replaced = own & {
        "connection_made",
        "connection_lost",
        "data_received",
        "on_response_complete",
        "pause_writing",
        "resume_writing",
        "timeout_keep_alive_handler",
        "_should_upgrade",
    }
    assert {name for name in replaced if not callable(getattr(H11Protocol, name, None))} == set()
    assert len(replaced) >= 7
    assert {"conn", "connections", "transport", "loop", "client"} <= set(
        re.findall(r"self\.(\w+)", inspect.getsource(H11Protocol))
    )
