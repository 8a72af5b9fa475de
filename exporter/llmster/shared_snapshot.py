"""One snapshot of a daemon shared by concurrent callers: single flight, bounded age, bounded wait.

A snapshot belongs to the session it was read in; one of an earlier session is never given out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from exporter.llmster.errors import ConnectionLost, DaemonStalled, LlmsterError
from exporter.llmster.state import Snapshot

log = logging.getLogger(__name__)

FETCH_LIMIT_S: Final = 30.0
"""A fetch that takes longer is given up, so that the next caller starts a new one."""


class SnapshotClient(Protocol):
    """What is needed of a daemon's client."""

    name: str
    sessions: int
    """Sessions so far."""

    async def snapshot(self) -> Snapshot:
        """Read the daemon once. Raises LlmsterError."""
        ...


class SharedSnapshot:
    """The latest snapshot of one daemon, and the one fetch that is under way."""

    def __init__(
        self,
        client: SnapshotClient,
        *,
        limit_s: float | None = None,
        complete: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot,
        on_new: Callable[[Snapshot], None] = lambda _snapshot: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`complete` adds what is known besides the daemon's answers.

        `on_new` is called with every snapshot once; `limit_s` bounds one fetch (None: FETCH_LIMIT_S).
        """
        self.latest: Snapshot | None = None
        self._client = client
        self._limit_s = FETCH_LIMIT_S if limit_s is None else limit_s
        self._complete = complete
        self._on_new = on_new
        self._clock = clock
        self._latest_at = float("-inf")
        self._latest_session = -1
        self._fetch: asyncio.Task[Snapshot | LlmsterError] | None = None
        self._fetch_started_at = 0.0

    @property
    def age_s(self) -> float:
        """Seconds since the latest snapshot was complete; infinite when there is none of this session."""
        if self._latest_session != self._client.sessions:
            return float("inf")
        return max(0.0, self._clock() - self._latest_at)

    @property
    def fetching_s(self) -> float:
        """For how long the fetch under way has been going on; 0 when there is none."""
        if self._fetch is None or self._fetch.done():
            return 0.0
        return self._clock() - self._fetch_started_at

    async def get(self, *, max_age_s: float, within_s: float | None = None) -> Snapshot:
        """Return a snapshot younger than `max_age_s`, joining the fetch under way or starting one.

        Raises LlmsterError: DaemonStalled when `within_s` is over (the fetch goes on for others), else what it met.
        """
        if self.latest is not None and self.age_s < max_age_s:
            return self.latest
        fetch = self._join()
        done, _ = await asyncio.wait({fetch}, timeout=within_s)
        if not done:
            raise DaemonStalled(f"no complete answer after {self.fetching_s:.1f} s")
        outcome = ConnectionLost("the daemon is no longer read") if fetch.cancelled() else fetch.result()
        if isinstance(outcome, LlmsterError):
            raise outcome.anew()
        return outcome

    async def fresh(self) -> Snapshot:
        """Read the daemon now, sharing nothing: for a decision that must not rest on an earlier moment.

        Raises LlmsterError.
        """
        outcome = await self._read()
        if isinstance(outcome, LlmsterError):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Give up the fetch under way, if any."""
        if self._fetch is not None:
            self._fetch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._fetch

    def _join(self) -> asyncio.Task[Snapshot | LlmsterError]:
        if self._fetch is None or self._fetch.done():
            self._fetch_started_at = self._clock()
            self._fetch = asyncio.create_task(self._read(), name=f"snapshot of {self._client.name}")
        return self._fetch

    async def _read(self) -> Snapshot | LlmsterError:
        session = self._client.sessions
        try:
            async with asyncio.timeout(self._limit_s):
                snapshot = self._complete(await self._client.snapshot())
        except LlmsterError as error:
            return error
        except TimeoutError:
            return DaemonStalled(f"a snapshot took longer than {self._limit_s:g} s")
        except Exception as error:
            # A defect costs this reading, not the process and the other daemons with it.
            log.exception("snapshot failed", extra={"daemon": self._client.name})
            return LlmsterError(f"internal error: {type(error).__name__}")
        self.latest, self._latest_at, self._latest_session = snapshot, self._clock(), session
        self._on_new(snapshot)
        return snapshot
