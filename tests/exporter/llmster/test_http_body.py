"""A daemon, or whoever sits at its address, that answers with more than anybody can hold, or sends us elsewhere."""

import asyncio
import base64
import contextlib
import gzip
import hashlib
import zlib
from collections.abc import AsyncIterator

import httpx
import pytest

from exporter.llmster import http_body, rest, rest_commands
from exporter.llmster.errors import LlmsterError, NotLlmster
from exporter.llmster.wire.transport import open_websocket

TOKEN = "sk-lm-Ab3dE6gH:0123456789abcdefghij"
OK = b"HTTP/1.1 200 OK\r\n"


class Liar:
    """Answers every request with the same bytes, again and again if told so, and keeps what it was sent."""

    def __init__(self, head: bytes, chunk: bytes, *, endless: bool) -> None:
        self.head, self.chunk, self.endless = head, chunk, endless
        self.asked: list[bytes] = []
        self.sent = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.head + b"\r\n" + self.chunk)
            await writer.drain()
            while self.endless:
                writer.write(self.chunk)
                self.sent += len(self.chunk)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def liar(head: bytes, chunk: bytes = b"", *, endless: bool = False) -> AsyncIterator[Liar]:
    one = Liar(head, chunk, endless=endless)
    async with await asyncio.start_server(one.serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        one.url = f"http://{host}:{port}"
        yield one


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"GZIP", b"x"])
async def test_a_packed_answer_is_not_unpacked(coding: bytes) -> None:
    body = gzip.compress(b"{}") if coding != b"deflate" else zlib.compress(b"{}")
    head = OK + b"Content-Encoding: " + coding + b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n"
    async with liar(head, body) as daemon:
        with pytest.raises(NotLlmster, match="compressed"):
            await rest.models(daemon.url, token=TOKEN, timeout_s=10)
        with pytest.raises(LlmsterError, match="compressed"):
            await rest_commands.download_status(daemon.url, token=TOKEN, job_id="1")
        assert all(b"accept-encoding: identity" in request.lower() for request in daemon.asked)


async def test_an_answer_without_end_is_given_up() -> None:
    async with liar(OK, b" " * 50_000, endless=True) as daemon:
        with pytest.raises(NotLlmster, match=f"longer than {http_body.MAX_BYTES} bytes"):
            await rest.models(daemon.url, token=None, timeout_s=10)
        with pytest.raises(LlmsterError, match="longer than"):
            await rest_commands.start_download(daemon.url, token=None, model="m")


@pytest.mark.parametrize("chunk", [b"x" * 50_000, b"data: " + b"x" * 50_000 + b"\n"])
async def test_a_chat_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch, chunk: bytes) -> None:
    monkeypatch.setattr(rest_commands, "MAX_EVENT_CHARS", 200_000)
    async with liar(OK + b"Content-Type: text/event-stream\r\n", chunk, endless=True) as daemon:
        with pytest.raises(LlmsterError):
            async for _ in rest_commands.chat_events(
                daemon.url, token=None, model="m", prompt="hi", max_output_tokens=1, silence_s=10, total_s=10
            ):
                pass
        assert daemon.sent < 100_000_000


async def test_lines_are_the_same_however_they_are_cut() -> None:
    text = "data: a\r\n\r\ndata: \u00fc\u2028b\n"

    class Cut(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for byte in text.encode():
                yield bytes([byte])

    response = httpx.Response(200, stream=Cut())
    lines = [line async for line in http_body.lines_of(response, limit_bytes=100)]
    assert lines == ["data: a", "", "data: \u00fc\u2028b"]


@pytest.mark.parametrize("status", [b"301", b"302", b"307", b"308"])
async def test_a_redirect_is_not_followed_and_the_token_goes_nowhere_else(status: bytes) -> None:
    async with liar(OK + b"Content-Length: 2\r\n", b"{}") as elsewhere:
        head = (
            b"HTTP/1.1 "
            + status
            + b" Go\r\nContent-Length: 0\r\nLocation: "
            + elsewhere.url.encode()
            + b"/\r\n"
        )
        async with liar(head) as daemon:
            with pytest.raises(LlmsterError):
                await rest.models(daemon.url, token=TOKEN, timeout_s=10)
            with pytest.raises(LlmsterError):
                await rest_commands.start_download(daemon.url, token=TOKEN, model="m")
            with pytest.raises(NotLlmster):
                await open_websocket(daemon.url.replace("http", "ws") + "/llm", connect_s=5, upgrade_s=5)
            assert daemon.asked
        assert elsewhere.asked == []


async def test_a_daemon_that_packs_its_frames_is_refused() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = request.lower().split(b"sec-websocket-key: ")[1].split(b"\r\n")[0]
        start = request.lower().index(key)
        key = request[start : start + len(key)]
        accept = base64.b64encode(
            hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
        )
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NotLlmster, match="NegotiationError"):
            await open_websocket(f"ws://127.0.0.1:{port}/llm", connect_s=5, upgrade_s=5)
