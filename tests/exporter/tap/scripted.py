"""An upstream that answers each request with the next of its scripts, and notes what it was sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def event(value: dict[str, Any], *, named: bool = True) -> bytes:
    name = f"event: {value['type']}\n" if named and "type" in value else ""
    return f"{name}data: {json.dumps(value)}\n\n".encode()


def stream(events: Iterable[dict[str, Any]]) -> list[bytes]:
    return [HEAD, *(chunk(event(value)) for value in events), END]


def whole(value: Any, *, status: str = "200 OK", headers: str = "") -> list[bytes]:
    body = json.dumps(value).encode()
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {len(body)}\r\n\r\n"
    )
    return [head.encode() + body]


@dataclass
class Upstream:
    """`answers` holds the pieces of one answer each; a callable is awaited between pieces."""

    answers: list[Sequence[bytes | Callable[[], Any]]]
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client's connection has ended."""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next(
                    (
                        int(line[15:])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length:")
                    ),
                    0,
                )
                self.requests.append(head + await reader.readexactly(size))
                for piece in self.answers.pop(0):
                    if callable(piece):
                        await piece()
                    else:
                        writer.write(piece)
                        await writer.drain()
            await reader.read()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            self.closed.set()
            writer.close()


@asynccontextmanager
async def upstream(*answers: Sequence[bytes | Callable[[], Any]]) -> AsyncIterator[Upstream]:
    scripted = Upstream(list(answers))
    async with await asyncio.start_server(scripted.take, "127.0.0.1", 0) as server:
        scripted.port = server.sockets[0].getsockname()[1]
        yield scripted
