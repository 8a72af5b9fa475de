"""Both ends see the same bytes and the same end with the tap as without it, over random streams.

As many as DAEMONPULSE_TEST_TAP_STREAMS says, 300 by default.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import random
import socket
import struct
import termios
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.exporter.tap.tapping import LIMIT_S, tap_before

STREAMS = int(os.environ.get("DAEMONPULSE_TEST_TAP_STREAMS", "300"))
AT_ONCE = 20
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Script:
    """What both ends do: the client sends, the server answers when it has all of it, and ends."""

    sent: tuple[bytes, ...]
    answered: tuple[bytes, ...]
    ends_with_reset: bool
    half_closes: bool
    """The client ends its direction before the answer."""


@dataclass
class Seen:
    """What came of it."""

    received: bytes = b""
    client_end: str = ""
    at_server: bytes = b""
    server_end: str = ""


def chunked(rng: random.Random, data: bytes) -> list[bytes]:
    pieces, at = [], 0
    while at < len(data):
        size = rng.randint(1, max(1, len(data) // 3))
        piece = data[at : at + size]
        extension = rng.choice([b"", b"", b";a=b", b' ; q="x;y"'])
        pieces.append(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece))
        at += size
    return [*pieces, b"0\r\n" + rng.choice([b"", b"X-Trailer: 1\r\n"]) + b"\r\n"]


def cut(rng: random.Random, data: bytes) -> tuple[bytes, ...]:
    places = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(0, 6)))
    return tuple(
        data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if start < end
    )


def events(rng: random.Random) -> bytes:
    lines = []
    for _ in range(rng.randint(0, 20)):
        text = "".join(rng.choice('ab"\\é<think>\n') for _ in range(rng.randint(0, 30)))
        lines.append(
            f'data: {{"choices":[{{"delta":{{"content":{json.dumps(text)}}}}}]}}{rng.choice(["", "}", "x"])}\n\n'
        )
    return "".join(lines).encode()


def script(seed: int) -> Script:
    rng = random.Random(seed)
    body = rng.randbytes(rng.choice([0, 1, 100, 5000, 300_000]) if seed % 10 else 2_000_000)
    path = rng.choice(["/v1/chat/completions", "/v1/models", "/api/v1/chat", "/llm", "/%zz"])
    requests = [
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body,
        b"POST %b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" % path.encode()
        + b"".join(chunked(rng, body or b"x")),
        b"GET %b HTTP/1.1\r\n\r\n" % path.encode() * rng.randint(1, 5),
        b"GET /llm HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + rng.randbytes(300),
        b"GET / HTTP/1.1\r\n" + b"X-Bomb: 1\r\n" * 20_000 + b"\r\n",
        rng.randbytes(rng.randint(1, 3000)),
    ]
    stream = events(rng)
    answers = [
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        + b"".join(chunked(rng, stream)),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + stream,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\ncontent-length: 3\r\n\r\nabc" * rng.randint(1, 3),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" + rng.randbytes(3000),
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-type: application/json\r\n\r\n" + body,
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + rng.randbytes(200_000),
        rng.randbytes(rng.randint(1, 3000)),
        b"",
    ]
    return Script(
        cut(rng, rng.choice(requests)),
        cut(rng, rng.choice(answers)),
        ends_with_reset=rng.random() < 0.3,
        half_closes=rng.random() < 0.3,
    )


def unsent(sock: socket.socket) -> bool:
    return any(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))


@dataclass
class Server:
    """Plays the server's part of a script."""

    part: Script
    seen: Seen

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        part, seen = self.part, self.seen
        try:
            seen.at_server = await reader.readexactly(sum(map(len, part.sent)))
            if part.half_closes:
                seen.server_end = "fin" if await reader.read(1) == b"" else "more"
            for piece in part.answered:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if part.ends_with_reset:
                sock = writer.get_extra_info("socket")
                while writer.transport.get_write_buffer_size() or unsent(sock):  # noqa: ASYNC110
                    await asyncio.sleep(
                        0.001
                    )  # a reset takes with it what the peer's kernel does not have yet
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()
        except (OSError, asyncio.IncompleteReadError) as problem:
            seen.server_end = type(problem).__name__
        finally:
            writer.close()


async def play(part: Script, port: int, seen: Seen) -> Seen:
    """Play the client's part."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()
    try:
        for piece in part.sent:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if part.half_closes:
            writer.write_eof()
        while data := await reader.read(1 << 16):
            received += data
        seen.client_end = "fin"
    except ConnectionError as problem:
        received += reader._buffer  # type: ignore[attr-defined]  # what came before the reset
        seen.client_end = type(problem).__name__
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    seen.received = bytes(received)
    return seen


async def compare(seed: int) -> Counter[str]:
    """Play one script with and without the tap; return what the tap counted."""
    part = script(seed)
    bare, tapped = Seen(), Seen()
    async with asyncio.timeout(LIMIT_S * 3):
        async with await asyncio.start_server(Server(part, bare).take, "127.0.0.1", 0) as listening:
            await play(part, listening.sockets[0].getsockname()[1], bare)
        async with (
            await asyncio.start_server(Server(part, tapped).take, "127.0.0.1", 0) as listening,
            tap_before(listening.sockets[0].getsockname()[1]) as tap,
        ):
            await play(part, tap.port, tapped)
            await tap.settled()
            counts = Counter(tap.registry.counts)
    counts["predictions"] = len(tap.predictions())
    assert tapped == bare, seed
    return counts


@pytest.mark.timeout(120 + STREAMS // 5)
async def test_both_ends_see_the_same_bytes_and_the_same_end_with_the_tap_as_without() -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> Counter[str]:
        async with limit:
            return await compare(seed)

    counts = sum(await asyncio.gather(*map(one, range(STREAMS))), Counter())
    assert counts["unread_failures"] == 0
    assert counts["unread_framing"] > STREAMS / 10  # some of it is no HTTP at all
    assert counts["predictions"] > STREAMS / 100  # and some of it was read
