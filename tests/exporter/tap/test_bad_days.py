"""What goes wrong around the tap: the client sees what it would see without it, and nothing grows."""

import asyncio
import contextlib
import gzip
import re
import socket
import ssl
from typing import Any

import httpx
import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from exporter.tap.relay import BUFFER_BYTES
from tests.black_hole import first_address_dead
from tests.exporter.tap.scripted import END, HEAD, Upstream, chunk, event, stream, upstream, whole
from tests.exporter.tap.tapping import LIMIT_S, free_listener, tap_before, until

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


def delta(text: str) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": {"content": text}}]}


async def test_a_daemon_that_is_down_is_a_connection_error_and_counted() -> None:
    with free_listener() as nobody:
        port = nobody.getsockname()[1]
        async with tap_before(port) as tap, httpx.AsyncClient() as client:
            with pytest.raises(httpx.TransportError):
                await client.get(f"{tap.url}/v1/models")
            await tap.settled()
            assert tap.registry.counts["connect_failures"] == 1
            assert tap.relay.is_upstream_reachable is False


async def test_a_first_address_that_answers_nothing_does_not_hide_a_second_that_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with upstream(whole({"ok": True})) as daemon, tap_before(daemon.port) as tap:
        with first_address_dead(daemon.port, monkeypatch) as tap.relay.host:
            async with httpx.AsyncClient() as client:
                assert (await client.get(tap.url, timeout=2)).json() == {"ok": True}


async def test_a_daemon_that_comes_back_is_reached_by_the_next_connection() -> None:
    with free_listener() as nobody:
        port = nobody.getsockname()[1]
        async with tap_before(port) as tap:
            async with httpx.AsyncClient() as client:
                with pytest.raises(httpx.TransportError):
                    await client.get(tap.url)
            nobody.close()
            async with upstream(whole({"ok": True})) as daemon, httpx.AsyncClient() as client:
                tap.relay.port = daemon.port
                assert (await client.get(tap.url)).json() == {"ok": True}
            assert tap.relay.is_upstream_reachable is True


