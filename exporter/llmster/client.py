"""The client of one daemon: stays connected, reports its health, takes snapshots, opens its log stream.

It starts no program: it only connects to an address, so it cannot start a stopped daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, NoReturn

from exporter.llmster import calls
from exporter.llmster.errors import (
    AuthenticationRefused,
    ConnectionLost,
    DaemonStalled,
    DaemonUnreachable,
    LlmsterError,
    NotLlmster,
)
from exporter.llmster.session import Session
from exporter.llmster.state import DaemonProcess, DownloadedModel, LinkStatus, Snapshot
from exporter.llmster.wire.channel import Channel
from exporter.llmster.wire.connection import Connection, Timeouts, WireCounts
from exporter.llmster.wire.messages import Identity
from exporter.llmster.wire.sockets import Sockets

log = logging.getLogger(__name__)

STALLED_AFTER_S: Final = 5.0
"""A daemon that needs longer than this to answer is stalled, not running."""

BACKOFF_FIRST_S: Final = 0.25
BACKOFF_MOST_S: Final = 3.0
"""A daemon that comes back is seen within 5 s, and one that stays down costs little."""

STEADY_AFTER_S: Final = 10.0
"""A session that lived this long was a good one: the next reconnect starts again with the shortest delay."""


class DaemonState(enum.StrEnum):
    """How a daemon is, seen from here."""

    RUNNING = "running"
    """It answers."""
    STALLED = "stalled"
    """It accepts connections and does not answer in time."""
    REFUSED = "refused"
    """It answers and does not let this client in: no or a wrong token, an HTTP error, another server."""
    DOWN = "down"
    """Nothing accepts connections there."""


@dataclass(frozen=True, slots=True)
class Health:
    """State, and the problem that keeps the daemon from being read (None when there is none)."""

    state: DaemonState
    problem: LlmsterError | None


class DaemonClient:
    """Keeps one session to one daemon alive. `run()` must be kept going by the owner's task group."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        token: str | Callable[[], str | None] | None = None,
        timeouts: Timeouts | None = None,
        opening: AbstractAsyncContextManager[None] | None = None,
        jitter: Callable[[], float] = random.random,
        estimates: bool = True,
    ) -> None:
        """Prepare; nothing is sent yet. `url` is http(s)://host:port. Raises ValueError on a malformed token.

        `token` may be a function: it is called in a thread before each session, so that a rotated token is used
        without a restart. `opening` is held while a session is opened: a semaphore that clients share keeps hundreds
        of them from opening at once, when their timeouts would measure this process and not the daemons.
        `estimates=False` keeps snapshots from asking what each instance takes.
        """
        self.name = name
        self.url = url
        self.counts = WireCounts(name)
        self.failures: Counter[str] = Counter()
        """Failed or lost connections by LlmsterError.kind."""
        self.restarts = 0
        """Times the daemon was another process, or another version, than before."""
        self.version: str | None = None
        """Latest known version of the daemon."""
        self.sessions = 0
        """Sessions so far: a snapshot belongs to the session it was taken in."""
        self._guest = Identity.guest()
        self._token = token if callable(token) else lambda: token
        self._has_token = not callable(token) and self._identity() is not self._guest
        self._timeouts = timeouts or Timeouts()
        self._opening = opening or contextlib.nullcontext()
        self._jitter = jitter
        self._estimates = estimates
        self._session: Session | None = None
        self._problem: LlmsterError | None = None
        self._connected = asyncio.Event()
        self._attempts_ended = 0
        self._attempt_ended = asyncio.Event()
        """Set while no attempt to connect is under way or about to begin."""
        self._retry_now = asyncio.Event()
        self._accepted_at: float | None = None
        """When the attempt under way was first accepted by the other side."""
        self._last_process: tuple[int | None, str | None] = (None, None)
        self._welcomed_at: float | None = None
        """When the latest session began to be one; None while it is being opened."""

    async def run(self) -> NoReturn:
        """Connect, and connect again for ever with jittered backoff. Raises nothing but cancellation."""
        attempt = 0
        while True:
            self._welcomed_at = self._accepted_at = None
            self._attempt_ended.clear()
            try:
                await self._run_session()
            except Exception as error:
                # A defect or unforeseen bytes: it costs this session, not the process.
                log.exception("session failed", extra={"daemon": self.name})
                self._note(LlmsterError(f"internal error: {type(error).__name__}"))
            attempt = 0 if self._was_steady() else attempt + 1
            await self._pause(self._backoff_s(attempt))

    @property
    def is_settled(self) -> bool:
        """Whether any attempt to connect has ended, either way."""
        return self._attempts_ended > 0

    async def settled(self, *, within_s: float, accepted_within_s: float | None = None) -> None:
        """Wait until it is known how the daemon is now, trying to connect at once if a pause is under way.

        At most `within_s`; when the daemon accepts a connection and takes its time, `accepted_within_s` from then on.
        """
        if self._session is not None:
            return
        if self._attempt_ended.is_set():
            self._attempt_ended.clear()
            self._retry_now.set()
        if isinstance(self._problem, DaemonStalled):
            return  # every attempt takes as long: what the last one told is as good
        await _wait(self._attempt_ended, within_s)
        if accepted_within_s is not None and self._accepted_at is not None:
            await _wait(self._attempt_ended, self._accepted_at + accepted_within_s - time.monotonic())

    def health(self) -> Health:
        """Say how the daemon is, without asking it anything."""
        session = self._session
        if session is not None:
            if session.sockets.unanswered_s > STALLED_AFTER_S:
                waited = f"{session.sockets.unanswered_s:.0f} s"
                return Health(DaemonState.STALLED, DaemonStalled(f"no sign of life for {waited}"))
            return Health(DaemonState.RUNNING, None)
        return self._health_without_session()

    async def snapshot(self) -> Snapshot:
        """Read the daemon once: a list per model domain and a state per loaded instance, plus facts that are due.

        Raises the problem at once when there is no session, and whatever LlmsterError the reading meets.
        """
        session = self._require_session()
        snapshot = await session.snapshot()
        if session is self._session:
            self._note_process(session)
        return snapshot

    async def models(self) -> tuple[DownloadedModel, ...] | None:
        """List the models on disk, as of at most a minute ago; None when they cannot be read.

        Raises the problem when there is no session.
        """
        return await self._require_session().models()

    async def link(self) -> LinkStatus | None:
        """Read this device and its LM Link peers, as of at most a minute ago; None when they cannot be read.

        Raises the problem when there is no session.
        """
        return await self._require_session().link()

    def process(self) -> DaemonProcess:
        """Tell the process this session is with. Raises the problem when there is no session."""
        return self._require_session().process

    @contextlib.asynccontextmanager
    async def log_channel(self) -> AsyncIterator[Channel]:
        """Open diagnostics.streamLogs; the channel ends with ConnectionLost when its socket does.

        Only the caller reopens it: wait for `connected()` and subscribe again.
        """
        connection = await self._require_session().sockets.connection("diagnostics")
        channel = await calls.stream_logs(connection)
        try:
            yield channel
        finally:
            channel.abandon()
            channel.send({"type": "stop"})
            with contextlib.suppress(LlmsterError):
                await connection.flush()

    async def connection(self, namespace: str) -> Connection:
        """Return the session's socket of a namespace, for commands.py. Raises the problem when there is none."""
        return await self._require_session().sockets.connection(namespace)

    async def optional_connection(self, namespace: str, *, within_s: float) -> Connection | None:
        """Return the socket of an optional namespace. Raises the problem without a session."""
        return await self._require_session().sockets.optional(namespace, within_s=within_s)

    async def connected(self) -> None:
        """Wait, for as long as it takes, until there is a session."""
        await self._connected.wait()

    def _require_session(self) -> Session:
        if self._session is None:
            problem = self._problem or DaemonUnreachable("no connection has been made yet")
            raise problem.anew()
        return self._session

    async def _run_session(self) -> None:
        """Live through one session; note what ended it, or what kept it from starting."""
        identity = await asyncio.to_thread(self._identity)
        self._has_token = identity is not self._guest
        async with asyncio.TaskGroup() as group:
            sockets = Sockets(
                base_url=_socket_url(self.url),
                identity=identity,
                timeouts=self._timeouts,
                counts=self.counts,
                group=group,
                accepted=self._note_accepted,
                failed=lambda error: self.failures.update((error.kind,)),
            )
            session = Session(
                sockets,
                rest_url=self.url,
                token=self.current_token,
                has_token=self._has_token,
                counts=self.counts,
                estimates=self._estimates,
            )
            problem: LlmsterError | None = None
            try:
                async with self._opening:
                    await session.open()
                self._welcome(session)
                problem = await sockets.over()
            except LlmsterError as error:
                problem = error
            finally:
                # Before closing, which may take a while: how the daemon is must be known meanwhile.
                self._session = None
                self._connected.clear()
                if problem is not None:
                    self._note(problem)
                await session.close(is_dead=isinstance(problem, DaemonStalled))

    async def current_token(self) -> str | None:
        """Return the API token as it is now, for a REST call: it may have been rotated since the session began."""
        return await asyncio.to_thread(self._token)

    def _identity(self) -> Identity:
        token = self._token()
        return Identity.from_token(token) if token else self._guest

    def _note_accepted(self) -> None:
        if self._accepted_at is None:
            self._accepted_at = time.monotonic()

    def _health_without_session(self) -> Health:
        problem = self._problem or DaemonUnreachable("no connection has been made yet")
        if isinstance(problem, DaemonStalled):
            state = DaemonState.STALLED
        elif isinstance(problem, AuthenticationRefused | NotLlmster):
            state = DaemonState.REFUSED
        elif self._accepted_at is not None:
            waited_s = time.monotonic() - self._accepted_at
            state = DaemonState.STALLED if waited_s >= STALLED_AFTER_S else DaemonState.RUNNING
            problem = DaemonStalled(f"a connection accepted {waited_s:.1f} s ago is not open yet")
        elif isinstance(problem, ConnectionLost) and self._attempt_ended.is_set():
            state = DaemonState.RUNNING  # it has just closed a connection, and was not asked again yet
        else:
            state = DaemonState.DOWN
        return Health(state, problem)

    def _welcome(self, session: Session) -> None:
        self.sessions += 1
        self._note_process(session)
        self._welcomed_at = time.monotonic()
        self._session, self._problem = session, None
        self._end_attempt()
        self._connected.set()
        log.info(
            "daemon connected",
            extra={
                "daemon": self.name,
                "url": self.url,
                "version": self.version,
                "pid": session.process.pid,
            },
        )

    def _note_process(self, session: Session) -> None:
        """Learn which process and version answers, and count a restart when it is another one."""
        # In a container every daemon may be pid 1: there only an upgrade shows as a restart.
        now = (session.process.pid, session.version.version)
        before = self._last_process
        pairs = list(zip(before, now, strict=True))
        if any(None not in pair and pair[0] != pair[1] for pair in pairs):
            self.restarts += 1
        self._last_process = (
            now[0] if now[0] is not None else before[0],
            now[1] if now[1] is not None else before[1],
        )
        self.version = self._last_process[1]

    def _note(self, problem: LlmsterError) -> None:
        if self._problem is None or self._problem.kind != problem.kind:
            log.warning(
                "daemon not readable, reconnecting",
                extra={"daemon": self.name, "url": self.url, "kind": problem.kind, "problem": str(problem)},
            )
        self.failures[problem.kind] += 1
        self._problem = problem.anew()
        self._end_attempt()

    def _end_attempt(self) -> None:
        self._attempts_ended += 1
        self._accepted_at = None
        self._attempt_ended.set()

    async def _pause(self, delay_s: float) -> None:
        """Wait before the next attempt; shorter when a scrape asks for the daemon."""
        least_s = min(delay_s, BACKOFF_FIRST_S / 2)
        await asyncio.sleep(least_s)
        await _wait(self._retry_now, delay_s - least_s)
        self._retry_now.clear()

    def _was_steady(self) -> bool:
        """Whether the latest session was a good one; how long it took to fail in opening it does not count."""
        return self._welcomed_at is not None and time.monotonic() - self._welcomed_at > STEADY_AFTER_S

    def _backoff_s(self, attempt: int) -> float:
        longest = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(attempt, 10))
        return float(longest * (0.5 + 0.5 * self._jitter()))


async def _wait(event: asyncio.Event, within_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, within_s)):
            await event.wait()


def _socket_url(url: str) -> str:
    """Turn http(s)://host:port into ws(s)://host:port."""
    return "ws" + url.removeprefix("http").rstrip("/")
