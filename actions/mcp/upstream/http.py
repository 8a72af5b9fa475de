"""The streamable HTTP transport, with bounded responses and HTTP errors that fail one request only.

The SDK limits server-sent events itself, and ends all requests of a connection when one fails in HTTP. Therefore
failures become error responses here, and are noted in the connection's Health.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import msgspec
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED

from actions.mcp.upstream.large_messages import MAX_BYTES, WHOLE_BYTES, reduced
from actions.mcp.upstream.sdk import TransportStreams
from actions.mcp.upstream.spec import Http
from actions.mcp.upstream.streams import Health, Lost

_CONNECT_S: Final = 10.0
_READ_S: Final = 300.0
"""Read timeout of a stream. Calls have their own, shorter timeout."""

_CONNECTIONS: Final = 300
_LARGE_AT_ONCE: Final = 4
"""Responses above WHOLE_BYTES that are read at once from one server, to bound memory."""
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_SESSION: Final = "mcp-session-id"
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class _LimitedTransport(httpx2.AsyncHTTPTransport):
    """Ends responses above MAX_BYTES, and compressed ones, whose size is unknown. Few large ones are read at once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError(f"content-encoding {encoding[:20]!r} was not requested")
        streams = response.headers.get("content-type", "").startswith("text/event-stream")
        if not streams and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _LimitedStream(response.stream, self._large)
        return response


class _LimitedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, large: asyncio.Semaphore) -> None:
        self._stream = stream
        self._large = large

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, is_large = 0, False
        try:
            async for chunk in self._stream:
                size += len(chunk)
                if size > MAX_BYTES:
                    raise httpx2.ReadError(f"the response has more than {MAX_BYTES} bytes")
                if size > WHOLE_BYTES and not is_large:
                    await self._large.acquire()
                    is_large = True
                yield chunk
        finally:
            if is_large:
                self._large.release()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _RequestHead(msgspec.Struct):
    id: int | str | None = None


class _IsolatedErrors(httpx2.AsyncBaseTransport):
    """Turns a failed POST into an error response, and notes the reason."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, health: Health, whole_bytes: int) -> None:
        self._inner = inner
        self._health = health
        self._whole_bytes = whole_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method != "POST":
            return await self._inner.handle_async_request(request)
        request_id = msgspec.json.decode(request.content, type=_RequestHead).id
        try:
            response = await self._inner.handle_async_request(request)
            self._health.session_id = response.headers.get(_SESSION, self._health.session_id)
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                if request_id is not None and isinstance(response.stream, httpx2.AsyncByteStream):
                    response.stream = _Events(response.stream, request_id, self._health, self._whole_bytes)
                return response
            body = b"".join([chunk async for chunk in response.aiter_raw()])
            await response.aclose()
        except httpx2.TransportError as error:
            words = f"{type(error).__name__}: {error}".rstrip(": ")
            return self._failed(request_id, Lost(words, not_received=isinstance(error, _NOT_SENT)), dead=True)
        self._note_status(request, request_id, response, body)
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in {"content-length", "transfer-encoding"}
        ]
        content = reduced(body, self._whole_bytes, request_id)
        return httpx2.Response(response.status_code, headers=headers, content=content or b"")

    def _note_status(
        self, request: httpx2.Request, request_id: int | str | None, response: httpx2.Response, body: bytes
    ) -> None:
        """Note what the status means for the connection."""
        status = response.status_code
        if status in {401, 403}:
            asks = response.headers.get("www-authenticate", "")[:200]
            self._health.lose(request_id, Lost(_unauthorized(status, asks), not_received=False))
        elif _SESSION in request.headers and (status == 404 or (status == 400 and b"ession" in body[:1_000])):  # noqa: PLR2004
            lost = Lost("the server does not know the session; it may have restarted", not_received=True)
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
    """The event stream of a request. The request is lost if the server ends the stream before the result."""

    def __init__(
        self, stream: httpx2.AsyncByteStream, request_id: int | str, health: Health, whole_bytes: int
    ) -> None:
        self._stream = stream
        self._request_id = request_id
        self._health = health
        self._whole_bytes = whole_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pending, searched = bytearray(), 0
        try:
            async for chunk in self._stream:
                pending += chunk
                while end := _EVENT_END.search(pending, max(0, searched - 3)):
                    yield self._short(bytes(pending[: end.end()]))
                    del pending[: end.end()]
                    searched = 0
                searched = len(pending)
                if searched > MAX_BYTES:
                    raise httpx2.ReadError(f"an event has more than {MAX_BYTES} bytes")
            yield bytes(pending)
        except httpx2.TransportError as error:
            self._health.lose(self._request_id, Lost(f"{type(error).__name__}: {error}".rstrip(": ")))
            raise
        self._health.lose(self._request_id, Lost("the server ended the stream before the result"))

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _short(self, event: bytes) -> bytes:
        """Reduce the message of an event."""
        if len(event) <= self._whole_bytes:
            return event
        lines = event.splitlines()
        data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
        message = reduced(data, self._whole_bytes, self._request_id)
        others = [line for line in lines if not line.startswith(b"data:")]
        return b"\n".join([*others, b"data: " + message]) + b"\n\n" if message is not None else b""


def _unauthorized(status: int, asks: str) -> str:
    scheme = asks.split(" ", 1)[0] or "nothing"
    oauth = "; it offers OAuth, which is not supported" if "resource_metadata" in asks else ""
    fix = 'set headers = { Authorization = "Bearer ${TOKEN}" } of this server in mcp.toml'
    return f"HTTP {status}: the server requires authorization (WWW-Authenticate: {scheme}{oauth}); {fix}"


@asynccontextmanager
async def http_transport(reach: Http, health: Health, *, whole_bytes: int) -> AsyncIterator[TransportStreams]:
    """Connect to a URL; messages above `whole_bytes` are reduced. Proxy settings of the environment are ignored."""
    limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    async with (
        httpx2.AsyncClient(
            headers={"Accept-Encoding": "identity", **reach.headers},
            timeout=httpx2.Timeout(_CONNECT_S, read=_READ_S),
            transport=_IsolatedErrors(_LimitedTransport(limits=limits), health, whole_bytes),
            trust_env=False,
        ) as client,
        streamable_http_client(reach.url, http_client=client, max_sse_event_size=2 * whole_bytes) as streams,
    ):
        yield streams
