"""Serves `/mcp/{server}` over streamable HTTP: authenticates, finds the server, hands the request to the SDK.

Every request requires a token, also on loopback. A session belongs to the token that opened it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette import types as asgi
from starlette.datastructures import Headers
from starlette.requests import Request

from actions.auth.problem_response import send_problem
from actions.domain.actor import Actor
from actions.domain.errors import Problem, not_found
from actions.domain.rate_limit import FairShares
from actions.mcp.proxy import ServerProxy
from actions.mcp.sdk_server import ACTOR_KEY
from actions.mcp.session_limits import MAX_SESSIONS, MAX_SESSIONS_OF_TOKEN, SESSION_IDLE_S, SessionLimits
from actions.mcp.upstream.spec import PATH_PREFIX

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Of one request. The content of a file to write is an argument."""

BODIES_BYTES: Final = 32 * 1024 * 1024
"""Of large bodies that are being read, of all tokens; one alone gets two thirds."""
_SMALL_BODY_BYTES: Final = 64 * 1024
_DIGITS: Final = 12

Authenticate = Callable[[Request], Awaitable[Actor]]
"""Returns the actor of a request. Raises Problem."""


class Endpoint:
    """The endpoint of one server: the SDK's session manager and the task that owns it."""

    def __init__(self, proxy: ServerProxy) -> None:
        self.proxy = proxy
        self._manager = StreamableHTTPSessionManager(
            proxy.server,
            max_request_body_size=MAX_BODY_BYTES,
            session_idle_timeout=SESSION_IDLE_S,
            max_sessions=MAX_SESSIONS,
        )
        self._limits = SessionLimits()
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self, beside: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the sessions, and `beside`, until `stop`."""
        async with self._manager.run():
            other = asyncio.create_task(beside())
            self._ready.set()
            try:
                await self._stop.wait()
            finally:
                other.cancel()
                await asyncio.gather(other, return_exceptions=True)

    def stop(self) -> None:
        """End every session."""
        self._stop.set()

    async def handle(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer one request."""
        await self._ready.wait()
        owner = scope[ACTOR_KEY].owner
        session_id = Request(scope).headers.get(MCP_SESSION_ID_HEADER)
        if session_id is None:
            await self._end_surplus(scope, owner, places=1)

        async def track_session(message: asgi.Message) -> None:
            if message["type"] == "http.response.start":
                opened = Headers(raw=message["headers"]).get(MCP_SESSION_ID_HEADER)
                if opened is not None and message["status"] < 400:  # noqa: PLR2004 - an error response opens no session
                    self._limits.used(owner, opened)
            await send(message)

        await self._manager.handle_request(scope, receive, track_session)
        if session_id is None:  # requests that opened sessions at the same time saw each other's too late
            await self._end_surplus(scope, owner, places=0)
        if scope["method"] == "DELETE" and session_id:
            self._forget(owner, session_id)

    async def _end_surplus(self, scope: asgi.Scope, owner: str, *, places: int) -> None:
        """End sessions until there are so many places for new ones of this owner, where others have more."""
        most, most_of_all = MAX_SESSIONS_OF_TOKEN - places, MAX_SESSIONS - places
        while (surplus := self._limits.surplus(owner, most, most_of_all)) is not None:
            self._limits.ended(*surplus)
            await self._end(scope, *surplus)

    async def _end(self, scope: asgi.Scope, owner: str, session_id: str) -> None:
        """End a session by the DELETE that its client would send."""

        async def receive_empty() -> asgi.Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def discard(_message: asgi.Message) -> None:
            return None

        headers = [
            *((name, value) for name, value in scope["headers"] if name in {b"host", b"authorization"}),
            (MCP_SESSION_ID_HEADER.encode(), session_id.encode()),
            (b"accept", b"application/json, text/event-stream"),
        ]
        await self._manager.handle_request(
            {**scope, "method": "DELETE", "headers": headers, "user": _user(owner)}, receive_empty, discard
        )
        self._forget(owner, session_id)

    def _forget(self, owner: str, session_id: str) -> None:
        self.proxy.forget(session_id)
        self._limits.ended(owner, session_id)


class McpApp:
    """The ASGI application below `/mcp/`."""

    def __init__(self, authenticate: Authenticate, find: Callable[[str], Endpoint | None]) -> None:
        self._authenticate = authenticate
        self._find = find
        self._bodies = FairShares(BODIES_BYTES)

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer one request."""
        try:
            endpoint, scope = await self._admit(scope, receive)
            reading = _Reading(self._bodies, scope, receive)
        except Problem as problem:
            await send_problem(send, problem)
            return
        try:
            await endpoint.handle(scope, reading.receive, send)
        finally:
            reading.end()

    async def _admit(self, scope: asgi.Scope, receive: asgi.Receive) -> tuple[Endpoint, asgi.Scope]:
        actor = await self._authenticate(Request(scope, receive))
        if actor.token_id is None:
            raise Problem(
                "unauthorized",
                "tool calls require a token; make one: daemonpulse actions token new --scope read",
                headers={"WWW-Authenticate": "Bearer"},
            )
        name = scope["path"].removeprefix(PATH_PREFIX)
        endpoint = self._find(name)
        if endpoint is None or not endpoint.proxy.upstream.spec.admits(actor.token_name):
            raise not_found("MCP server", name)  # the same answer for a server that this token may not use
        return endpoint, {**scope, "user": _user(actor.owner), ACTOR_KEY: actor}


class _Reading:
    """The body of a request, and its place among those that are being read."""

    def __init__(self, bodies: FairShares, scope: asgi.Scope, receive: asgi.Receive) -> None:
        """Take a place for what the head says, a whole one where it does not say. Raises Problem."""
        self._bodies = bodies
        self._owner = scope[ACTOR_KEY].owner
        self._receive = receive
        headers = Headers(raw=scope["headers"])
        unsaid = MAX_BODY_BYTES if "transfer-encoding" in headers else 0
        said = headers.get("content-length", str(unsaid))[
            :_DIGITS
        ]  # of more digits the first ones are enough
        size = min(int(said), MAX_BODY_BYTES) if said.isdecimal() else MAX_BODY_BYTES
        self._held = size if size > _SMALL_BODY_BYTES else 0
        if self._held and not bodies.take(self._owner, self._held):
            raise Problem(
                "too-many-at-once",
                "too many large requests are being sent, or others need the rest",
                headers={"Retry-After": "1"},
            )

    async def receive(self) -> asgi.Message:
        """Receive the next part; with the last one, the place is free."""
        message = await self._receive()
        if not message.get("more_body", False):
            self.end()
        return message

    def end(self) -> None:
        """Give the place back."""
        held, self._held = self._held, 0
        if held:
            self._bodies.give_back(self._owner, held)


def _user(owner: str) -> AuthenticatedUser:
    """Return whose sessions these are, in the SDK's form."""
    return AuthenticatedUser(AccessToken.model_construct(token="", client_id=owner, scopes=[]))
