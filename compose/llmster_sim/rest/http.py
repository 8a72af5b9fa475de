"""Route HTTP requests: who may pass, what a fault does instead, what an unknown route answers.

Does not depend on models or body schemas; the other modules of this folder do each route's work.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from aiohttp import web

from llmster_sim.engine import log_events

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from llmster_sim.clock import Clock
    from llmster_sim.engine.daemon import Daemon
    from llmster_sim.wire.auth import Authority
    from llmster_sim.wire.faults import Faults

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Routes that answer without a token: they are how a client finds the server at all. Assumed.
_OPEN = {"/lmstudio-greeting", "/lms-status"}
ALTER: ContextVar[Callable[[Any], Any]] = ContextVar("alter", default=lambda event: event)
"""What a fault does to each event of the stream that answers the request of this task."""


class RestError(Exception):
    """A refused request: HTTP status and the `error` member of its body."""

    def __init__(self, *, status: int, error: str | dict[str, Any]) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error


def invalid(message: str, *, code: str, param: str | None = None, status: int = 400) -> RestError:
    """Refuse a request the API does not accept, in the v1 error shape."""
    error: dict[str, Any] = {"type": "invalid_request", "message": message, "code": code}
    if param is not None:
        error["param"] = param
    return RestError(status=status, error=error)


def json_response(body: Any, *, status: int = 200) -> web.Response:
    """Give a JSON answer as Express sends it."""
    return web.Response(
        status=status,
        text=json.dumps(body, indent=2),
        headers={"Content-Type": "application/json; charset=utf-8"},
    )


async def body_of(request: web.Request) -> dict[str, Any]:
    """Give the JSON object of a request. Assumed: the wording for anything else."""
    try:
        body = await request.json()
    except ValueError as error:
        raise invalid("Invalid JSON in request body", code="invalid_json") from error
    if not isinstance(body, dict):
        raise invalid("Expected object", code="invalid_type")
    return body


async def received(daemon: Daemon, request: web.Request) -> dict[str, Any]:
    """Give the JSON object of a request, once the daemon has logged that it came."""
    body = await body_of(request)
    line = log_events.received_request(method="POST", path=request.path, body=body)
    daemon.server_line(level="debug", text=line)
    return body


class Router:
    """Exact routes, and prefixes for those with a parameter in the path."""

    def __init__(self, *, daemon: Daemon, clock: Clock, faults: Faults, authority: Authority) -> None:
        self._daemon = daemon
        self._clock = clock
        self._faults = faults
        self._authority = authority
        self.exact: dict[tuple[str, str], Handler] = {}
        self.prefixes: dict[tuple[str, str], Handler] = {}

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one HTTP request."""
        await self._faults.thawed()
        self._clock.catch_up()
        rule = self._faults.http(method=request.method, path=request.path)
        if rule is not None:
            match rule.action:
                case "html":
                    page = "<!DOCTYPE html>\n<html><body><pre>Internal Server Error</pre></body></html>\n"
                    return web.Response(status=rule.status, text=page, content_type="text/html")
                case "hang" | "warn":
                    await asyncio.Event().wait()
                case "delay":
                    waited = asyncio.Event()
                    self._clock.call_later(rule.seconds, waited.set)
                    await waited.wait()
                case "fail":
                    title = rule.error.title if rule.error else "Injected failure"
                    return json_response({"error": {"type": "internal_error", "message": title}}, status=500)
                case "close" if request.transport is not None:
                    request.transport.abort()
                    await asyncio.Event().wait()
                case "raw":
                    return web.Response(text=rule.text, content_type="application/json")
                case "alter" if rule.alter is not None:
                    before = ALTER.set(rule.alter)
                    answer = await self._route(request)
                    ALTER.reset(before)
                    if isinstance(answer, web.Response) and answer.text is not None:
                        return json_response(rule.alter(json.loads(answer.text)), status=answer.status)
                    return answer
                case _:
                    pass
        return await self._route(request)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        method, path = request.method, request.path
        handler = self.exact.get((method, path))
        if handler is None:
            for (wanted, prefix), candidate in self.prefixes.items():
                if method == wanted and path.startswith(prefix) and len(path) > len(prefix):
                    handler = candidate
        if path not in _OPEN:
            refusal = self._authority.rest_refusal(request.headers.get("Authorization"))
            if refusal is not None:
                error = {"type": "invalid_request", "code": "invalid_api_key", "message": refusal}
                return json_response({"error": error}, status=401)
        if handler is None:
            return self._unexpected(method, path)
        try:
            return await handler(request)
        except RestError as error:
            return json_response({"error": error.error}, status=error.status)

    def _unexpected(self, method: str, path: str) -> web.Response:
        """Unknown routes answer 200 with an error, except below /api/v1."""
        text = f"Unexpected endpoint or method. ({method} {path})"
        # Assumed: the line's wording beyond what the answer itself says.
        self._daemon.server_line(level="error", text=f"{text}. Returning 200 anyway")
        return json_response({"error": text}, status=404 if path.startswith("/api/v1/") else 200)
