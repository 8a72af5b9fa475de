"""The one facade to a daemon: stay connected, say how it is, take snapshots, open its log stream.

Knows no metric and starts no program: it only ever connects to an address, so it cannot wake a stopped daemon.
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
from exporter.llmster.channel import Channel
from exporter.llmster.connection import Connection, Timeouts, WireTally
from exporter.llmster.errors import (
    AuthenticationRefused,
    DaemonStalled,
    DaemonUnreachable,
    LlmsterError,
)
from exporter.llmster.messages import Identity
from exporter.llmster.session import Session
from exporter.llmster.state import DaemonProcess, DownloadedModel, LinkStatus, Snapshot

log = logging.getLogger(__name__)

STALLED_AFTER_S: Final = 5.0
"""A daemon that needs longer than this to answer is stalled, not running."""

BACKOFF_FIRST_S: Final = 0.25
BACKOFF_MOST_S: Final = 3.0
"""So that a daemon that comes back is seen within 5 s, and one that stays away costs next to nothing."""

STEADY_AFTER_S: Final = 10.0
"""A session that lived this long was a good one: the next reconnect starts again with the shortest delay."""


class DaemonState(enum.StrEnum):
    """How a daemon is, seen from here."""

    RUNNING = "running"
    """It answers. It may still refuse us: see Health.problem."""
    STALLED = "stalled"
    """It accepts connections and leaves us waiting."""
    DOWN = "down"
    """Nothing accepts connections there, or what does is not LM Studio."""


@dataclass(frozen=True, slots=True)
class Health:
    """State, and the problem that keeps us from reading it (None when there is none)."""

    state: DaemonState
    problem: LlmsterError | None


class DaemonClient:
    """Keeps one session to one daemon alive. `run()` must be kept going by the owner's task group."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        token: str | None = None,
        timeouts: Timeouts | None = None,
        opening: AbstractAsyncContextManager[None] | None = None,
        jitter: Callable[[], float] = random.random,
        estimates: bool = True,
    ) -> None:
        """Prepare; nothing is sent yet. `url` is http(s)://host:port. Raises ValueError on a malformed token.

        `opening` is held while a session is opened: a semaphore that clients share keeps hundreds of them from opening
        at once, when their timeouts would measure us and not the daemons. `estimates=False` keeps snapshots from asking
        what each instance takes.
        """
        self.name = name
        self.url = url
        self.tally = WireTally(name)
        self.failures: Counter[str] = Counter()
        """Failed or lost connections by LlmsterError.kind."""
        self.restarts = 0
        """Times the daemon was another process, or another version, than in the session before."""
        self.version: str | None = None
        """Version of the daemon as of the latest session."""
        self.sessions = 0
        """Sessions so far: a snapshot belongs to the session it was taken in."""
        self._identity = Identity.from_token(token) if token else Identity.guest()
        self._has_token = token is not None
        self._timeouts = timeouts or Timeouts()
        self._opening = opening or contextlib.nullcontext()
        self._jitter = jitter
        self._estimates = estimates
        self._session: Session | None = None
        self._problem: LlmsterError | None = None
        self._settled = asyncio.Event()
        self._connected = asyncio.Event()
        self._last_process: tuple[int, str] | None = None
        self._welcomed_at: float | None = None
        """When the latest session began to be one; None while it is being opened."""

    async def run(self) -> NoReturn:
        """Connect, and connect again for ever with jittered backoff. Raises nothing but cancellation."""
        attempt = 0
        while True:
            self._welcomed_at = None
            try:
                problem = await self._run_session()
            except Exception as error:
                # A bug of ours, or bytes nobody foresaw: it costs this session, not the exporter.
                log.exception("a session failed", extra={"daemon": self.name})
                problem = LlmsterError(f"an error of ours: {type(error).__name__}")
            self._note(problem)
            attempt = 0 if self._was_steady() else attempt + 1
            await asyncio.sleep(self._backoff_s(attempt))

    @property
    def is_settled(self) -> bool:
        """Whether the first attempt to connect has ended, either way."""
        return self._settled.is_set()

    async def settled(self, *, within_s: float) -> None:
        """Wait until the first attempt to connect has ended either way, at most `within_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._settled.wait()

    def health(self) -> Health:
        """Say how the daemon is, without asking it anything."""
        session = self._session
        if session is not None:
            if session.unanswered_s > STALLED_AFTER_S:
                waited = f"{session.unanswered_s:.0f} s"
                return Health(DaemonState.STALLED, DaemonStalled(f"keepAlive unanswered for {waited}"))
            return Health(DaemonState.RUNNING, None)
        match self._problem:
            case DaemonStalled():
                return Health(DaemonState.STALLED, self._problem)
            case AuthenticationRefused():
                return Health(DaemonState.RUNNING, self._problem)
            case None:
                return Health(DaemonState.DOWN, DaemonUnreachable("no connection has been made yet"))
            case _:
                return Health(DaemonState.DOWN, self._problem)

    async def snapshot(self) -> Snapshot:
        """Read the daemon once: 2 calls and one per loaded instance, plus slow facts when they are due.

        Raises the problem at once when there is no session, and whatever LlmsterError the reading meets.
        """
        return await self._require_session().snapshot()

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

        Nobody reopens it but the caller: wait for `connected()` and subscribe again.
        """
        connection = await self._require_session().connection("diagnostics")
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
        return await self._require_session().connection(namespace)

    async def connected(self) -> None:
        """Wait, for as long as it takes, until there is a session."""
        await self._connected.wait()

    def _require_session(self) -> Session:
        if self._session is None:
            problem = self._problem or DaemonUnreachable("no connection has been made yet")
            raise problem.anew()
        return self._session

    async def _run_session(self) -> LlmsterError:
        """Live through one session; return what ended it, or what kept it from starting."""
        async with asyncio.TaskGroup() as group:
            session = Session(
                base_url=_socket_url(self.url),
                identity=self._identity,
                rest_url=self.url if self._has_token else None,
                timeouts=self._timeouts,
                tally=self.tally,
                group=group,
                estimates=self._estimates,
            )
            try:
                async with self._opening:
                    await session.open()
                self._welcome(session)
                return await session.over()
            except LlmsterError as error:
                return error
            finally:
                self._session = None
                self._connected.clear()
                await session.close()

    def _welcome(self, session: Session) -> None:
        pid = session.process.pid
        # In a container every daemon may be pid 1: there only an upgrade shows as a restart.
        process = (pid, session.version.version)
        if self._last_process is not None and process != self._last_process:
            self.restarts += 1
        self._last_process = process
        self.sessions += 1
        self.version = session.version.version
        self._welcomed_at = time.monotonic()
        self._session, self._problem = session, None
        self._settled.set()
        self._connected.set()
        log.info(
            "connected to daemon",
            extra={"daemon": self.name, "url": self.url, "version": session.version.version, "pid": pid},
        )

    def _note(self, problem: LlmsterError) -> None:
        if self._problem is None or self._problem.kind != problem.kind:
            log.warning(
                "daemon not readable; trying again",
                extra={"daemon": self.name, "url": self.url, "kind": problem.kind, "problem": str(problem)},
            )
        self.failures[problem.kind] += 1
        self._problem = problem.anew()
        self._settled.set()

    def _was_steady(self) -> bool:
        """Whether the latest session was a good one; how long it took to fail in opening it does not count."""
        return self._welcomed_at is not None and time.monotonic() - self._welcomed_at > STEADY_AFTER_S

    def _backoff_s(self, attempt: int) -> float:
        longest = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(attempt, 10))
        return float(longest * (0.5 + 0.5 * self._jitter()))


def _socket_url(url: str) -> str:
    """Turn http(s)://host:port into ws(s)://host:port."""
    return "ws" + url.removeprefix("http").rstrip("/")
