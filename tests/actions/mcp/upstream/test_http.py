"""A tool server at a URL that answers with more than one message may be, or sends us elsewhere."""

import asyncio
import gzip

import httpx2
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from actions.mcp.upstream import http as web
from actions.mcp.upstream.large_messages import WHOLE_BYTES
from actions.mcp.upstream.spec import Http
from actions.mcp.upstream.streams import Health
from tests.exporter.llmster.test_http_body import OK, liar

SECRET = "Bearer KANARIENVOGEL"


async def met(url: str) -> None:
    """Connect as the gate does. Raises what it raises."""
    async with Client(
        web.http_transport(Http(url, {"Authorization": SECRET}), Health(), whole_bytes=WHOLE_BYTES, calls=4)
    ) as client:
        await client.session.send_ping()


async def test_a_packed_answer_is_not_unpacked() -> None:
    body = gzip.compress(b"{}")
    head = OK + b"Content-Encoding: gzip\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n".encode()
    async with liar(head, body) as server, httpx2.AsyncClient(transport=web._LimitedTransport()) as http:
        with pytest.raises(httpx2.RemoteProtocolError, match="not requested"):
            await http.post(server.url)


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MAX_BYTES", 200_000)
    head = OK + b"Content-Type: application/json\r\n"
    async with (
        liar(head, b" " * 50_000, endless=True) as server,
        httpx2.AsyncClient(transport=web._LimitedTransport()) as http,
    ):
        with pytest.raises(httpx2.ReadError, match="more than"):
            await http.post(server.url)


@pytest.mark.parametrize("status", [302, 307, 308])
async def test_a_redirect_to_another_place_is_not_followed_and_headers_go_nowhere_else(status: int) -> None:
    async with liar(OK + b"Content-Length: 2\r\n", b"{}") as elsewhere:
        head = f"HTTP/1.1 {status} Go\r\nContent-Length: 0\r\nLocation: {elsewhere.url}/\r\n".encode()
        async with liar(head) as server:
            with pytest.raises((MCPError, ExceptionGroup)):
                await met(server.url)
            assert any(SECRET.encode() in request for request in server.asked)
        assert elsewhere.asked == []


async def test_a_server_that_ends_its_streams_at_once_and_for_ever_is_asked_at_a_pace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its `retry: 0` tells the SDK to open the next one without a wait."""
    monkeypatch.setattr(web, "_STREAMS_AT_ONCE", 3)
    monkeypatch.setattr(web, "_STREAM_EVERY_S", 600)
    opened: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        opened.append(request.method)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=b"retry: 0\n\n")

    transport = web._IsolatedErrors(httpx2.MockTransport(answer), Health(), WHOLE_BYTES)

    async def ask(method: str) -> None:
        request = httpx2.Request(method, "http://x.test/mcp", json={"id": 1} if method == "POST" else None)
        await transport.handle_async_request(request)

    streams = [asyncio.create_task(ask("GET")) for _ in range(50)]
    await asyncio.gather(*streams[:3])
    await ask("POST")
    assert opened == ["GET"] * 3 + ["POST"], "a call waits for no stream"
    for one in streams:
        one.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
