"""The routes of the live view: requests in flight for every token, text of one of them for tokens of scope text.

Both answer as server-sent events. A look at text is on record before the first character of it is sent; where that
cannot be, there is none. Annotations are evaluated here, not postponed: FastAPI reads them.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from actions.api.authentication import Bearer
from actions.auth.authenticator import Authenticator
from actions.commands.service import Service
from actions.domain.actor import Actor, Scope
from actions.domain.errors import Problem
from actions.live.feeds import MAX_READERS, MAX_TEXTS, Feeds, Over, Reader, Text, TooMany, Unreadable

MAX_SECONDS: Final = 300
KEEP_ALIVE_S: Final = 2.0
"""Also how long a token that is revoked may see text."""
_KEEP_ALIVE: Final = b":\n\n"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_EVENTS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events"},
}

Seconds = Annotated[
    int, Query(ge=0, le=MAX_SECONDS, description="How long events are sent; 0 ends after the first.")
]


def add_routes(
    router: APIRouter, service: Service, authenticator: Authenticator, feeds: Feeds | None
) -> None:
    """Add them to a router."""
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]
    reader_of = Annotated[Actor, Depends(Bearer(authenticator, Scope.TEXT))]

    @router.get("/live", tags=["live"], response_class=StreamingResponse, responses=_EVENTS)
    async def requests(actor: actor_of, seconds: Seconds = 0) -> StreamingResponse:
        """Tell which requests run, each second: an event `requests`, or `problem` while the exporter is away.

        Client, model, phase, tokens, rate and elapsed time, and never text.
        """
        return await _answer(_requests(_configured(feeds), actor.owner, seconds))

    @router.post("/live/text", tags=["live"], response_class=StreamingResponse, responses=_EVENTS)
    async def text(
        asked: Request,
        actor: reader_of,
        daemon: Annotated[str, Query(min_length=1, max_length=64)],
        request: Annotated[str, Query(pattern=r"^[A-Za-z0-9-]{1,64}$", description="As /v1/live names it.")],
        seconds: Seconds = 0,
    ) -> StreamingResponse:
        """Show what one running request writes, as it comes: events `text` with reasoning, answer and tool calls.

        Requires scope text, `capture=full` and a tap before the daemon. Each call is a row of the audit.
        """
        subject = f"{daemon}/{request}"
        await authenticator.require(actor, Scope.TEXT, action="live.text", subject=subject)
        chosen = _configured(feeds)
        if not chosen.has_text:
            raise Problem("not-found", "no text is shown here: live_token_file is not set")
        await service.audit.record("event", actor=actor, action="live.text", subject=subject)

        async def is_still_allowed() -> bool:
            try:
                return (await authenticator.actor(asked)).scope.includes(Scope.TEXT)
            except Problem:
                return False

        return await _answer(_text(chosen, actor.owner, (daemon, request), seconds, is_still_allowed))


def _configured(feeds: Feeds | None) -> Feeds:
    if feeds is None:
        raise Problem("not-found", "there is no live view: exporter_url is not set")
    return feeds


class _Events(StreamingResponse):
    """An answer whose events end with it, also where its client is gone before the first one."""

    def __init__(self, first: bytes, events: AsyncGenerator[bytes]) -> None:
        self._events = events

        async def body() -> AsyncIterator[bytes]:
            yield first
            async for event in events:
                yield event

        super().__init__(body(), media_type="text/event-stream", headers=_HEADERS)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()


async def _answer(events: AsyncGenerator[bytes]) -> StreamingResponse:
    """Begin with the first event, so that what is wrong at once is an answer of its own. Raises Problem."""
    try:
        return _Events(await anext(events), events)
    except TooMany:
        detail = f"{MAX_READERS} live views and {MAX_TEXTS} of texts are open at most"
        raise Problem("too-many-readers", detail, headers={"Retry-After": "5"}) from None
    except Over:
        raise Problem("exporter-unreachable", "the service stops, or others had fewer live views") from None


async def _requests(feeds: Feeds, owner: str, seconds: float) -> AsyncGenerator[bytes]:
    with feeds.requests(owner) as reader:
        async for value in _until(reader, seconds):
            match value:
                case None:
                    yield _KEEP_ALIVE
                case Unreadable():
                    yield _unreadable(value, reader)
                case _:
                    yield _event("requests", value)


async def _text(
    feeds: Feeds,
    owner: str,
    what: tuple[str, str],
    seconds: float,
    is_allowed: Callable[[], Awaitable[bool]],
) -> AsyncGenerator[bytes]:
    """Send what is new since the last event; phases are of the whole, because a late tag can change them."""
    sent, sends = 0, False
    with feeds.text(owner, *what) as reader:
        async for value in _until(reader, seconds):
            if sends and not await is_allowed():
                return
            match value:
                case None:
                    yield _KEEP_ALIVE
                case Unreadable():
                    yield _unreadable(value, reader)
                case Text(is_known=False) if not sends:
                    raise Problem(
                        "not-found", f"no text of {'/'.join(what)} is kept; it is over, or never began"
                    )
                case Text():
                    yield _event("text", _part(value, sent))
                    sent = len(value.text)
                    if value.is_over:
                        return
            sends = True


async def _until(reader: Reader, seconds: float) -> AsyncIterator[Any]:
    """Give the latest value whenever it is another one, and None after some seconds of silence."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    version, value = await reader.after(0)
    yield value
    while (left_s := end_s - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(left_s, KEEP_ALIVE_S)):
                version, value = await reader.after(version)
        except TimeoutError:
            yield None
        except Over:
            return
        else:
            yield value


def _unreadable(value: Unreadable, reader: Reader) -> bytes:
    """Tell the reader; as an answer of its own where nothing was ever read."""
    if not reader.latest.has_read:
        raise Problem("exporter-unreachable", value.why)
    return _event("problem", {"detail": value.why})


def _part(text: Text, start: int) -> dict[str, Any]:
    return {
        "start": start,
        "text": text.text[start:],
        "phases": [asdict(phase) for phase in text.phases],
        "is_truncated": text.is_truncated,
        "is_over": text.is_over,
        "finish": text.finish,
    }


def _event(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
