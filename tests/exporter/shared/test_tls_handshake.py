"""Connections that never finish their TLS handshake, or never end: counted, and with a deadline. Real sockets."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trustme

from exporter.shared import http_timeouts, tls_handshake
from tests.exporter.shared.running import running
from tests.exporter.shared.test_http_timeouts import connected

GOOD = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""How a ClientHello begins."""
MOST = 8


async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    """Answer with the scheme; /held never answers."""
    if scope["path"] == "/held":
        await asyncio.Event().wait()
    body = f"{scope['scheme']} {scope['client'][0]}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch, authority: trustme.CA) -> AsyncIterator[int]:
    monkeypatch.setattr(http_timeouts, "MAX_CONNECTIONS", MOST)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with running(app, tls) as port:
        yield port


@contextlib.asynccontextmanager
async def peer(
    port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@pytest.fixture
def client(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def asked(port: int, client: ssl.SSLContext, request: bytes = GOOD) -> bytes:
    async with asyncio.timeout(20), peer(port, client) as (reader, writer):
        writer.write(request)
        return await reader.read()


async def until_gone(port: int) -> None:
    async with asyncio.timeout(20):
        while await connected(port) > 1:  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("start", [b"", HELLO, HELLO + b"\0" * 300], ids=["silent", "begun", "half"])
async def test_a_handshake_that_is_not_finished_has_a_deadline(
    port: int, monkeypatch: pytest.MonkeyPatch, client: ssl.SSLContext, start: bytes
) -> None:
    monkeypatch.setattr(tls_handshake, "HANDSHAKE_S", 0.2)
    async with peer(port) as (reader, writer):
        writer.write(start)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                await reader.read()
    await until_gone(port)
    assert (await asked(port, client)).endswith(b"https 127.0.0.1")


@pytest.mark.parametrize("start", [b"", HELLO], ids=["silent", "begun"])
async def test_handshakes_that_are_waited_for_give_way_to_one_that_is_made(
    port: int, client: ssl.SSLContext, start: bytes
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3 * MOST):
            _, writer = await stack.enter_async_context(peer(port))
            writer.write(start)
            assert (await asked(port, client)).endswith(b"https 127.0.0.1")
        async with asyncio.timeout(20):
            while await connected(port) > MOST + 1:  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.02)


async def test_requests_that_are_worked_on_do_not_give_way_to_handshakes(
    port: int, client: ssl.SSLContext
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(peer(port, client)) for _ in range(MOST)]
        for _, writer in held:
            writer.write(GOOD.replace(b"GET / ", b"GET /held "))
        async with asyncio.timeout(20):
            while not await _is_turned_away(port, client):  # noqa: ASYNC110 - it has to read the eight first
                await asyncio.sleep(0.02)
        assert not any(reader.at_eof() for reader, _ in held)


async def _is_turned_away(port: int, client: ssl.SSLContext) -> bool:
    try:
        await asked(port, client)
    except OSError:
        return True
    return False


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1000, b"\x16\x03\x01\xff\xff" + b"x" * 70_000]
)
async def test_what_is_no_handshake_ends_at_once_and_harms_nothing(
    port: int, client: ssl.SSLContext, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(20), peer(port) as (reader, writer):
        writer.write(sent)
        with contextlib.suppress(ConnectionError):
            await reader.read()
    assert (await asked(port, client)).startswith(b"HTTP/1.1 200")
    assert caplog.text == ""


async def test_a_request_in_the_same_packet_as_the_end_of_the_handshake_is_served(
    port: int, client: ssl.SSLContext
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    async with asyncio.timeout(20), peer(port) as (reader, writer):

        async def until_done(step: Callable[[], Any], *, sends: bool = True) -> Any:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    if sends:
                        writer.write(outgoing.read())
                    incoming.write(await reader.read(65536))

        await until_done(tls.do_handshake)
        tls.write(GOOD)
        writer.write(outgoing.read())
        assert (await until_done(lambda: tls.read(4096))).startswith(b"HTTP/1.1 200")


async def test_a_peer_that_never_ends_its_side_gives_way_and_is_cut_off(
    port: int, monkeypatch: pytest.MonkeyPatch, client: ssl.SSLContext
) -> None:
    """Over TLS an end is answered by an end; asyncio waits 30 s for it."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3 * MOST):
            _, writer = await stack.enter_async_context(peer(port, client))
            writer.write(GOOD)
            transport: Any = writer.transport
            transport.pause_reading()
            assert (await asked(port, client)).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(http_timeouts, "READ_S", 0.2)
        _, writer = await stack.enter_async_context(peer(port, client))
        writer.write(GOOD)
        transport = writer.transport
        transport.pause_reading()
        async with asyncio.timeout(20):
            while await connected(port) > MOST:  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.02)
