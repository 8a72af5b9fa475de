"""What clients and daemons may do and rarely do: it passes as it is, and is read where the standards say how."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from exporter.pipeline.output.segments import Kind
from tests.exporter.tap.scripted import END, HEAD, chunk, event, stream, upstream
from tests.exporter.tap.tapping import Tapped, tap_before

PATIENCE_S = 20.0
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 13\r\n\r\n" + b'{"model":"m"}'


def call(index: int, **function: str) -> dict[str, Any]:
    """One event of a tool call."""
    return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": index, "function": function}]}}]}


@contextlib.asynccontextmanager
async def tap_of(
    answering: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Tapped]:
    """Give a tap before a daemon that answers each connection so."""
    async with (
        await asyncio.start_server(answering, "127.0.0.1", 0) as daemon,
        tap_before(daemon.sockets[0].getsockname()[1]) as tap,
    ):
        yield tap


async def exchange(port: int, *sent: bytes, ends: bytes = b"0\r\n\r\n") -> bytes:
    """Send bytes and read until the answer has ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    async with asyncio.timeout(PATIENCE_S):
        for piece in sent:
            writer.write(piece)
            await writer.drain()
        while not got.endswith(ends) and (data := await reader.read(65536)):
            got += data
    writer.close()
    return got


async def messages(socket: ClientConnection) -> AsyncIterator[str | bytes]:
    """Read to the end, whatever its code."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await socket.recv()


async def told(tap: Tapped) -> Any:
    await tap.settled()
    (report,) = tap.predictions()
    return report


async def test_a_body_that_waits_for_100_continue_and_early_hints_before_the_answer() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    answer = b"".join(stream([{"model": "m", "choices": [{"delta": {"content": "a"}}]}]))
    script = b"HTTP/1.1 100 Continue\r\n\r\n" + hints + answer

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(script[:25])
        assert await reader.readexactly(13) == b'{"model":"m"}'
        writer.write(script[25:])
        await writer.drain()
        await reader.read()
        writer.close()

    async with tap_of(answering) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        head, body = REQUEST.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n").split(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readexactly(25) == script[:25], (
                "the client is let on before it sends its body"
            )
            writer.write(body)
            got = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        assert got == script[25:]
        report = await told(tap)
        assert (report.model, report.status, report.tokens) == ("m", 200, 1)


async def test_a_client_of_http_1_0_and_a_head_without_a_body() -> None:
    old = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + event(
        {"choices": [{"delta": {"content": "a"}}]}
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n"

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(head if asked.startswith(b"HEAD") else old)
        await writer.drain()
        writer.close()

    async with tap_of(answering) as tap:
        assert await exchange(tap.port, REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"), ends=b"never") == old
        assert await exchange(tap.port, b"HEAD /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", ends=b"never") == head
        await tap.settled()
        first, second = tap.reports()
        assert (first.tokens, first.status, first.cut) == (1, 200, False)
        assert (second.method, second.status, second.cut) == ("HEAD", 200, False)


async def test_an_upgrade_to_another_protocol_passes_and_ends_the_reading() -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(switch)
        writer.write((await reader.readexactly(24)).swapcase())
        await writer.drain()
        await reader.read()
        writer.close()

    async with tap_of(answering) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readexactly(len(switch)) == switch
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert await reader.readexactly(24) == b"pri * http/2.0\r\n\r\nsm\r\n\r\n"
        writer.close()
        await tap.settled()
        assert [report.status for report in tap.reports()] == [101]


@pytest.mark.parametrize(
    ("events", "kinds", "tools"),
    [
        pytest.param(
            [{"choices": [{"delta": {"reasoning_content": "a"}}]}, {"choices": [{"delta": {"content": "b"}}]}],
            ["reasoning", "answer"], (), id="reasoning_content",
        ),
        pytest.param(
            [{"choices": [{"delta": {"reasoning": "a"}}]}, {"choices": [{"delta": {"content": "b"}}]}],
            ["reasoning", "answer"], (), id="reasoning",
        ),
        pytest.param(
            [
                *(call(0, name="f", arguments=""), call(0, arguments="{"), call(1, name="g", arguments="}")),
            ],
            ["tool_call"], ("f", "g"), id="tool_calls",
        ),
        pytest.param(
            [
                {"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]},
                {"choices": [{"index": 1, "delta": {"content": "c"}, "finish_reason": "stop"}]},
            ],
            ["answer"], (), id="several choices",
        ),
    ],
)  # fmt: skip
async def test_deltas_of_every_kind_and_usage_behind_them(
    events: list[dict[str, Any]], kinds: list[str], tools: tuple[str, ...]
) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 7}}
    async with upstream(stream([*events, usage])) as daemon, tap_before(daemon.port) as tap:
        await exchange(tap.port, REQUEST)
        report = await told(tap)
    assert [phase.kind for phase in report.phases] == [Kind(kind) for kind in kinds]
    assert report.tools == tools
    assert (report.usage.input, report.usage.output) == (3, 7)


async def test_an_image_of_ten_megabytes_in_a_message_passes_and_the_model_behind_it_is_known() -> None:
    body = b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,'
    body += b"iVBO" * (10 << 18) + b'"}}]}],"model":"vision"}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    script = [HEAD, chunk(event({"choices": [{"delta": {"content": "a"}}]})), END]
    async with upstream(script) as daemon, tap_before(daemon.port) as tap:
        await exchange(tap.port, head, body)
        report = await told(tap)
        assert daemon.requests == [head + body]
    assert report.model == "vision"


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_a_websocket_keeps_its_subprotocol_its_close_code_and_reason_and_is_read(
    compression: str | None,
) -> None:
    part = '{"content":"a","tokensCount":1,"reasoningType":"none"}'
    fragment = f'{{"type":"channelSend","channelId":1,"message":{{"type":"fragment","fragment":{part}}}}}'

    async def daemon(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"success":true}')
        await socket.recv()
        for _ in range(5):
            await socket.send(fragment)
        await socket.send('{"type":"channelClose","channelId":1}')
        await socket.close(4001, "go away")

    async with serve(
        daemon, "127.0.0.1", 0, subprotocols=[Subprotocol("b")], compression=compression
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with (
            tap_before(port) as tap,
            connect(
                f"ws://127.0.0.1:{tap.port}/llm",
                subprotocols=[Subprotocol("a"), Subprotocol("b")],
                compression=compression,
            ) as socket,
        ):
            assert socket.subprotocol == "b"
            assert bool(socket.protocol.extensions) == (compression is not None)
            await socket.send('{"authVersion":1,"clientIdentifier":"x","clientPasskey":"y"}')
            assert await socket.recv() == '{"success":true}'
            create = '{"type":"channelCreate","channelId":1,"endpoint":"predict","creationParameter":{}}'
            await socket.send(create)
            got = [message async for message in messages(socket)]
            assert got == [*[fragment] * 5, '{"type":"channelClose","channelId":1}']
            assert (socket.close_code, socket.close_reason) == (4001, "go away")
            await tap.settled()
            (report,) = tap.predictions()
            assert (report.tokens, report.cut) == (5, False)
