"""Downloads and chats over REST, against answers no documentation promises."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from exporter.llmster import rest_commands
from exporter.llmster.errors import (
    AuthenticationRefused,
    CallFailed,
    ConnectionLost,
    DaemonStalled,
    DaemonUnreachable,
    LlmsterError,
    NotLlmster,
    ProtocolViolation,
)
from exporter.llmster.rest_commands import ChatEvent, Download

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def answering(text: str, *, status: int = 200, content_type: str = "application/json") -> Handler:
    async def handle(_request: web.Request) -> web.Response:
        return web.Response(text=text, status=status, content_type=content_type)

    return handle


async def chat(url: str, *, silence_s: float = 5) -> list[ChatEvent]:
    events = rest_commands.chat_events(
        url, token=None, model="m", prompt="p", max_output_tokens=1, silence_s=silence_s, total_s=10
    )
    return [event async for event in events]


@pytest.mark.parametrize(
    ("text", "status", "error"),
    [
        ('{"error":"Unexpected endpoint or method. (POST /x)"}', 200, CallFailed),
        ('{"error":{"type":"model_not_found","message":"no"}}', 404, CallFailed),
        ('{"error":{"code":"invalid_api_key","message":"no"}}', 401, AuthenticationRefused),
        ("<html>", 200, NotLlmster),
        ("<html>", 500, NotLlmster),
        ('{"job_id":7}', 200, ProtocolViolation),
        ("[]", 200, ProtocolViolation),
        ('{"error":{"message":7}}', 500, CallFailed),
    ],
)
async def test_every_odd_answer_has_its_name(text: str, status: int, error: type[LlmsterError]) -> None:
    async with serving(answering(text, status=status)) as url:
        with pytest.raises(error):
            await rest_commands.start_download(url, token=None, model="m")
        with pytest.raises(LlmsterError):
            await chat(url)


async def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(DaemonUnreachable):
        await rest_commands.download_status("http://127.0.0.1:9", token=None, job_id="x")
    with pytest.raises(DaemonUnreachable):
        await chat("http://127.0.0.1:9")


async def test_the_token_and_the_job_go_where_they_belong() -> None:
    seen: list[tuple[str, str | None]] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.raw_path, request.headers.get("authorization")))
        return web.json_response({"status": "downloading", "downloaded_bytes": 1, "total_size_bytes": 4})

    async with serving(handle) as url:
        job = await rest_commands.download_status(url, token="sk-lm-x", job_id="../a b")
    assert job.progress == 0.25
    assert seen == [("/api/v1/models/download/status/..%2Fa%20b", "Bearer sk-lm-x")]


async def test_a_daemon_that_thinks_is_waited_for_as_long_as_we_say(monkeypatch: pytest.MonkeyPatch) -> None:
    async def think(_request: web.Request) -> web.Response:
        await asyncio.sleep(6)  # longer than httpx would wait by itself
        return web.json_response({"status": "downloading", "job_id": "j"})

    async with serving(think) as url:
        assert (await rest_commands.start_download(url, token=None, model="m")).job_id == "j"
        monkeypatch.setattr(rest_commands, "_TIMEOUT_S", 0.1)
        with pytest.raises(DaemonStalled, match=r"POST /api/v1/models/download did not answer within 0\.1 s"):
            await rest_commands.start_download(url, token=None, model="m")


@pytest.mark.parametrize(
    ("total", "done", "progress"), [(None, 1, None), (0, 0, None), (4, None, None), (4, 8, 1.0), (4, -1, 0.0)]
)
def test_progress_is_a_share_or_unknown(
    total: float | None, done: float | None, progress: float | None
) -> None:
    assert Download("downloading", "j", total, done).progress == progress


def events(*lines: str, hold_s: float = 0) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for line in lines:
            await response.write(line.encode())
        if hold_s:
            await asyncio.sleep(hold_s)
        return response

    return handle


END = 'event: chat.end\ndata: {"type":"chat.end","result":{"stats":{}}}\n\n'


async def test_events_arrive_in_order_whatever_else_is_in_them() -> None:
    odd = ': comment\n\nevent: x\ndata: {"type":"surprise","unknown":[1]}\n\ndata: {"type":\ndata: "chat.start"}\n\n'
    async with serving(events(odd, END, 'data: {"type":"late"}\n\n')) as url:
        assert [event.type for event in await chat(url)] == ["surprise", "chat.start", "chat.end"]


@pytest.mark.parametrize(
    ("lines", "error"),
    [(("data: {oops\n\n",), ProtocolViolation), (('data: {"type":7}\n\n',), ProtocolViolation)],
)
async def test_events_that_cannot_be_read_are_a_violation(
    lines: tuple[str, ...], error: type[LlmsterError]
) -> None:
    async with serving(events(*lines)) as url:
        with pytest.raises(error):
            await chat(url)


async def test_an_event_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_commands, "MAX_EVENT_CHARS", 100)
    async with serving(events("data: " + "x" * 200 + "\n")) as url:
        with pytest.raises(ProtocolViolation, match="too long"):
            await chat(url)


async def test_silence_is_a_stalled_daemon_and_a_cut_is_a_lost_one() -> None:
    async with serving(events('data: {"type":"chat.start"}\n\n', hold_s=5)) as url:
        with pytest.raises(DaemonStalled):
            await chat(url, silence_s=0.2)

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Content-Length": "999"})
        await response.prepare(request)
        await response.write(b'data: {"type":"chat.start"}\n\n')
        assert request.transport is not None
        request.transport.abort()
        return response

    async with serving(cut) as url:
        with pytest.raises(ConnectionLost):
            await chat(url)
