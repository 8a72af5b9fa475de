"""HTTP session of the OTLP exporters: a redirect is an error, and an answer is read up to MAX_ANSWER_BYTES.

The SDK counts every status below 400 as delivered and reads an answer whole, whatever its size.
"""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

MAX_ANSWER_BYTES: Final = 64 * 1024
"""A partial_success is some hundred bytes."""
CONNECT_S: Final = 2.0
"""For each address of the receiver; they are tried one after another."""
_BODY_S: Final = 10.0
"""Time for the body of an answer, however slowly it comes; and for an answer as a whole, after its first wait."""


class _Hurried(io.RawIOBase):
    """A socket's bytes, up to a point in time: its own timeout is per read, and a byte now and then would go on."""

    def __init__(self, sock: Any) -> None:
        super().__init__()
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = time.monotonic() + (sock.gettimeout() or _BODY_S) + _BODY_S

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what there is. Raises TimeoutError when the time is up."""
        if time.monotonic() > self._deadline:
            raise TimeoutError("the answer comes too slowly")
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        """Close it."""
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose head and body have one deadline."""

    def __init__(self, sock: Any, *arguments: Any, **keywords: Any) -> None:
        super().__init__(sock, *arguments, **keywords)
        self.fp.close()
        self.fp = io.BufferedReader(_Hurried(sock))


def _hurry(manager: PoolManager) -> PoolManager:
    """Give the answers of a manager's connections a deadline, those of a proxy to CONNECT too."""
    pools: dict[str, Any] = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _hurried(pool) for scheme, pool in pools.items()}
    return manager


def _hurried(pool: Any) -> Any:
    connection = type("Connection", (pool.ConnectionCls,), {"response_class": _Response})
    return type("Pool", (pool,), {"ConnectionCls": connection})


def bounded_session(hear: Callable[[requests.Response], None]) -> requests.Session:
    """Make a session; `hear` is called with each answer of status 200."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _BoundedAdapter(hear))
    return session


class _BoundedAdapter(HTTPAdapter):
    """Sends a request and reads the beginning of its answer."""

    def __init__(self, hear: Callable[[requests.Response], None]) -> None:
        super().__init__()
        self._hear = hear
        _hurry(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> PoolManager:
        """Make the manager of a proxy's connections, once."""
        is_known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        return manager if is_known else _hurry(manager)

    def send(self, *arguments: Any, **keywords: Any) -> requests.Response:
        """Send. Raises requests.RequestException, also for a redirect."""
        timeout_s = keywords.get("timeout") or CONNECT_S
        bounds = {"stream": True, "timeout": (min(CONNECT_S, timeout_s), timeout_s)}
        response = super().send(*arguments, **{**keywords, **bounds})
        raw = response.raw
        try:
            body, is_whole = _read(raw)
        except HTTPError as error:  # urllib3's own; the exporters know those of requests
            raise requests.exceptions.ReadTimeout(error, request=response.request) from error
        finally:
            raw.close()  # whatever was not read ends with its connection
        response.raw = io.BytesIO(body)
        if HTTPStatus.MULTIPLE_CHOICES <= response.status_code < HTTPStatus.BAD_REQUEST:
            raise requests.exceptions.TooManyRedirects(
                f"the receiver answers {response.status_code}, and redirects are not followed: "
                "set OTEL_EXPORTER_OTLP_ENDPOINT to where it leads",
                response=response,
            )
        if response.status_code == HTTPStatus.OK and is_whole:
            self._hear(response)
        return response


def _read(raw: Any) -> tuple[bytes, bool]:
    """Read a body up to its bound in size and time; tell whether that was all of it."""
    deadline = time.monotonic() + _BODY_S
    body = bytearray()
    while len(body) <= MAX_ANSWER_BYTES and time.monotonic() < deadline:
        part = raw.read1(MAX_ANSWER_BYTES + 1 - len(body), decode_content=True)
        if not part:
            return bytes(body), True
        body += part
    return bytes(body[:MAX_ANSWER_BYTES]), False
