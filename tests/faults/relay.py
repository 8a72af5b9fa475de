"""A TCP relay between the exporter and a daemon that can drop, dribble or fall silent, and knows what it delivered.

Knows WebSocket frames only as far as reading what a server sends: those are unmasked and whole.
"""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

CHUNK: Final = 1 << 16


@dataclass(slots=True)
class Delivered:
    """Predictions that went through to the client, whole, as the daemon counted them."""

    predictions: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0

    def add(self, frame: bytes) -> None:
        """Count a text frame if it is the output of a prediction."""
        if b"llm.prediction.output" not in frame:
            return
        message = json.loads(frame).get("message", {})
        data = message.get("log", {}).get("data", {})
        if data.get("type") == "llm.prediction.output":
            stats = data.get("stats") or {}
            self.predictions += 1
            self.prompt_tokens += stats.get("promptTokensCount", 0)
            self.generated_tokens += stats.get("predictedTokensCount", 0)


class Frames:
    """Cuts a server's bytes into the payloads of its text frames, after the head of the HTTP upgrade."""

    def __init__(self) -> None:
        self._rest = b""
        self._upgraded = False

    def take(self, data: bytes) -> list[bytes]:
        """Take bytes; give the text frames they complete."""
        self._rest += data
        if not self._upgraded:
            _, end, after = self._rest.partition(b"\r\n\r\n")
            if not end:
                return []
            self._rest, self._upgraded = after, True
        complete: list[bytes] = []
        while (frame := self._cut()) is not None:
            opcode, payload = frame
            if opcode == 1:
                complete.append(payload)
        return complete

    def _cut(self) -> tuple[int, bytes] | None:
        if len(self._rest) < 2:
            return None
        size, start = self._rest[1] & 0x7F, 2
        if size >= 126:
            start += 2 if size == 126 else 8
            if len(self._rest) < start:
                return None
            size = int.from_bytes(self._rest[2:start], "big")
        if len(self._rest) < start + size:
            return None
        opcode, payload = self._rest[0] & 0x0F, self._rest[start : start + size]
        self._rest = self._rest[start + size :]
        return opcode, payload


class Relay:
    """Use as an async context manager; clients connect to `url`."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.delivered = Delivered()
        self.bytes_per_s: float | None = None
        """How fast it lets the daemon's bytes through; None: at once."""
        self._forwarding = asyncio.Event()
        self._forwarding.set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._pairs: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_listening()
        for pair in self._pairs:
            pair.cancel()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    def vanish(self) -> None:
        """Let the peer vanish as behind a pulled cable: nothing more comes, no socket is closed, none is opened."""
        self._forwarding.clear()
        self._stop_listening()

    async def come_back(self) -> None:
        """Let the peer be there again, for new connections; the old ones stay lost."""
        self.cut()
        self._forwarding.set()
        await self._listen()

    def cut(self) -> int:
        """Reset every connection; give how many there were."""
        writers = list(self._writers)
        for writer in writers:
            writer.transport.abort()
        return len(writers)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = asyncio.current_task()
        assert pair is not None
        self._pairs.add(pair)
        pair.add_done_callback(self._pairs.discard)
        self._writers.add(writer)
        try:
            parts = urlsplit(self.upstream)
            with contextlib.suppress(OSError, asyncio.CancelledError):  # cancelled at the end
                await self._relay(reader, writer, *await asyncio.open_connection(parts.hostname, parts.port))
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _relay(
        self,
        from_client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        from_daemon: asyncio.StreamReader,
        to_daemon: asyncio.StreamWriter,
    ) -> None:
        both = (
            asyncio.create_task(self._up(from_client, to_daemon)),
            asyncio.create_task(self._down(from_daemon, to_client)),
        )
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            to_daemon.close()
            for way in both:
                way.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._forwarding.wait()
            writer.write(data)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = Frames()
        while data := await reader.read(CHUNK if self.bytes_per_s is None else 64):
            await self._forwarding.wait()
            if self.bytes_per_s is not None:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            writer.write(data)
            await writer.drain()
            for frame in frames.take(data):
                self.delivered.add(frame)
        await self._forwarding.wait()  # whose peer has vanished does not hear of its end either
