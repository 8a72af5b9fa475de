"""A transport of the SDK's kind for a tool server at a URL, with an end to what it may send at once.

Knows no MCP: the SDK limits server-sent events itself, this limits plain answers, and sends the server's own headers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client

from actions.mcp.upstream.spec import Http
from actions.mcp.upstream.stdio import MAX_LINE_BYTES

_CONNECT_S: Final = 10.0
_READ_S: Final = 300.0
"""A server may hold a stream open without a word for so long; calls have their own, shorter timeout."""

_CONNECTIONS: Final = 300


class _Limited(httpx2.AsyncHTTPTransport):
    """Ends an answer that is longer than one message may be, and one that is packed: it could be any length inside."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        packed = response.headers.get("content-encoding", "identity").lower()
        if packed != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError(f"the answer is packed ({packed[:20]!r}), and we asked for none")
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


@asynccontextmanager
async def web_transport(reach: Http) -> AsyncIterator[TransportStreams]:
    """Speak with the server at a URL. Proxies in our environment are not asked."""
    limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    async with (
        httpx2.AsyncClient(
            headers={"Accept-Encoding": "identity", **reach.headers},
            timeout=httpx2.Timeout(_CONNECT_S, read=_READ_S),
            transport=_Limited(limits=limits),
            trust_env=False,
        ) as client,
        streamable_http_client(reach.url, http_client=client, max_sse_event_size=MAX_LINE_BYTES) as streams,
    ):
        yield streams
