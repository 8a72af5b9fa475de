"""The sockets of one session: one per namespace, opened together or when first needed, each failing alone.

session.py makes the calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from exporter.llmster.domains import BY_NAME, CORE
from exporter.llmster.errors import AuthenticationRefused, ConnectionLost, LlmsterError
from exporter.llmster.wire.connection import Connection, Liveness, Timeouts, WireCounts
from exporter.llmster.wire.messages import Identity

SYSTEM: Final = "system"
CORE_NAMESPACES: Final = (SYSTEM, *CORE)
"""Opened together when a session begins."""
OPEN_GRACE_S: Final = 1.0
"""What the other sockets have when the first is open."""
REOPEN_S: Final = 10.0
"""After a namespace did not open, it is tried again at the earliest."""
REOPEN_OPTIONAL_S: Final = 600.0
"""The same for namespaces that a daemon may lack."""


class Sockets:
    """Connections by namespace. Their tasks belong to `group`, and end with `close()`.

    `accepted` is called for every TCP connection that is made, `failed` for every namespace that does not open
    although the daemon should have it.
    """

    def __init__(
        self,
        *,
        base_url: str,
        identity: Identity,
        timeouts: Timeouts,
        counts: WireCounts,
        group: asyncio.TaskGroup,
        accepted: Callable[[], None] = lambda: None,
        failed: Callable[[LlmsterError], None] = lambda _error: None,
    ) -> None:
        self._base_url = base_url
        self._identity = identity
        self._timeouts = timeouts
        self._counts = counts
        self._group = group
        self._accepted = accepted
        self._failed = failed
        self._liveness = Liveness()
        self._connections: dict[str, Connection] = {}
        self._running: dict[str, asyncio.Task[LlmsterError]] = {}
        self._openings: dict[str, asyncio.Task[LlmsterError | None]] = {}
        self._started_at: dict[str, float] = {}
        self._failed_at: dict[str, float] = {}
        self._anchor: str | None = None
        self._closed = False

    @property
    def unanswered_s(self) -> float:
        """For how long the daemon has owed an answer to a keepAlive without any other sign of life."""
        return max((each.unanswered_s for each in self._connections.values()), default=0.0)

    async def open(self) -> None:
        """Open the core sockets together under ONE identity; one that opens is enough.

        Raises what Connection.open() raises: AuthenticationRefused always, anything else only when none opens.
        """
        openings = {self.start(namespace): namespace for namespace in CORE_NAMESPACES}
        pending = set(openings)
        opened: list[str] = []
        problem: LlmsterError | None = None
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=OPEN_GRACE_S if opened else None, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            for task in done:
                outcome = _outcome(task, openings[task])
                if outcome is None:
                    opened.append(openings[task])
                elif problem is None or isinstance(outcome, AuthenticationRefused):
                    problem = outcome
        if problem is not None and (not opened or isinstance(problem, AuthenticationRefused)):
            raise problem
        self._anchor = SYSTEM if SYSTEM in opened else opened[0]

    async def connection(self, namespace: str) -> Connection:
        """Return the socket of a namespace, opening it when there is none or it was lost.

        Raises what Connection.open() raises; for a while after a failure the same again, without trying.
        """
        connection = self.peek(namespace)
        if connection is None:
            opening = self.start(namespace)
            await asyncio.wait({opening})  # not awaited itself: its cancellation is not the caller's
            if problem := _outcome(opening, namespace):
                raise problem.anew()
            connection = self._connections[namespace]
        return connection

    async def optional(self, namespace: str, *, within_s: float) -> Connection | None:
        """Return the socket of an optional namespace; None when it does not open.

        Waits until `within_s` after the attempt to open it began. Raises nothing.
        """
        opening = self.start(namespace) if self.peek(namespace) is None else None
        if opening is not None and not opening.done():
            left_s = self._started_at[namespace] + within_s - time.monotonic()
            await asyncio.wait({opening}, timeout=max(0.0, left_s))
        return self.peek(namespace)

    def peek(self, namespace: str) -> Connection | None:
        """Return the socket of a namespace if it is open."""
        connection = self._connections.get(namespace)
        return connection if connection is not None and connection.lost is None else None

    def start(self, namespace: str) -> asyncio.Task[LlmsterError | None]:
        """Start to open a namespace, or give the attempt under way; one that failed a moment ago stands."""
        opening = self._openings.get(namespace)
        if opening is not None and not (opening.done() and self._may_reopen(namespace)):
            return opening
        opening = self._group.create_task(self._open(namespace), name=f"open /{namespace}")
        self._openings[namespace] = opening
        self._started_at[namespace] = time.monotonic()
        return opening

    async def over(self) -> LlmsterError:
        """Wait until the main socket ends; return why. Others are opened again when they are needed."""
        assert self._anchor is not None  # noqa: S101 - only of sockets that are open
        return await asyncio.shield(self._running[self._anchor])

    async def close(self, *, is_dead: bool = False) -> None:
        """Close every socket and end their tasks, also one that waits for a slow reader. Nothing opens after it.

        A daemon that is dead answers no close: its connections are dropped.
        """
        self._closed = True
        for opening in self._openings.values():
            opening.cancel()
        if self._openings:
            await asyncio.wait(self._openings.values())
        if is_dead:
            for connection in self._connections.values():
                connection.abort()
        else:
            await asyncio.gather(*(connection.close() for connection in self._connections.values()))
        for task in self._running.values():
            task.cancel()

    def _may_reopen(self, namespace: str) -> bool:
        failed_at = self._failed_at.get(namespace, float("-inf"))
        return time.monotonic() - failed_at >= (REOPEN_OPTIONAL_S if _is_optional(namespace) else REOPEN_S)

    async def _open(self, namespace: str) -> LlmsterError | None:
        """Open one; return why it did not open."""
        if self._closed:
            return ConnectionLost(f"the session ended before /{namespace} was open")
        try:
            connection = await Connection.open(
                self._base_url,
                namespace,
                self._identity,
                timeouts=self._timeouts,
                counts=self._counts,
                liveness=self._liveness,
                accepted=self._accepted,
            )
        except LlmsterError as error:
            self._failed_at[namespace] = time.monotonic()
            if self._anchor is not None and not _is_optional(namespace):
                self._failed(error)
            return error
        self._connections[namespace] = connection
        self._running[namespace] = self._group.create_task(connection.run(), name=f"socket /{namespace}")
        return None


def _outcome(opening: asyncio.Task[LlmsterError | None], namespace: str) -> LlmsterError | None:
    if opening.cancelled():
        return ConnectionLost(f"the session ended before /{namespace} was open")
    return opening.result()


def _is_optional(namespace: str) -> bool:
    domain = BY_NAME.get(namespace)
    return domain is not None and domain.optional
