"""Reads HTTP response bodies up to a limit, without decompression.

A thousand bytes of gzip can be a million bytes of JSON, so compression is neither requested nor accepted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

MAX_BYTES: Final = 32 * 1024 * 1024
"""A list of thousands of models is a few megabytes."""

_PLAIN: Final = {"Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body."""

    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return httpx.codes.is_success(self.status)


async def ask(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    json: Any = None,
    most_bytes: int = MAX_BYTES,
) -> Answer:
    """Ask and read the whole answer. Raises httpx.HTTPError, RemoteProtocolError for what is packed or too long."""
    async with http.stream(
        method, url, headers=_PLAIN | dict(headers or {}), params=params, json=json
    ) as response:
        return Answer(response.status_code, await body_of(response, most_bytes=most_bytes))


async def body_of(response: httpx.Response, *, most_bytes: int = MAX_BYTES) -> bytes:
    """Read a streamed answer to its end. Raises httpx.HTTPError."""
    body = bytearray()
    async for chunk in _plain(response):
        body += chunk
        if len(body) > most_bytes:
            raise httpx.RemoteProtocolError(f"the answer is longer than {most_bytes} bytes")
    return bytes(body)


async def lines_of(response: httpx.Response, *, limit_bytes: int) -> AsyncIterator[str]:
    """Read a streamed answer line by line. Raises httpx.HTTPError."""
    rest = bytearray()
    async for chunk in _plain(response):
        rest += chunk
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
        if len(rest) > limit_bytes:
            raise httpx.RemoteProtocolError(f"a line is longer than {limit_bytes} bytes")


async def _plain(response: httpx.Response) -> AsyncIterator[bytes]:
    packed = response.headers.get("content-encoding", "identity").lower()
    if packed != "identity":
        raise httpx.RemoteProtocolError(
            f"the response is compressed ({packed[:20]!r}), although identity was requested"
        )
    async for chunk in response.aiter_raw():
        yield chunk