async def test_a_bug_on_the_way_to_the_daemon_does_not_leave_the_client_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python 3.13.0 fails so where another program of the event loop has its tasks begin at once."""

    async def failing(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    loop = asyncio.get_running_loop()
    async with tap_before(1) as tap:
        monkeypatch.setattr(loop, "create_connection", failing)
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", tap.port))
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(loop.sock_recv(client, 1), LIMIT_S)
        assert tap.registry.counts["connect_failures"] == 1


async def test_a_daemon_that_dies_in_mid_stream_breaks_the_stream_and_what_came_is_counted() -> None:
    going = asyncio.Event()
    async with upstream([HEAD, chunk(event(delta("a"))), chunk(event(delta("b"))), going.wait]) as daemon:  # noqa: SIM117
        async with tap_before(daemon.port) as tap, httpx.AsyncClient() as client:
            with pytest.raises(httpx.TransportError):  # noqa: PT012
                async with client.stream("POST", f"{tap.url}/v1/chat/completions", json={}) as answer:
                    async for text in answer.aiter_text():
                        if '"b"' in text:
                            daemon.writers[0].transport.abort()
            going.set()
            await tap.settled()
            (report,) = tap.predictions()
    assert (report.cut, report.cancelled, report.tokens) == (True, False, 2)


async def test_a_frozen_daemon_costs_nothing_and_a_client_that_leaves_it_is_noted() -> None:
    frozen = asyncio.Event()
    async with upstream([frozen.wait]) as daemon, tap_before(daemon.port) as tap:
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(f"{tap.url}/v1/chat/completions", json={"model": "m"}, timeout=0.2)
        frozen.set()
        await tap.settled()
        (report,) = tap.reports()
    assert (report.cancelled, report.status, report.model) == (True, None, "m")


async def test_a_client_that_goes_away_closes_the_daemons_connection() -> None:
    waiting = asyncio.Event()
    async with (
        upstream([HEAD, chunk(event(delta("a"))), waiting.wait]) as daemon,
        tap_before(daemon.port) as tap,
    ):
        _, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        writer.write(CHAT)
        await until(lambda: tap.registry.in_flight)
        writer.transport.abort()
        waiting.set()
        async with asyncio.timeout(LIMIT_S):
            await daemon.closed.wait()
        await tap.settled()
        (report,) = tap.reports()
    assert report.cancelled


async def test_a_slow_reader_stops_the_daemon_and_little_waits_between_the_two() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(HEAD)
        while True:
            writer.write(chunk(b"x" * 65_536))
            await writer.drain()
            sent += 65_536

    listener = free_listener()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    async with await asyncio.start_server(flood, sock=listener) as server:
        async with tap_before(server.sockets[0].getsockname()[1]) as tap:
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, ("127.0.0.1", tap.port))
                await loop.sock_sendall(client, b"GET /v1/models HTTP/1.1\r\n\r\n")
                before = -1
                async with asyncio.timeout(LIMIT_S):
                    while sent != before:  # until backpressure has reached the sender
                        before = sent
                        await asyncio.sleep(0.2)
                (connection,) = tap.relay.connections
                assert connection.client.transport is not None
                held = connection.client.transport.get_write_buffer_size()
                assert 0 < held <= 2 * BUFFER_BYTES
                await loop.sock_recv(client, 1 << 20)
            await tap.settled()
        for task in asyncio.all_tasks():
            if "flood" in repr(task.get_coro()):
                task.cancel()


async def test_a_half_closed_client_still_gets_its_answer() -> None:
    async with upstream(whole({"ok": 1})) as daemon, tap_before(daemon.port) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        writer.write(CHAT)
        writer.write_eof()
        async with asyncio.timeout(LIMIT_S):
            assert (await reader.read()).endswith(b'{"ok": 1}')
        writer.close()
        await tap.settled()
        (report,) = tap.reports()
    assert (report.status, report.cancelled) == (200, False)


async def test_events_that_are_no_json_are_counted_and_the_others_read() -> None:
    pieces = [
        HEAD,
        chunk(b"data: {broken\n\n"),
        chunk(b"data: " + b"[" * 5000 + b"\n\n"),
        chunk(b"data: 7\n\ndata: null\n\ndata: []\n\n"),
        chunk(event({"choices": [{"delta": {"content": ["no", "text"]}}], "usage": {"prompt_tokens": "x"}})),
        chunk(event(delta("good")), b";ext=1"),
        chunk(b"data: [DONE]\n\n"),
        END,
    ]
    async with (
        upstream(pieces) as daemon,
        tap_before(daemon.port) as tap,
        httpx.AsyncClient() as client,
    ):
        answer = await client.post(f"{tap.url}/v1/chat/completions", json={})
        await tap.idle()
        (report,) = tap.predictions()
        assert tap.registry.counts["malformed_events"] == 2
        assert tap.registry.counts["unread_failures"] == 0
    assert answer.content.startswith(b"data: {broken")
    assert report.tokens == 1


async def test_a_compressed_stream_is_read_and_passes_compressed() -> None:
    body = b"".join(event(delta(text)) for text in "abc")
    packed = gzip.compress(body)
    head = HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    async with (
        upstream([head, chunk(packed[:20]), chunk(packed[20:]), END]) as daemon,
        tap_before(daemon.port) as tap,
        httpx.AsyncClient() as client,
    ):
        answer = await client.post(f"{tap.url}/v1/chat/completions", json={})
        await tap.idle()
        (report,) = tap.predictions()
    assert answer.content == body
    assert report.tokens == 3


async def test_a_bomb_of_zeros_is_not_unpacked() -> None:
    packed = gzip.compress(b"0" * (64 << 20))
    head = HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    async with upstream([head, chunk(packed), END]) as daemon, tap_before(daemon.port) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        writer.write(CHAT)
        async with asyncio.timeout(LIMIT_S):
            assert packed in await reader.readuntil(END)
        writer.close()
        await tap.settled()
        assert tap.registry.counts["unread_bodies"] == 1


async def test_a_bomb_of_headers_passes_and_ends_the_reading_only() -> None:
    async with upstream(whole({})) as daemon, tap_before(daemon.port) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        writer.write(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n")
        async with asyncio.timeout(LIMIT_S):
            with contextlib.suppress(ConnectionResetError):  # the upstream refuses as much, and ends unread
                assert await reader.read() == b""
        writer.close()
        await tap.settled()
        assert tap.registry.counts["unread_framing"] == 1


async def test_pipelined_requests_are_answered_and_told_in_order() -> None:
    async with upstream(*(whole({"n": n}) for n in range(3))) as daemon, tap_before(daemon.port) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        writer.write(b"".join(b"GET /v1/%b HTTP/1.1\r\n\r\n" % name for name in (b"models", b"a", b"b")))
        async with asyncio.timeout(LIMIT_S):
            got = await reader.readuntil(b'{"n": 2}')
        writer.close()
        await tap.settled()
    assert re.findall(rb'\{"n": (\d)\}', got) == [b"0", b"1", b"2"]
    assert [report.route for report in tap.reports()] == ["/v1/models", "other", "other"]


async def test_a_frame_of_fifty_megabytes_passes_in_both_directions_and_little_is_kept() -> None:
    async def echo(peer: ServerConnection) -> None:
        async for message in peer:
            await peer.send(message)

    async with serve(echo, "127.0.0.1", 0, max_size=None, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with tap_before(port) as tap:
            async with connect(f"ws://127.0.0.1:{tap.port}/llm", max_size=None, compression=None) as peer:
                big = "x" * (50 << 20)
                await peer.send(big)
                assert await peer.recv() == big
                await peer.send(["frag", "ment", "ed"])
                assert await peer.recv() == "fragmented"
            await tap.settled()
            assert tap.registry.counts["unread_failures"] == 0


async def test_more_connections_than_allowed_are_refused_and_the_others_work() -> None:
    async with upstream(whole({})) as daemon, tap_before(daemon.port, max_connections=1) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        await until(lambda: tap.relay.connections)
        async with asyncio.timeout(LIMIT_S):
            other, other_writer = await asyncio.open_connection("127.0.0.1", tap.port)
            assert await other.read() == b""
            writer.write(CHAT)
            assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200")
        for each in (writer, other_writer):
            each.close()
        await tap.settled()
        assert tap.registry.counts["rejected_connections"] == 1


async def test_a_bug_in_reading_costs_the_reading_and_not_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("exporter.tap.formats.read_event", fail)
    async with (
        upstream(stream([delta("a"), delta("b")])) as daemon,
        tap_before(daemon.port) as tap,
        httpx.AsyncClient() as client,
    ):
        answer = await client.post(f"{tap.url}/v1/chat/completions", json={})
        await tap.idle()
        assert tap.registry.counts["unread_failures"] == 1
    assert answer.content == event(delta("a")) + event(delta("b"))


async def test_a_daemon_behind_tls_is_reached_and_read() -> None:
    authority = trustme.CA()
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(trusting)
    scripted = Upstream([stream([delta("a"), delta("b")])])
    async with await asyncio.start_server(scripted.take, "127.0.0.1", 0, ssl=serving) as server:
        port = server.sockets[0].getsockname()[1]
        async with tap_before(port, tls=trusting) as tap, httpx.AsyncClient() as client:
            answer = await client.post(f"{tap.url}/v1/chat/completions", json={})
            await tap.idle()
            (report,) = tap.predictions()
    assert answer.content == event(delta("a")) + event(delta("b"))
    assert report.tokens == 2
