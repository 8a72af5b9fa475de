"""Commands that only REST has: download a model, and chat with exact times as server-sent events.

Does not depend on policy. Sends only the canned prompt of the caller, never a person's text.

Source: the official docs pages "Download a model", "Get download status" and "Streaming events" of the v1 REST API.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec

from exporter.llmster import http_body, lenient, rest
from exporter.llmster.errors import (
    ConnectionLost,
    DaemonStalled,
    DaemonUnreachable,
    NotLlmster,
    ProtocolViolation,
)
from exporter.llmster.lenient import UNDECODABLE

MAX_EVENT_CHARS: Final = 4 * 1024 * 1024
"""An event longer than this ends the chat: a probe's are short, and memory is not to be filled from outside."""
_TIMEOUT_S: Final = 15.0


class Download(msgspec.Struct, frozen=True):
    """A download job. Source: POST /api/v1/models/download and GET .../download/status/:job_id."""

    status: str
    """downloading, paused, completed, failed, or already_downloaded (then there is no job)."""
    job_id: str | None = None
    total_size_bytes: float | None = None
    downloaded_bytes: float | None = None

    @property
    def progress(self) -> float | None:
        """Share done, 0 to 1, None while the size is not known."""
        if not self.total_size_bytes or self.downloaded_bytes is None:
            return None
        return min(1.0, max(0.0, self.downloaded_bytes / self.total_size_bytes))


class ChatResult(msgspec.Struct, frozen=True):
    """`result` of chat.end; its `output` is dropped."""

    model_instance_id: str | None = None
    stats: dict[str, Any] = {}


class ChatEvent(msgspec.Struct, frozen=True):
    """One server-sent event of /api/v1/chat, as far as a probe needs it. No content is kept."""

    type: str
    load_time_seconds: float | None = None
    progress: float | None = None
    model_instance_id: str | None = None
    result: ChatResult = ChatResult()
    """Only of chat.end."""
    error: Any = None


async def start_download(
    base_url: str, *, token: str | None, model: str, quantization: str | None = None
) -> Download:
    """Ask the daemon to download a model. Raises LlmsterError."""
    wanted = {"model": model} | ({"quantization": quantization} if quantization else {})
    body = await rest.request(
        base_url, "POST", "/api/v1/models/download", token=token, timeout_s=_TIMEOUT_S, json=wanted
    )
    return _download(body)


async def download_status(base_url: str, *, token: str | None, job_id: str) -> Download:
    """Ask how a download is getting on. Raises LlmsterError."""
    path = f"/api/v1/models/download/status/{quote(job_id, safe='')}"
    return _download(await rest.request(base_url, "GET", path, token=token, timeout_s=_TIMEOUT_S))


def _download(body: Any) -> Download:
    try:
        return lenient.fitting(body, Download)
    except msgspec.ValidationError as error:
        raise ProtocolViolation(f"the daemon answered something unexpected of a download: {error}") from None


async def chat_events(
    base_url: str,
    *,
    token: str | None,
    model: str,
    prompt: str,
    max_output_tokens: int,
    silence_s: float,
    total_s: float,
) -> AsyncIterator[ChatEvent]:
    """Chat once and yield its events as they come; the chat is not stored by the daemon.

    Raises LlmsterError: DaemonStalled after `silence_s` without a byte or `total_s` in all.
    """
    body = {
        "model": model,
        "input": prompt,
        "stream": True,
        "store": False,
        "max_output_tokens": max_output_tokens,
    }
    limits = httpx.Timeout(_TIMEOUT_S, read=silence_s)
    try:
        async with (
            asyncio.timeout(total_s),
            httpx.AsyncClient(timeout=limits, trust_env=False) as http,
            http.stream(
                "POST",
                f"{base_url.rstrip('/')}/api/v1/chat",
                json=body,
                headers={"Accept-Encoding": "identity"} | rest.headers(token),
            ) as response,
        ):
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                refusal = http_body.Answer(response.status_code, await http_body.body_of(response))
                rest.body_of(refusal, "POST /api/v1/chat")
                raise NotLlmster(f"POST /api/v1/chat answered HTTP {refusal.status} and no events")
            async for event in _events(response):
                yield event
    except (httpx.TimeoutException, TimeoutError) as error:
        if isinstance(error, httpx.ConnectTimeout):
            raise DaemonUnreachable(f"no connection to {base_url}") from None
        raise DaemonStalled("POST /api/v1/chat was silent for too long") from None
    except httpx.ConnectError as error:
        raise DaemonUnreachable(f"POST {base_url}/api/v1/chat failed: {error}") from None
    except httpx.HTTPError as error:
        raise ConnectionLost(f"the chat's connection broke ({type(error).__name__})") from None


async def _events(response: httpx.Response) -> AsyncIterator[ChatEvent]:
    """Read an event stream: blocks of lines, of which only `data:` counts, for it repeats the type."""
    data = ""
    async for line in http_body.lines_of(response, limit_bytes=MAX_EVENT_CHARS):
        if line.startswith("data:"):
            data += line[5:].lstrip()
            if len(data) > MAX_EVENT_CHARS:
                raise ProtocolViolation("the chat sent an event that is too long")
        elif not line and data:
            try:
                event, _ = lenient.decode(data, ChatEvent)
            except UNDECODABLE as error:
                raise ProtocolViolation(f"the chat sent something unexpected: {error}") from None
            data = ""
            yield event
            if event.type == "chat.end":
                return
