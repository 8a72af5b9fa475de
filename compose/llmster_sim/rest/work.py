"""Ask the daemon for one prediction as something a coroutine can wait for, and send server-sent events.

Does not depend on an API: each shapes its own responses.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from llmster_sim.engine.jobs import Failed, Finished, JobEvent
from llmster_sim.engine.requests import chat_ask
from llmster_sim.rest.http import ALTER, RestError
from llmster_sim.rest.targets import work_failed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from llmster_sim.engine.daemon import Daemon
    from llmster_sim.engine.instances import Instance
    from llmster_sim.engine.jobs import Ask
    from llmster_sim.engine.requests import Tool
    from llmster_sim.models.prompts import Message


def chat_work(
    daemon: Daemon,
    request: web.Request,
    body: Mapping[str, Any],
    *,
    key: str,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    limit: Any,
) -> Work:
    """Ask for the answer to messages; `limit` is the most tokens, whatever the client sent as that."""

    def ask(instance: Instance) -> Ask:
        return chat_ask(
            model=instance.model,
            messages=messages,
            route=request.path,
            tools=tools,
            max_tokens=limit if isinstance(limit, int) and limit >= 0 else None,
            stream=bool(body.get("stream")),
            draft=False,
        )

    return Work(daemon=daemon, key=key, ask=ask)


class Work:
    """One request to the daemon as something a coroutine can wait for."""

    def __init__(
        self, *, daemon: Daemon, key: str, ask: Callable[[Instance], Ask], domain: str = "llm"
    ) -> None:
        self.key = key
        self.instance: Instance | None = None
        self._events: asyncio.Queue[JobEvent] = asyncio.Queue()
        self._done = False

        def remember(instance: Instance) -> Ask:
            self.instance = instance
            return ask(instance)

        self._request = daemon.request(key, ask=remember, domain=domain, notify=self._events.put_nowait)

    async def events(self) -> AsyncIterator[JobEvent]:
        """Every event up to the last."""
        while not self._done:
            event = await self._events.get()
            self._done = isinstance(event, Finished | Failed)
            yield event

    async def finished(self) -> Finished:
        """Wait for the result; a failure becomes the REST error."""
        async for event in self.events():
            if isinstance(event, Finished):
                return event
            if isinstance(event, Failed):
                status = 400 if event.error.kind == "guardrail" else 500
                raise RestError(status=status, error=work_failed(event.error, key=self.key))
        raise RuntimeError("a job ended without its last event")

    def cancel(self) -> None:
        """Stop the work unless it is over."""
        if not self._done:
            self._done = True
            self._request.cancel()


@contextlib.asynccontextmanager
async def event_stream(request: web.Request, **headers: str) -> AsyncIterator[web.StreamResponse]:
    """Answer with server-sent events; a client that goes away ends them."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache", **headers}
    )
    response.enable_chunked_encoding()
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        yield response
        await response.write_eof()


async def send_event(response: web.StreamResponse, data: dict[str, Any], *, event: str | None = None) -> None:
    """Write one server-sent event."""
    head = f"event: {event}\n" if event is not None else ""
    body = json.dumps(ALTER.get()(data), separators=(",", ":"), ensure_ascii=False)
    await response.write(f"{head}data: {body}\n\n".encode())
