"""Opening a socket: every way in which it does not work has the error that tells it from the others."""

import asyncio
import socket
import ssl
from typing import Any, NoReturn

import pytest
import trustme
from websockets.asyncio.server import serve

from exporter.llmster.errors import DaemonStalled, DaemonUnreachable, NotLlmster, TlsFailed, UpgradeRefused
from exporter.llmster.wire.transport import open_websocket
from tests.black_hole import black_hole, first_address_dead
from tests.exporter.llmster.scripted import raw_server

HTML = b"<html><title>Welcome to nginx!</title></html>"


def http(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def attempt(port: int, *, scheme: str = "ws", connect_s: float = 10, upgrade_s: float = 10) -> None:
    websocket = await open_websocket(
        f"{scheme}://127.0.0.1:{port}/llm", connect_s=connect_s, upgrade_s=upgrade_s
    )
    await websocket.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_nothing_listening_is_unreachable_and_names_the_place() -> None:
    port = free_port()

    with pytest.raises(
        DaemonUnreachable, match=rf"nothing accepts connections at 127\.0\.0\.1:{port}: Connection refused$"
    ):
        await attempt(port)


async def test_a_connection_that_is_never_made_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def drop(*_: Any, **__: Any) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", drop)

    with pytest.raises(DaemonUnreachable, match=r"no TCP connection to 127\.0\.0\.1:1 within 0\.01 s"):
        await attempt(1, connect_s=0.01)


async def test_a_first_address_that_answers_nothing_does_not_hide_a_second_that_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serve(lambda ws: ws.wait_closed(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with first_address_dead(port, monkeypatch) as host:
            websocket = await open_websocket(f"ws://{host}:{port}/llm", connect_s=10, upgrade_s=10)
            await websocket.close()


async def test_an_address_that_answers_nothing_is_unreachable_and_not_stalled() -> None:
    with black_hole() as (host, port), pytest.raises(DaemonUnreachable, match=r"no TCP connection to"):
        await open_websocket(f"ws://{host}:{port}/llm", connect_s=0.05, upgrade_s=10)


async def test_being_accepted_is_told_before_the_upgrade() -> None:
    told: list[bool] = []
    async with raw_server(None) as port:
        with pytest.raises(DaemonStalled):
            await open_websocket(
                f"ws://127.0.0.1:{port}/llm",
                connect_s=10,
                upgrade_s=0.05,
                accepted=lambda: told.append(True),
            )
    assert told == [True]


async def test_an_unknown_host_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: Any, **__: Any) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)

    with pytest.raises(DaemonUnreachable, match="cannot be resolved: Name or service not known"):
        await attempt(1)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
async def test_a_host_name_that_is_none_is_unreachable(host: str) -> None:
    with pytest.raises(DaemonUnreachable, match="too long"):
        await open_websocket(f"ws://{host}:1234/llm", connect_s=10, upgrade_s=10)


async def test_a_server_that_accepts_and_says_nothing_is_stalled() -> None:
    async with raw_server(None) as port:
        with pytest.raises(DaemonStalled, match="did not answer the upgrade"):
            await attempt(port, upgrade_s=0.05)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (http("200 OK", "Content-Type: text/html", body=HTML), "HTTP 200"),
        (http("403 Forbidden"), "HTTP 403"),
        (http("404 Not Found"), "HTTP 404"),
        (http("502 Bad Gateway", body=HTML), "HTTP 502"),
        (http("301 Moved Permanently", "Location: https://127.0.0.1/llm"), "does not speak WebSocket"),
        (http("302 Found", "Location: /login"), "does not speak WebSocket"),
        (http("307 Temporary Redirect", "Location: wss://127.0.0.1/llm"), "does not speak WebSocket"),
        (http("101 Switching Protocols", "Upgrade: h2c", "Connection: Upgrade"), "does not speak WebSocket"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak WebSocket"),
        (b"\xff\x00\r\n\r\n", "does not speak WebSocket"),
    ],
)
async def test_anything_but_an_upgrade_is_not_llmster(reply: bytes, told: str) -> None:
    async with raw_server(reply) as port:
        with pytest.raises(NotLlmster, match=told) as caught:
            await attempt(port)

    assert isinstance(caught.value, UpgradeRefused) == told.startswith("HTTP")


async def test_a_connection_that_is_closed_without_a_byte_has_nobody_behind_it() -> None:
    async with raw_server(b"") as port:
        with pytest.raises(DaemonUnreachable, match=r"accepted a connection and .* without a byte"):
            await attempt(port)


async def test_tls_to_a_plain_port_fails_and_says_so() -> None:
    async with raw_server(http("400 Bad Request")) as port:
        with pytest.raises(TlsFailed, match="TLS to wss://"):
            await attempt(port, scheme="wss")


async def test_a_certificate_nobody_vouches_for_is_not_trusted() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with serve(lambda ws: ws.wait_closed(), "127.0.0.1", 0, ssl=context) as server:
        with pytest.raises(TlsFailed, match=r"TLS to wss://.* failed"):
            await attempt(server.sockets[0].getsockname()[1], scheme="wss")


async def test_a_certificate_the_host_trusts_lets_us_in(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(ours)
    monkeypatch.setattr(ssl, "create_default_context", lambda: ours)
    async with serve(lambda ws: ws.wait_closed(), "127.0.0.1", 0, ssl=theirs) as server:
        await attempt(server.sockets[0].getsockname()[1], scheme="wss")


async def test_cancelling_an_attempt_leaves_no_socket_behind() -> None:
    async with raw_server(None) as port:
        task = asyncio.create_task(attempt(port))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
