"""A transport of the SDK's kind for a tool server at a URL: bounded answers, and errors that cost one request.

Does not know MCP beyond the id of a request: the SDK limits server-sent events itself and ends all requests when one of
them fails in HTTP, so failures are turned into answers here, and noted in the connection's Health.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx2
import msgspec
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED

from actions.mcp.upstream.sdk import TransportStreams
from actions.mcp.upstream.spec import Http
from actions.mcp.upstream.stdio import MAX_LINE_BYTES
from actions.mcp.upstream.streams import Health, Lost

_CONNECT_S: Final = 10.0
_READ_S: Final = 300.0
"""A server may hold a stream open without a word for so long; calls have their own, shorter timeout."""

_CONNECTIONS: Final = 300
_SESSION: Final = "mcp-session-id"
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class _Limited(httpx2.AsyncHTTPTransport):
    """Ends an answer that is longer than one message may be, and one that is packed: it could be any length inside."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        packed = response.headers.get("content-encoding", "identity").lower()
        if packed != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError(
                f"the answer is packed ({packed[:20]!r}), and none was asked for"
            )
        streams = response.headers.get("content-type", "").startswith("text/event-stream")
        if not streams and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _LimitedStream(response.stream)
        return response


class _LimitedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_LINE_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise httpx2.ReadError(f"the answer is longer than {MAX_LINE_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Head(msgspec.Struct):
    id: int | str | None = None


class _Contained(httpx2.AsyncBaseTransport):
    """Turns a POST that fails into an answer that says so, and notes why."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, health: Health) -> None:
        self._inner = inner
        self._health = health

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method != "POST":
            return await self._inner.handle_async_request(request)
        request_id = msgspec.json.decode(request.content, type=_Head).id
        try:
            response = await self._inner.handle_async_request(request)
            self._health.session_id = response.headers.get(_SESSION, self._health.session_id)
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                if request_id is not None and isinstance(response.stream, httpx2.AsyncByteStream):
                    response.stream = _Events(response.stream, request_id, self._health)
                return response
            body = b"".join([chunk async for chunk in response.aiter_raw()])
            await response.aclose()
        except httpx2.TransportError as error:
            words = f"{type(error).__name__}: {error}".rstrip(": ")
            return self._failed(request_id, Lost(words, not_done=isinstance(error, _NOT_SENT)), dead=True)
        self._judge(request, request_id, response, body)
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in {"content-length", "transfer-encoding"}
        ]
        return httpx2.Response(response.status_code, headers=headers, content=body)

    def _judge(
        self, request: httpx2.Request, request_id: int | str | None, response: httpx2.Response, body: bytes
    ) -> None:
        """Note what a status says about the connection, whatever the body says."""
        status = response.status_code
        if status in {401, 403}:
            asks = response.headers.get("www-authenticate", "")[:200]
            self._health.lose(request_id, Lost(_unauthorized(status, asks), not_done=False))
        elif _SESSION in request.headers and (status == 404 or (status == 400 and b"ession" in body[:1_000])):  # noqa: PLR2004
            lost = Lost("the server has forgotten the session (it was restarted?)", not_done=True)
            self._health.lose(request_id, lost, dead=True)
        elif status in {502, 503, 504}:
            self._health.lose(request_id, Lost(f"HTTP {status}"))

    def _failed(self, request_id: int | str | None, lost: Lost, *, dead: bool) -> httpx2.Response:
        self._health.lose(request_id, lost, dead=dead)
        if request_id is None:
            return httpx2.Response(202)
        error = {"code": CONNECTION_CLOSED, "message": "the connection failed"}
        return httpx2.Response(502, json={"jsonrpc": "2.0", "id": request_id, "error": error})

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Events(httpx2.AsyncByteStream):
    """A stream of events in answer to a request, which is lost if the stream ends before the client closes it."""

    def __init__(self, stream: httpx2.AsyncByteStream, request_id: int | str, health: Health) -> None:
        self._stream = stream
        self._request_id = request_id
        self._health = health

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except httpx2.TransportError as error:
            self._health.lose(self._request_id, Lost(f"{type(error).__name__}: {error}".rstrip(": ")))
            raise
        self._health.lose(self._request_id, Lost("the server ended the answer before its result"))

    async def aclose(self) -> None:
        await self._stream.aclose()


def _unauthorized(status: int, asks: str) -> str:
    scheme = asks.split(" ", 1)[0] or "nothing"
    oauth = "; it offers OAuth, which is not supported" if "resource_metadata" in asks else ""
    fix = 'set headers = { Authorization = "Bearer ${TOKEN}" } of this server in mcp.toml'
    return f"HTTP {status}: the server requires authorization (WWW-Authenticate: {scheme}{oauth}); {fix}"


@asynccontextmanager
async def web_transport(reach: Http, health: Health) -> AsyncIterator[TransportStreams]:
    """Speak with the server at a URL. Proxies in the environment are not asked."""
    limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    async with (
        httpx2.AsyncClient(
            headers={"Accept-Encoding": "identity", **reach.headers},
            timeout=httpx2.Timeout(_CONNECT_S, read=_READ_S),
            transport=_Contained(_Limited(limits=limits), health),
            trust_env=False,
        ) as client,
        streamable_http_client(reach.url, http_client=client, max_sse_event_size=MAX_LINE_BYTES) as streams,
    ):
        yield streams
