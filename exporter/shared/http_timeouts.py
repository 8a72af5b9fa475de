"""uvicorn's HTTP protocol with header, body and write timeouts, and a limit of connections.

uvicorn itself only ends connections that are idle between two requests. A client that sends a byte now and then, or
reads nothing, would hold its connection for ever, until the process has no descriptors left. At the limit, the
connection that has been waited for longest gives way to a new one: a client that sends its request at once is served.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable
from typing import Any, Final, Protocol, runtime_checkable

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from exporter.shared.joined_writes import JoinedWrites

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 512
"""At once. Half of the 1,024 open files that a process has by default; the rest is for daemons, tools and files."""
MAX_HEAD_BYTES: Final = 16 * 1024
"""Of request line and headers; twice that in the worst case, when they begin in the middle of a piece."""
HEAD_S: Final = 10.0
"""From the first byte that could be sent to the end of the headers."""
BODY_S: Final = 30.0
"""From the end of the headers to the end of the body; 4 MB take that long at 1 Mbit/s."""
READ_S: Final = 30.0
"""Seconds a peer may leave a full send buffer unread."""
_TELL_EVERY_S: Final = 60.0


@runtime_checkable
class Waited(Protocol):
    """A connection whose peer may owe something."""

    def waited_for_since(self) -> float:
        """Tell since when it owes it, by the event loop's clock; infinity if it owes nothing."""

    def give_way(self) -> None:
        """End, in favour of a new connection."""


def is_admitted(connections: Iterable[object]) -> bool:
    """Tell whether there is room for the latest of these, which owes nothing yet.

    At the limit the one that is waited for longest gives way.
    """
    every = list(connections)
    if len(every) <= MAX_CONNECTIONS:
        return True
    _tell_of_too_many()
    longest = min((one for one in every if isinstance(one, Waited)), key=lambda one: one.waited_for_since())
    if math.isinf(longest.waited_for_since()):
        return False
    longest.give_way()
    return True


class PatientProtocol(H11Protocol):
    """One connection. Each phase (header, body, reading the response, the last bytes) has a deadline."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._owed: object = None
        self._deadline: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._owed_since = self._unread_since = math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; when there are too many, another one gives way, or it is rejected."""
        self._writes = JoinedWrites(transport, self.loop, closing=self._see_off)
        super().connection_made(self._writes)
        if not is_admitted(self.connections):
            transport.abort()
            return
        self._look()

    def waited_for_since(self) -> float:
        """Tell since when its peer has owed a head, a body, or a look at the answer; infinity if it owes nothing."""
        return min(self._owed_since, self._unread_since)

    def give_way(self) -> None:
        """End the connection, in favour of a new one."""
        self._owed_since = self._unread_since = math.inf  # once is enough
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        super().connection_lost(exc)
        for timer in (self._deadline, self._reading):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what came, and see what is owed next.

        In pieces, because h11 limits a head only while it is incomplete: one that came whole could have any size.
        """
        for start in range(0, len(data), MAX_HEAD_BYTES):
            super().data_received(data[start : start + MAX_HEAD_BYTES])
            if self.transport.is_closing():
                return
        self._look()

    def on_response_complete(self) -> None:
        """Send what is left of an answer, and see what is owed after it."""
        self._writes.flush()
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """Begin to wait for a peer that does not read."""
        super().pause_writing()
        self._unread_since = self.loop.time()
        self._reading = self.loop.call_later(READ_S, self._give_up, "reading")

    def resume_writing(self) -> None:
        """Stop waiting: it has read."""
        super().resume_writing()
        if self.transport.is_closing():
            return
        self._unread_since = math.inf
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _should_upgrade(self) -> bool:
        """Answer requests to upgrade as plain ones, without uvicorn's advice in the log to install a library."""
        return False

    def _look(self) -> None:
        """Start a deadline when something new is owed; a byte more of the same does not move it."""
        owed = self.conn.their_state if self.conn.their_state in {h11.IDLE, h11.SEND_BODY} else None
        if owed is self._owed:
            return
        self._owed = owed
        self._owed_since = self.loop.time() if owed is not None else math.inf
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if owed is not None:
            what, limit_s = ("headers", HEAD_S) if owed is h11.IDLE else ("body", BODY_S)
            self._deadline = self.loop.call_later(limit_s, self._give_up, what)

    def _see_off(self) -> None:
        """Begin to wait for a peer to take the last bytes, and over TLS to say that it ends too."""
        self._unread_since = min(self._unread_since, self.loop.time())
        self._reading = self._reading or self.loop.call_later(READ_S, self._give_up, "the end")

    def _give_up(self, what: str) -> None:
        log.debug("a connection was too slow", extra={"client": str(self.client), "waited_for": what})
        self.transport.abort()


_told_at = [-math.inf]


def _tell_of_too_many() -> None:
    if time.monotonic() - _told_at[0] >= _TELL_EVERY_S:
        _told_at[0] = time.monotonic()
        log.warning(
            "too many connections; those that are waited for give way", extra={"limit": MAX_CONNECTIONS}
        )
