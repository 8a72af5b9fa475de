"""ASGI middleware of the actions API: checks Host and Origin headers and the size of bodies, and shares places.

Does not depend on commands. CORS preflights get no answer, and there are no cookies, so a browser sends no
credentials. DNS rebinding shows as a Host header that is not accepted, a cross-site request as a foreign Origin:
neither changes anything or calls a tool.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

from actions.api.admission import Admission, is_heard
from actions.auth.problem_response import Send, send_problem
from actions.domain.errors import Problem
from actions.mcp.upstream.spec import PATH_PREFIX
from exporter.shared.host_header import is_same_place, name_of

MAX_BODY_BYTES: Final = 64 * 1024
_DIGITS: Final = re.compile(r"[0-9]+")
"""What str.isdigit() takes beyond these, int() does not."""
_ONLY_LOOKS: Final = frozenset({"GET", "HEAD"})

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_TOO_MANY: Final = Problem(
    "too-many-at-once",
    "this token has its share of the requests that are under way; the kill switch and denials have their own",
    headers={"Retry-After": "1"},
)


class RequestGuard:
    """ASGI middleware: rejects foreign Host and Origin headers, and bodies that are too large.

    `hosts` are the accepted Host names, None for any (a listener beyond loopback, where tokens are required).
    `origins` are further names whose pages may send requests that change something.
    """

    def __init__(
        self, app: Asgi, *, hosts: frozenset[str] | None, origins: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = origins
        self._admission = Admission()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        is_tool = scope["path"].startswith(PATH_PREFIX)
        problem = self._objection(headers, limits=not is_tool)
        if problem is None and (is_tool or scope["method"] not in _ONLY_LOOKS):
            problem = self._foreign(scope["headers"], headers.get("host", ""))
        if problem is not None:
            await send_problem(send, problem)
            return
        if is_heard(scope["method"], scope["path"]):
            await self._pass_on(scope, receive, send, is_tool=is_tool)
            return
        caller = headers.get("authorization", "")
        if not self._admission.places.take(caller):
            await send_problem(send, _TOO_MANY)
            return
        try:
            await self._admission.turn()
            await self._pass_on(scope, receive, send, is_tool=is_tool)
        finally:
            self._admission.places.give_back(caller)

    async def _pass_on(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, *, is_tool: bool
    ) -> None:
        """Hand a request to the application, with its body bounded."""
        if is_tool:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "POST":
            problem, receive = await _without_body(receive)
            if problem is not None:
                await send_problem(send, problem)
                return
        seen = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_BODY_BYTES:
                raise _too_large()
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
            return _too_large()
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


def _too_large() -> Problem:
    return Problem("too-large", f"the body has more than {MAX_BODY_BYTES} bytes; send less")


async def _without_body(receive: Receive) -> tuple[Problem | None, Receive]:
    """Read the body of a command, which has none: values that it held would be ignored.

    Grafana's buttons send an empty object. Returns a `receive` that begins anew.
    """
    body = bytearray()
    message: MutableMapping[str, Any] = {"more_body": True}
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return _too_large(), receive
    if bytes(body).strip() not in {b"", b"{}"}:
        return Problem("bad-request", "send the values as query parameters, without a body"), receive
    first = [message if message["type"] == "http.disconnect" else {"type": "http.request", "body": b""}]

    async def again() -> MutableMapping[str, Any]:
        return first.pop() if first else await receive()

    return None, again
