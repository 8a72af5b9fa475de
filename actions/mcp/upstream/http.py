"""The streamable HTTP transport, with bounded responses and HTTP errors that fail one request only.

The SDK limits server-sent events itself, and ends all requests of a connection when one fails in HTTP. Therefore
failures become error responses here, and are noted in the connection's Health.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import msgspec
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, JSONRPCError, JSONRPCResponse

from actions.domain.rate_limit import Bucket
from actions.mcp.upstream.answers import NOT_VALID, is_message, messages_of
from actions.mcp.upstream.large_messages import MAX_BYTES, WHOLE_BYTES, reduced
from actions.mcp.upstream.sdk import TransportStreams
from actions.mcp.upstream.spec import Http
from actions.mcp.upstream.streams import Health, Lost

_CONNECT_S: Final = 10.0
_READ_S: Final = 300.0
"""Read timeout of a stream. Calls have their own, shorter timeout."""

_SPARE: Final = 16
"""Connections besides those of calls: for listings, notifications and the server's own stream."""
_LARGE_AT_ONCE: Final = 4
"""Responses above WHOLE_BYTES that are read at once from one server, to bound memory."""
_STREAMS_AT_ONCE: Final = 32
_STREAM_EVERY_S: Final = 0.05
"""A server says when a stream that it ended is opened again, also at once and for ever."""
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_MENDED_BYTES: Final = 64 * 1024
"""Larger events are not looked at for what is no message, to parse them once only."""
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
        self._streams = Bucket(_STREAMS_AT_ONCE, _STREAM_EVERY_S, time.monotonic)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method != "POST":
            while request.method == "GET" and (wait_s := self._streams.take()) > 0:  # noqa: ASYNC110 - for a clock
                await asyncio.sleep(wait_s)
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
        content = reduced(body, self._whole_bytes, request_id) or b""
        answer = _answer(response, content, request_id)
        if request_id is not None and answer is None and response.is_success:
            return self._failed(request_id, _unanswered(response))
        self._note_status(request, request_id, response, body, is_answered=answer is not None)
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in {"content-length", "transfer-encoding"}
        ]
        return httpx2.Response(
            response.status_code, headers=headers, content=content if answer is None else answer
        )

    def _note_status(
        self,
        request: httpx2.Request,
        request_id: int | str | None,
        response: httpx2.Response,
        body: bytes,
        *,
        is_answered: bool,
    ) -> None:
        """Note what the status means for the connection."""
        status = response.status_code
        if status in {401, 403}:
            asks = response.headers.get("www-authenticate", "")[:200]
            self._health.lose(request_id, Lost(_unauthorized(status, asks), not_received=False))
        elif _SESSION in request.headers and (status == 404 or (status == 400 and b"ession" in body[:1_000])):  # noqa: PLR2004
            lost = Lost("the server does not know the session; it may have restarted", not_received=True)
            self._health.lose(request_id, lost, dead=True)
        elif request_id is not None and (not is_answered or status in {502, 503, 504}):
            self._health.lose(request_id, _unanswered(response))

    def _failed(self, request_id: int | str | None, lost: Lost, *, dead: bool = False) -> httpx2.Response:
        self._health.lose(request_id, lost, dead=dead)
        if request_id is None:
            return httpx2.Response(202)
        return httpx2.Response(502, content=_error(request_id))

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
            if pending:
                yield self._short(bytes(pending)) + b"\n\n"  # the last event, whose end was left out
        except httpx2.TransportError as error:
            self._health.lose(self._request_id, Lost(f"{type(error).__name__}: {error}".rstrip(": ")))
            raise
        self._health.lose(self._request_id, Lost("the server ended the stream before the result"))

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _noted(self, own: JSONRPCResponse | JSONRPCError) -> bytes:
        """Return an answer; note one that cannot be read."""
        if not _is_unreadable(own):
            return _json(own)
        self._health.lose(self._request_id, Lost(NOT_VALID, is_malformed=True))
        return _error(self._request_id)

    def _short(self, event: bytes) -> bytes:
        """Reduce the message of an event that is too large; mend one that is no message."""
        lines = event.splitlines()
        data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
        if len(event) > self._whole_bytes:
            message = reduced(data, self._whole_bytes, self._request_id)
        elif len(event) > _MENDED_BYTES or not data or is_message(data):
            return event
        else:
            found = _own(messages_of(data), self._request_id)  # others may keep the stream alive
            if found is None:
                return event
            message = self._noted(found)
        others = [line for line in lines if not line.startswith(b"data:")]
        return b"\n".join([*others, b"data: " + message]) + b"\n\n" if message is not None else b""


def _answer(response: httpx2.Response, content: bytes, request_id: int | str | None) -> bytes | None:
    """Return the body if it answers the request, else the answer that it plainly means, else None."""
    if request_id is None or "json" not in response.headers.get("content-type", "").lower():
        return None
    if is_message(content, request_id):
        return content
    own = _own(messages_of(content, request_id), request_id)
    return _json(own) if own is not None and not _is_unreadable(own) else None


def _own(messages: list[Any], request_id: int | str) -> JSONRPCResponse | JSONRPCError | None:
    """Return the answer to the request."""
    for message in messages:
        if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id in {
            None,
            request_id,
            str(request_id),
        }:
            return message.model_copy(update={"id": request_id})
    return None


def _is_unreadable(message: JSONRPCResponse | JSONRPCError) -> bool:
    return isinstance(message, JSONRPCError) and isinstance(message.error.data, Lost)


def _json(message: JSONRPCResponse | JSONRPCError) -> bytes:
    return message.model_dump_json(by_alias=True, exclude_unset=True).encode()


def _error(request_id: int | str) -> bytes:
    """Return an error response that Exchange marks as lost."""
    error = {"code": CONNECTION_CLOSED, "message": "the connection failed"}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "error": error})


def _unanswered(response: httpx2.Response) -> Lost:
    """Tell what a response is that answers no request."""
    status = response.status_code
    if status < 300:  # noqa: PLR2004 - HTTP's classes
        kind = response.headers.get("content-type", "")[:60]
        return Lost(f"{NOT_VALID} (HTTP {status}, content-type {kind!r})", is_malformed=True)
    if status < 400:  # noqa: PLR2004
        return Lost(f"HTTP {status}: redirects are not followed; set url to the server's own place")
    later = response.headers.get("retry-after", "")[:40]
    return Lost(f"HTTP {status}" + (f", Retry-After: {later}" if later else ""))


def _unauthorized(status: int, asks: str) -> str:
    if status == 403 and not asks:  # noqa: PLR2004
        return "HTTP 403: the server refuses the gate's requests; look at headers, and at the Host that it admits"
    scheme = asks.split(" ", 1)[0] or "nothing"
    oauth = "; it offers OAuth, which is not supported" if "resource_metadata" in asks else ""
    fix = 'set headers = { Authorization = "Bearer ${TOKEN}" } of this server in mcp.toml'
    return f"HTTP {status}: the server requires authorization (WWW-Authenticate: {scheme}{oauth}); {fix}"


@asynccontextmanager
async def http_transport(
    reach: Http, health: Health, *, whole_bytes: int, calls: int
) -> AsyncIterator[TransportStreams]:
    """Connect to a URL, for so many calls at once; messages above `whole_bytes` are reduced.

    Proxy settings of the environment are ignored.
    """
    limits = httpx2.Limits(max_connections=calls + _SPARE, max_keepalive_connections=calls + _SPARE)
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
