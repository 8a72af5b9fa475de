"""A Prometheus that answers byte by byte does not hold a load, and with it the daemon's turn."""

import asyncio
import contextlib

import pytest

from actions.capacity import from_prometheus
from actions.capacity.from_prometheus import PrometheusMemory
from actions.capacity.local import MemoryUnknown


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n"],
    ids=["head", "body"],
)
async def test_a_prometheus_that_answers_byte_by_byte_is_given_up(
    start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = asyncio.Event()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(start)
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        left.set()

    monkeypatch.setattr(from_prometheus, "_ALL_S", 0.3)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(20):
            with pytest.raises(MemoryUnknown, match="does not answer within"):
                await PrometheusMemory(f"http://127.0.0.1:{port}", selector="", daemon="box").read(None, ())
            await left.wait()
    finally:
        server.close()
