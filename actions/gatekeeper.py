"""Everything between a socket and a route: our host names, the size of bodies, and who is asking.

Knows no command. CORS is closed by answering no preflight; there are no cookies, so a browser that is lured here
brings no rights along. One that is lured by DNS rebinding brings a Host that is not ours, and one that was not brings
an Origin that is not this place: neither changes anything or calls a tool.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

from fastapi import Request

from actions.audit import Audit
from actions.auth import LOOPBACK, Actor, Scope, on_behalf
from actions.grafana_id import GrafanaId, Proof
from actions.metrics import Metrics
from actions.pace import Buckets
from actions.problems import MEDIA_TYPE, Problem
from actions.storage import StorageFailed
from actions.tokens import TokenStore
from exporter.catalogue import actions as rows
from exporter.hosts import is_same_place, name_of

MAX_BODY_BYTES: Final = 64 * 1024
TOOLS_PREFIX: Final = "/mcp/"
"""Of a tool server's path. Below it the MCP SDK limits bodies itself: a tool's arguments may hold a whole file."""
FAILURES_BURST: Final = 5
"""Wrong tokens in a row before answers become 429."""
FAILURES_REFILL_S: Final = 10.0
"""One more try is allowed after so long."""
_DIGITS: Final = re.compile(r"[0-9]+")
"""What str.isdigit() takes beyond these, int() does not."""
_ONLY_LOOKS: Final = frozenset({"GET", "HEAD"})

Asgi = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]


class FrontDoor:
    """ASGI middleware: turns away foreign Host and Origin headers, and bodies that are too large.

    `hosts` are the names that are ours, None for any (a listener beyond loopback, where tokens guard). `origins` are
    names whose pages may send more than a look, besides our own.
    """

    def __init__(
        self, app: Asgi, *, hosts: frozenset[str] | None, origins: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = origins

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        is_tool = scope["path"].startswith(TOOLS_PREFIX)
        problem = self._objection(headers, limits=not is_tool)
        if problem is None and (is_tool or scope["method"] not in _ONLY_LOOKS):
            problem = self._foreign(scope["headers"], headers.get("host", ""))
        if problem is not None:
            await answer(send, problem)
            return
        if is_tool:
            await self._app(scope, receive, send)
            return
        seen = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_BODY_BYTES:
                raise Problem("too-large", f"a body may have {MAX_BODY_BYTES} bytes")
            return message

        await self._app(scope, counted, send)

    def _objection(self, headers: Mapping[str, str], *, limits: bool) -> Problem | None:
        host = headers.get("host", "")
        if self._hosts is not None and name_of(host) not in self._hosts:
            return Problem(
                "misdirected",
                f"Host {host[:100]!r} is not a name of this service; add it to allowed_hosts if it is yours",
            )
        length = headers.get("content-length", "0")
        if limits and _DIGITS.fullmatch(length) and int(length[:20]) > MAX_BODY_BYTES:
            return Problem("too-large", f"a body may have {MAX_BODY_BYTES} bytes")
        return None

    def _foreign(self, headers: Iterable[tuple[bytes, bytes]], host: str) -> Problem | None:
        """Object to a page of another place. Source: MCP 2025-11-25, Transports, security warning: 403.

        Programs send no Origin, and Grafana's proxy takes it away (proxyutil.PrepareProxyRequest).
        """
        for name, value in headers:
            origin = value.decode("latin-1")
            if name == b"origin" and not is_same_place(origin, host, self._origins):
                return Problem(
                    "foreign-origin",
                    f"a page of {origin[:100]!a} may not do this; add its name to allowed_hosts if it is yours",
                )
        return None


async def answer(send: Callable[[MutableMapping[str, Any]], Awaitable[None]], problem: Problem) -> None:
    """Write a problem, where no framework does."""
    body = json.dumps(problem.body()).encode()
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    headers += [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Gatekeeper:
    """Says who is asking. Wrong tokens are counted, limited and audited."""

    def __init__(
        self,
        tokens: TokenStore,
        audit: Audit,
        metrics: Metrics,
        *,
        is_loopback: bool,
        commands_per_minute: int,
        grafana: GrafanaId | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = tokens
        self._audit = audit
        self._metrics = metrics
        self._is_loopback = is_loopback
        self._grafana = grafana
        self._failures = Buckets(FAILURES_BURST, FAILURES_REFILL_S, clock)
        self._commands = (
            Buckets(commands_per_minute, 60 / commands_per_minute, clock) if commands_per_minute else None
        )

    async def actor(self, request: Request) -> Actor:
        """Name the actor of a request. Raises Problem."""
        address = request.client.host if request.client is not None else "unknown"
        person = request.headers.get("x-grafana-user")
        presented = request.headers.get("authorization", "")
        try:
            if not presented:
                return await self._stranger(request, address, person)
            actor = await self._bearer(request, presented, address)
            proof = await self._proof(request)
            if proof is None:
                return on_behalf(actor, person=person, address=address)
            return on_behalf(actor, person=proof.person or person, address=address, grafana=proof.record)
        except StorageFailed as error:
            raise Problem("audit-unavailable", f"tokens cannot be read: {error}") from error

    async def _proof(self, request: Request) -> Proof | None:
        """Check who Grafana says it is, where that will be written down."""
        presented = request.headers.get("x-grafana-id")
        if self._grafana is None or presented is None or request.method in _ONLY_LOOKS:
            return None
        return await self._grafana.check(presented)

    async def require(self, actor: Actor, needs: Scope, *, action: str, subject: str) -> None:
        """Refuse, on record, an actor whose scope is too low, and one that is too fast. Raises Problem."""
        self.slow_down(actor)
        if actor.scope.includes(needs):
            return
        self._metrics.count(rows.AUTH_FAILURES, "scope")
        problem = Problem(
            "forbidden",
            f"{action} needs scope {needs.value}, and {actor.name} has {actor.scope.value}",
            needs=needs.value,
            has=actor.scope.value,
        )
        await self._record_denial(actor, action, subject, problem.detail)
        raise problem

    def slow_down(self, actor: Actor) -> None:
        """Refuse an actor that is too fast; not on record, for a refusal must not cost a row each. Raises Problem."""
        wait_s = self._commands.of(actor.owner).take() if self._commands is not None else 0.0
        if wait_s > 0:
            self._metrics.count(rows.AUTH_FAILURES, "too_fast")
            raise Problem(
                "too-fast",
                f"{actor.name} sends more commands than commands_per_minute allows; the kill switch is still heard",
                headers={"Retry-After": str(math.ceil(wait_s))},
            )

    async def _stranger(self, request: Request, address: str, person: str | None) -> Actor:
        if self._is_loopback and await self._tokens.is_empty():
            return on_behalf(LOOPBACK, person=person, address=address)
        self._metrics.count(rows.AUTH_FAILURES, "missing")
        raise _unauthorized("send a token: Authorization: Bearer dp_…", path=request.url.path)

    async def _bearer(self, request: Request, presented: str, address: str) -> Actor:
        scheme, _, text = presented.partition(" ")
        if scheme.lower() != "bearer":
            self._metrics.count(rows.AUTH_FAILURES, "missing")
            raise _unauthorized("only Bearer tokens are taken", path=request.url.path)
        checked = await self._tokens.check(text.strip())
        # By token id too: a right token from the same address (a proxy's, say) is not held up.
        failures = self._failures.of(address, checked.token_id)
        wait_s = failures.wait_s()
        if wait_s > 0:  # said before whether this one is right: guessing must not go on behind the limit
            self._metrics.count(rows.AUTH_FAILURES, "limited")
            seconds = max(1, round(wait_s))
            raise Problem(
                "too-many-failures",
                f"too many wrong tokens from {address}; try again in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )
        if checked.actor is not None:
            return checked.actor
        failures.take()
        self._metrics.count(rows.AUTH_FAILURES, "wrong")
        stranger = Actor(f"token-id:{checked.token_id}", Scope.READ, address=address)
        await self._record_denial(stranger, "authenticate", request.url.path[:200], checked.reason)
        raise _unauthorized(f"this token is not accepted: {checked.reason}", path=request.url.path)

    async def _record_denial(self, actor: Actor, action: str, subject: str, reason: str) -> None:
        try:
            await self._audit.record(
                "denied", actor=actor, action=action, subject=subject, detail={"reason": reason}
            )
        except StorageFailed as error:
            raise Problem("audit-unavailable", f"{error}; free some space or make it writable") from error


def _unauthorized(detail: str, *, path: str) -> Problem:
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"}, path=path[:200])
