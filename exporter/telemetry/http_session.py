"""HTTP session of the OTLP exporters: a redirect is an error, and an answer is read up to MAX_ANSWER_BYTES.

The SDK counts every status below 400 as delivered and reads an answer whole, whatever its size.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter

MAX_ANSWER_BYTES: Final = 64 * 1024
"""A partial_success is some hundred bytes."""
CONNECT_S: Final = 2.0
"""For each address of the receiver; they are tried one after another."""
_BODY_S: Final = 10.0
"""Time for the body of an answer, however slowly it comes."""


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

    def send(self, *arguments: Any, **keywords: Any) -> requests.Response:
        """Send. Raises requests.RequestException, also for a redirect."""
        timeout_s = keywords.get("timeout") or CONNECT_S
        bounds = {"stream": True, "timeout": (min(CONNECT_S, timeout_s), timeout_s)}
        response = super().send(*arguments, **{**keywords, **bounds})
        raw = response.raw
        try:
            body, is_whole = _read(raw)
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
