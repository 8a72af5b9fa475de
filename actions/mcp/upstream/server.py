"""One upstream server: started on first use, started again after it died, stopped when it was not used for a while.

Does not know policy and clients. Tools are listed on each new connection before it carries anything else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import mcp_types as types
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, ValidationError

from actions.mcp.coalesced import Coalesced
from actions.mcp.redaction import redact_text
from actions.mcp.upstream.connection import Connection, ConnectionLost
from actions.mcp.upstream.limits import Usage
from actions.mcp.upstream.listing import Listing, read_tools
from actions.mcp.upstream.spec import ServerSpec
from actions.metrics import Metrics
from exporter.catalogue import mcp as rows

log = logging.getLogger(__name__)

R = TypeVar("R", bound=BaseModel)
T = TypeVar("T")

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MOST_S: Final = 30.0
"""The first restart comes at once; then doubling from the first to the most."""

LISTING_PACE_S: Final = 0.5
"""Least time between two listings that the server itself asked for by saying that its tools have changed."""

ListChanged = Callable[[str], None]
"""Is told `tools`, `prompts` or `resources`."""

LEFT: Final = "was removed from the policy, or changed there"


class UpstreamDown(Exception):
    """The server cannot be reached. The message says why, and holds none of its secrets."""


class Upstream:
    """One server. `group` owns its tasks, `list_changed` hears of changes, and `listed` is awaited after a listing."""

    def __init__(
        self,
        spec: ServerSpec,
        *,
        group: asyncio.TaskGroup,
        metrics: Metrics,
        list_changed: ListChanged,
        listed: Callable[[Upstream], Awaitable[None]] | None = None,
    ) -> None:
        self.spec = spec
        self.usage = Usage(spec.limits)
        self.listing: Listing | None = None
        """The tools as last listed; None before the first time."""
        self.speaks_initialize: bool | None = None
        """Whether the server answers `initialize` and not `server/discover`; None while that is not known."""
        self.era_known: Callable[[Upstream], None] = _nothing
        """Is told when `speaks_initialize` was found out."""
        self.is_closed = False
        """Whether it left the policy, or changed there: then calls that still come get nothing."""
        self.last_fault: str | None = None
        self._listed = listed
        self._is_stale = False
        self._lists = Coalesced(self._list_now, pace_s=LISTING_PACE_S)
        self._group = group
        self._metrics = metrics
        self._list_changed = list_changed
        self._current: Connection | None = None
        self._listed_on: Connection | None = None
        self._failures = 0
        self._not_before = 0.0

    @property
    def state(self) -> str:
        """Say how it is: up, starting, failed or idle."""
        if self._current is not None:
            return "up" if self._current.ready.done() else "starting"
        return "failed" if self.last_fault is not None else "idle"

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._current.program.pid if self._current is not None else None

    @property
    def protocol_version(self) -> str | None:
        """The version that was agreed on, while there is a connection."""
        return self._current.protocol_version if self._current is not None else None

    @property
    def session_id(self) -> str | None:
        """The session that a server at a URL has opened, while there is a connection."""
        return self._current.health.session_id if self._current is not None else None

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Connection]:
        """Use the connection, making it first if there is none. Raises UpstreamDown, ConnectionLost."""
        connection = self._current or self._start()
        connection.in_use += 1
        try:
            await asyncio.shield(connection.ready)
            yield connection
            self._failures = 0
        except MCPError as error:
            lost = await connection.loss(error, self.why)
            if lost is None:
                raise
            raise ConnectionLost(lost) from error
        finally:
            connection.in_use -= 1
            connection.used_at = time.monotonic()
            if connection.health.is_dead and self._current is connection:
                self._current = None  # calls that run on it go on; new ones get a new one
            if connection is not self._current and not connection.in_use:
                connection.stop.set()

    async def request(
        self,
        request: types.Request[Any, Any],
        result_type: type[R],
        *,
        timeout_s: float,
        progress: ProgressFnT | None = None,
        check: Callable[[], None] | None = None,
    ) -> R:
        """Send a request; once more, on a new connection, if the old one was gone before the server saw it.

        `check` looks at the listing of the very connection that is about to be used, and may raise. Raises
        UpstreamDown, ConnectionLost, MCPError for the server's own error, ValidationError, TimeoutError.
        """

        async def send() -> R:
            async with self.lease() as connection:
                if check is not None:
                    check()
                started = time.monotonic()
                try:
                    return await connection.session.send_request(
                        request,
                        result_type,
                        request_read_timeout_seconds=timeout_s,
                        progress_callback=progress,
                    )
                except MCPError as error:
                    if error.code == types.REQUEST_TIMEOUT and time.monotonic() - started >= timeout_s:
                        raise TimeoutError from error  # the SDK's; earlier, the code is the server's own
                    raise

        return await _again_if_not_done(send)

    async def list_tools(self) -> Listing:
        """List the tools as they are now. Raises UpstreamDown, ConnectionLost, MCPError, ValidationError."""
        return await self._lists.run()

    async def known_tools(self) -> Listing:
        """Return the tools of this connection, listed anew if they are said to have changed. Raises as `list_tools`."""
        if self._current is None or not self._current.is_up:
            async with self.lease():
                pass
        if self.listing is None or self._listed_on is not self._current:
            return await self.list_tools()
        return await self._lists.run(paced=True) if self._is_stale else self.listing

    async def _list_now(self) -> Listing:
        async def read() -> Listing:
            async with self.lease() as connection:
                return await self._read_listing(connection)

        return await _again_if_not_done(read)

    async def _read_listing(self, connection: Connection) -> Listing:
        self._is_stale = False
        timeout_s = self.spec.limits.start_timeout_s
        listing = await read_tools(connection.session, timeout_s) if connection.offers("tools") else Listing()
        self.listing, self._listed_on = listing, connection
        if listing.dropped:
            self._dropped("tools/list", listing.dropped)
        if self._listed is not None:
            await self._listed(self)
        return listing

    def why(self) -> str:
        """Say why the connection ended, for a caller whose call it took along."""
        return self.last_fault or "the connection was closed"

    async def close(self) -> None:
        """Stop the server for good and wait until it has stopped. Another of its name may be up meanwhile."""
        self._tell_up(None)
        self.is_closed = True
        self._lists.close()
        connection, self._current = self._current, None
        if connection is not None:
            connection.ended.set()
            if connection.task is not None:
                if not connection.ready.done():
                    connection.ready.set_exception(UpstreamDown(f"{self.spec.name} {LEFT}"))
                    connection.task.cancel()
                await asyncio.wait([connection.task])

    def _start(self) -> Connection:
        if self.is_closed:
            raise UpstreamDown(f"{self.spec.name} {LEFT}")
        wait_s = self._not_before - time.monotonic()
        if wait_s > 0:
            raise UpstreamDown(
                f"{self.spec.name} cannot be used: {self.last_fault}; it is tried again in {wait_s:.1f} s"
            )
        connection = self._current = Connection(
            self.spec, opened=self._opened, changed=self._changed, dropped=self._dropped
        )
        connection.task = self._group.create_task(self._own(connection), name=f"mcp server {self.spec.name}")
        return connection

    async def _own(self, connection: Connection) -> None:
        """Open the connection, hold it, close it. Never raises but for cancellation."""

        def let_go() -> None:
            if self._current is connection:
                self._current = None  # whoever comes now has a new one

        def on_end() -> None:
            if connection.is_up:
                self.last_fault = connection.program.obituary()
                let_go()

        fault: str | None = None
        try:
            for mode in ("legacy", "auto") if self.speaks_initialize else ("auto", "legacy"):
                fault = await connection.run(mode, on_end, let_go)
                if connection.is_up or not connection.program.begin_again():
                    break  # a program that ends when asked in one way is started anew and asked in the other
        except TimeoutError:
            self.speaks_initialize = not self.speaks_initialize  # silent: asked in the other way next time
            fault = f"it did not start within {self.spec.limits.start_timeout_s:g} s"
        except asyncio.CancelledError:
            connection.ready.cancel()
            raise
        finally:
            let_go()
            self._ended(connection, None if self.is_closed else fault)

    async def _opened(self, connection: Connection) -> None:
        """List the tools before anything passes; a server that cannot list them has none, and may have other things."""
        try:
            await self._read_listing(connection)
        except (MCPError, ValidationError) as error:
            if isinstance(error, MCPError) and await connection.loss(error, self.why) is not None:
                raise
            self.listing = None
            log.warning(
                "tools list failed", extra={"server": self.spec.name, "problem": type(error).__name__}
            )
        if self.speaks_initialize != (not connection.is_modern):
            self.speaks_initialize = not connection.is_modern
            self.era_known(self)
        self.last_fault = None
        self._tell_up(1)
        self._metrics.count(rows.SERVER_STARTS, self.spec.name, "done")

    def _ended(self, connection: Connection, fault: str | None) -> None:
        name = self.spec.name
        is_last = self._current is None  # another may be up already while this one was still being closed
        if fault is None:
            if is_last:
                self.last_fault = None
                self._tell_up(None)
            return
        said = redact_text(connection.program.with_last_words(fault), self.spec.reach.secrets)[:1_000]
        if is_last:
            self.last_fault = said
            self._tell_up(0)
        if not connection.ready.done():
            self._metrics.count(rows.SERVER_STARTS, name, "failed")
            connection.ready.set_exception(UpstreamDown(f"{name} cannot be started: {said}"))
        self._failures += 1
        if self._failures > 1:
            delay_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(self._failures - 2, 10))
            self._not_before = time.monotonic() + delay_s
        log.warning("upstream server failed", extra={"server": name, "problem": said})

    def _tell_up(self, value: int | None) -> None:
        if not self.is_closed:
            self._metrics.set(rows.SERVER_UP, value, self.spec.name)

    def _dropped(self, method: str, count: int) -> None:
        self._metrics.count(rows.ITEMS_DROPPED, self.spec.name, method, by=count)
        log.warning(
            "malformed items dropped", extra={"server": self.spec.name, "method": method, "items": count}
        )

    def _changed(self, what: str) -> None:
        self._is_stale = self._is_stale or what == "tools"
        self._list_changed(what)


async def _again_if_not_done(send: Callable[[], Awaitable[T]]) -> T:
    """Send; once more if the connection was gone before the server saw the request."""
    try:
        return await send()
    except ConnectionLost as lost:
        if not lost.not_done:
            raise
    return await send()


def _nothing(_upstream: Upstream) -> None:
    return None
