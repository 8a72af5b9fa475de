"""Streams between the SDK's client and a transport: repairs results and marks errors of the connection.

A tool server may use any error code for its own errors. Therefore a lost request is marked by a Python object in the
error's data, which no server can send.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Self

import anyio
import mcp_types as types
from mcp.shared.message import SessionMessage
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION

from actions.mcp.upstream.lenient import repaired
from actions.mcp.upstream.orphans import Orphans
from actions.mcp.upstream.sdk import Reads, TransportStreams, Writes

before_sending: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("before_sending", default=None)
"""Awaited with a request that is complete but for this, before it is handed to the transport. May raise."""

GATE_KEY: Final = "io.daemonpulse/gate"
"""Key of `_meta` and of an error's data that only the gate writes."""

_ID_DIGITS: Final = 18
MAX_OPEN: Final = 10_000
"""Number of requests whose method is remembered."""
MAX_ASKED: Final = 64
"""Requests of the server (pings) whose responses it has not read yet; further ones are dropped."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Why a request has no response."""

    reason: str
    not_received: bool = False
    """Whether the server certainly did not receive it, so that it may be sent again."""
    is_malformed: bool = False
    """Whether there was a response, and it cannot be read."""


@dataclass(slots=True)
class Health:
    """The state of one connection."""

    lost: dict[types.RequestId, Lost] = field(default_factory=dict)
    """Lost requests, until their error was delivered."""
    is_dead: bool = False
    """Whether it must be reopened: the server does not know it or cannot be reached."""
    problem: str | None = None
    """The last error of the transport."""
    session_id: str | None = None
    """The session id of an HTTP server."""

    def lose(self, request_id: types.RequestId | None, lost: Lost, *, dead: bool = False) -> None:
        """Note a lost request."""
        self.problem = lost.reason
        self.is_dead = self.is_dead or dead
        if request_id is not None:
            self.lost[request_id] = lost


class Exchange:
    """The requests in flight on one connection."""

    def __init__(
        self, health: Health, dropped: Callable[[str, int], None], about_to_send: Callable[[str], None]
    ) -> None:
        """Call `about_to_send` with the id of each request, in the context of its sender."""
        self._health = health
        self._about_to_send = about_to_send
        self._dropped = dropped
        self._methods: dict[types.RequestId, str] = {}
        self._version = LATEST_HANDSHAKE_VERSION
        self._orphans = Orphans()
        self._asked: set[types.RequestId] = set()
        self._more: deque[SessionMessage] = deque()

    def wrap(self, streams: TransportStreams) -> TransportStreams:
        """Return the streams of a transport with this in between."""
        reads, writes = streams
        return _Answers(reads, self.received, self._more), _Requests(writes, self.sent, self.delivered)

    def sent(self, message: SessionMessage) -> None:
        """Remember the method of a request."""
        request = message.message
        self._orphans.sent(request)
        if isinstance(request, types.JSONRPCRequest):
            if len(self._methods) >= MAX_OPEN:  # the oldest was never answered
                oldest = next(iter(self._methods))
                self._orphans.forget(oldest)
                del self._methods[oldest]
            self._methods[request.id] = request.method
            self._about_to_send(str(request.id))

    def delivered(self, message: SessionMessage) -> None:
        """Note a response that the transport has taken."""
        if isinstance(message.message, types.JSONRPCResponse | types.JSONRPCError):
            self._asked.discard(message.message.id or 0)

    def received(self, message: SessionMessage) -> SessionMessage | None:
        """Repair a result, or mark an error of the connection; None for a request too many."""
        found = message.message
        if isinstance(found, types.JSONRPCRequest):
            return message if self._is_asked(found.id) else None
        if isinstance(found, types.JSONRPCNotification):
            given_up = (found.params or {}).get("requestId")
            if found.method == "notifications/cancelled" and isinstance(given_up, int | str):
                self._asked.discard(given_up)
        else:
            self._take(found)
        return message

    def _take(self, answer: types.JSONRPCResponse | types.JSONRPCError) -> None:
        if isinstance(answer.id, str):
            answer.id = self._sent_id(answer.id)
        self._look_for_orphans(answer)
        if isinstance(answer, types.JSONRPCResponse):
            self._health.lost.pop(answer.id, None)
            self._health.problem = None
            method = self._methods.pop(answer.id, "")
            if method in {"initialize", "server/discover"}:
                self._version = str(answer.result.get("protocolVersion") or LATEST_MODERN_VERSION)
            answer.result, dropped = repaired(method, self._version, answer.result)
            if dropped:
                self._dropped(method, dropped)
        elif answer.id is not None:
            self._methods.pop(answer.id, None)
            lost = self._health.lost.pop(answer.id, None)
            if lost is not None:
                answer.error.data = lost
            elif isinstance(answer.error.data, dict):
                answer.error.data.pop(GATE_KEY, None)

    def _is_asked(self, request_id: types.RequestId) -> bool:
        """Count a request of the server. One that does not read its responses would have tasks without number wait."""
        if request_id in self._asked or len(self._asked) >= MAX_ASKED:
            return False
        self._asked.add(request_id)
        return True

    def _look_for_orphans(self, answer: types.JSONRPCResponse | types.JSONRPCError) -> None:
        """Queue errors for the requests that an answer without an id belongs to."""
        orphans = self._orphans
        found = orphans.answered(answer.id) if answer.id is not None else orphans.take(answer.error)
        self._more.extend(
            SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=request_id, error=error))
            for request_id, error in found
        )

    def _sent_id(self, given: str) -> types.RequestId:
        """Return the id as it was sent: some servers answer the number 1 with the text "1"."""
        is_number = given.isdecimal() and given.isascii() and len(given) < _ID_DIGITS
        return int(given) if is_number and int(given) in self._methods else given


class _Delegate:
    """Delegates the SDK's stream interface."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Answers(_Delegate):
    def __init__(
        self,
        inner: Reads,
        received: Callable[[SessionMessage], SessionMessage | None],
        more: deque[SessionMessage],
    ) -> None:
        """Read `more`, which `received` adds to, before what comes next."""
        super().__init__(inner)
        self._received = received
        self._more = more

    @property
    def last_context(self) -> Any:
        """Forward the sender's context variables, which the SDK reads."""
        return getattr(self._inner, "last_context", None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        while True:
            item = self._more.popleft() if self._more else await self._inner.__anext__()
            found = self._received(item) if isinstance(item, SessionMessage) else item
            if found is not None:
                return found

    async def receive(self) -> SessionMessage | Exception:
        """Read one message. Raises anyio.EndOfStream."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise anyio.EndOfStream from None


class _Requests(_Delegate):
    def __init__(
        self,
        inner: Writes,
        sent: Callable[[SessionMessage], None],
        delivered: Callable[[SessionMessage], None],
    ) -> None:
        """Tell `sent` of each message before, `delivered` after the transport has taken it."""
        super().__init__(inner)
        self._sent = sent
        self._delivered = delivered

    async def send(self, item: SessionMessage) -> None:
        """Write one message. Raises anyio.BrokenResourceError, and what `before_sending` raises."""
        wait = before_sending.get()
        if wait is not None and isinstance(item.message, types.JSONRPCRequest):
            await wait()
        self._sent(item)
        await self._inner.send(item)
        self._delivered(item)
