"""Reads the exporter's live view: `/live`, and with the token of `live_token_file` the text of one request.

Does not depend on readers. Responses are bounded; an unreachable exporter is an error of that reading only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import msgspec

from exporter.llmster import http_body
from exporter.shared.live_token import LiveToken

ANSWER_S: Final = 3.0


class SourceFailed(Exception):
    """The exporter did not answer as expected; the message says how."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the text: reasoning, answer or tool_call, in characters of the whole."""

    kind: str
    start: int
    end: int


class TextPart(msgspec.Struct, frozen=True):
    """The exporter's answer about one request."""

    start: int
    text: str
    phases: tuple[Phase, ...]
    is_truncated: bool
    is_over: bool
    finish: str | None = None


class LiveSource:
    """One exporter."""

    def __init__(self, url: str, token: LiveToken | None) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._http = httpx.AsyncClient(trust_env=False, timeout=ANSWER_S)
        self._parts = msgspec.json.Decoder(TextPart)

    @property
    def has_text(self) -> bool:
        """Whether text can be asked for."""
        return self._token is not None

    async def requests(self) -> dict[str, Any]:
        """Read requests in flight and recent ones. Raises SourceFailed."""
        body = await self._get("/live", {})
        try:
            found = msgspec.json.decode(body or b"null")
        except (msgspec.DecodeError, RecursionError):
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("in_flight"), list):
            raise self._unexpected("/live")
        return found

    async def text(self, daemon: str, request: str, start: int) -> TextPart | None:
        """Read what a request wrote from character `start` on; None where no text is kept. Raises SourceFailed."""
        query = {"daemon": daemon, "request": request, "after": str(start)}
        body = await self._get("/live/text", query)
        if body is None:
            return None
        try:
            return self._parts.decode(body)
        except msgspec.MsgspecError:
            raise self._unexpected("/live/text") from None

    async def close(self) -> None:
        """Give up connections."""
        await self._http.aclose()

    async def _get(self, path: str, query: Mapping[str, str]) -> bytes | None:
        """Read a body; None for 404."""
        headers = {"Authorization": self._token.header} if self._token is not None else {}
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await http_body.ask(
                    self._http, "GET", self._url + path, headers=headers, params=query
                )
        except (httpx.HTTPError, TimeoutError) as error:
            raise SourceFailed(
                f"the exporter at {self._url} does not answer: {type(error).__name__}"
            ) from None
        if answer.status == httpx.codes.NOT_FOUND:
            return None
        if not answer.is_success:
            raise SourceFailed(f"the exporter at {self._url} answers {path} with HTTP {answer.status}")
        return answer.body

    def _unexpected(self, path: str) -> SourceFailed:
        return SourceFailed(
            f"{self._url}{path} answers something unexpected; exporter_url must name an exporter"
        )
