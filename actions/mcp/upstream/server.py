"""One upstream server: started on first use, restarted after a failure, stopped when idle.

Does not depend on policy and clients. Tools are listed on each new connection before other requests.
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

from actions.mcp.redaction import redact_text
from actions.mcp.upstream.coalesced import Coalesced
from actions.mcp.upstream.connection import Connection, ConnectionLost
from actions.mcp.upstream.limits import Usage
from actions.mcp.upstream.listing import MAX_PAGES, Listing, read_tools
from actions.mcp.upstream.spec import ServerSpec
from actions.mcp.upstream.streams import before_sending
from actions.metrics import Metrics
from exporter.catalogue import mcp as rows

log = logging.getLogger(__name__)

R = TypeVar("R", bound=BaseModel)
P = TypeVar("P", bound=types.PaginatedResult)
T = TypeVar("T")

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MOST_S: Final = 30.0
"""Backoff between restarts, seconds. The first restart is immediate."""

LISTING_PACE_S: Final = 0.5
"""Minimum time between listings caused by the server's list-changed notifications, seconds."""

ListChanged = Callable[[str], None]
"""Called with `tools`, `prompts` or `resources`."""

LEFT: Final = "was removed from the policy, or changed there"


class UpstreamDown(Exception):
    """The server cannot be reached. The message has the reason and none of its secrets."""


class Upstream:
    """One server. `group` owns its tasks; `list_changed` is called on changes; `listed` is awaited after a listing."""

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
        """The tools as last listed; None before the first listing."""
        self.uses_initialize: bool | None = None
        """Whether the server uses `initialize` instead of `server/discover`; None while unknown."""
        self.protocol_known: Callable[[Upstream], None] = _nothing
        """Called when `uses_initialize` was detected."""
        self.is_closed = False
        """Whether the server was removed from the policy, or redefined. Later calls fail."""
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
        """The state: up, starting, failed or idle."""
        if self._current is not None:
            return "up" if self._current.ready.done() else "starting"
        return "failed" if self.last_fault is not None else "idle"

    @property
    def pid(self) -> int | None:
        """The process id, while there is one."""
        return self._current.program.pid if self._current is not None else None

    @property
    def protocol_version(self) -> str | None:
        """The negotiated protocol version, while connected."""
        return self._current.protocol_version if self._current is not None else None

    @property
    def session_id(self) -> str | None:
        """The session id of an HTTP server, while connected."""
        return self._current.health.session_id if self._current is not None else None

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Connection]:
        """Use the connection; open one if there is none. Raises UpstreamDown, ConnectionLost."""
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
                self._current = None  # running calls go on; new calls use a new connection
            if connection is not self._current and not connection.in_use:
                connection.stop.set()

    async def request(
        self,
        request: types.Request[Any, Any],
        result_type: type[R],
        *,
        timeout_s: float,
        progress: ProgressFnT | None = None,
        ready: Callable[[], Awaitable[None]] | None = None,
    ) -> R:
        """Send a request; once more on a new connection if the server certainly did not receive it.

        `ready` is awaited last, when nothing of the request has been sent, and may raise. Raises UpstreamDown,
        ConnectionLost, MCPError for the server's own error, ValidationError, TimeoutError.
        """

        async def send() -> R:
            async with self.lease() as connection:
                started, token = time.monotonic(), before_sending.set(ready)
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
                finally:
                    before_sending.reset(token)

        return await _retry_if_not_received(send)

    async def list_tools(self) -> Listing:
        """List the tools now. Raises UpstreamDown, ConnectionLost, MCPError, ValidationError."""
        return await self._lists.run()

    async def known_tools(self) -> Listing:
        """Return the tools of this connection; list them again after a change notification. Raises as `list_tools`."""
        if self._current is None or not self._current.is_up:
            async with self.lease():
                pass
        if self.listing is None or self._listed_on is not self._current:
            return await self.list_tools()
        return await self._lists.run(paced=True) if self._is_stale else self.listing

    async def has_prompt(self, name: str) -> bool:
        """Tell whether a prompt is listed now, by exactly this name. Raises as `request`."""
        pages = self._pages("prompts", types.ListPromptsRequest, types.ListPromptsResult)
        return any([any(one.name == name for one in page.prompts) async for page in pages])

    async def has_template(self, uri: str) -> bool:
        """Tell whether a resource template is listed now, spelt exactly so. Raises as `request`."""
        pages = self._pages(
            "resources", types.ListResourceTemplatesRequest, types.ListResourceTemplatesResult
        )
        return any([any(one.uri_template == uri for one in page.resource_templates) async for page in pages])

    async def _pages(
        self, capability: str, request: Callable[..., types.Request[Any, Any]], result_type: type[P]
    ) -> AsyncIterator[P]:
        """Read a list page by page, up to MAX_PAGES; nothing if the server lacks the capability."""
        async with self.lease() as connection:
            if not connection.offers(capability):
                return
        cursor = None
        for _ in range(MAX_PAGES):
            page = await self.request(
                request(params=types.PaginatedRequestParams(cursor=cursor)),
                result_type,
                timeout_s=self.spec.limits.start_timeout_s,
            )
            yield page
            cursor = page.next_cursor
            if cursor is None:
                break

    async def _list_now(self) -> Listing:
        async def read() -> Listing:
            async with self.lease() as connection:
                return await self._read_listing(connection)

        return await _retry_if_not_received(read)

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
        """Return why the connection ended, for callers whose calls ended with it."""
        return self.last_fault or "the connection was closed"

    async def close(self) -> None:
        """Stop the server and wait until it has stopped. A successor of the same name may be up meanwhile."""
        self._report_up(None)
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
            raise UpstreamDown(f"{self.spec.name} is down: {self.last_fault}; next try in {wait_s:.1f} s")
        connection = self._current = Connection(
            self.spec, opened=self._opened, changed=self._changed, dropped=self._dropped
        )
        connection.task = self._group.create_task(self._own(connection), name=f"mcp server {self.spec.name}")
        return connection

    async def _own(self, connection: Connection) -> None:
        """Open, hold and close a connection. Raises nothing except cancellation."""

        def release() -> None:
            if self._current is connection:
                self._current = None  # later requests open a new connection

        def on_end() -> None:
            if connection.is_up:
                self.last_fault = connection.program.exit_reason()
                release()

        fault: str | None = None
        try:
            for mode in ("legacy", "auto") if self.uses_initialize else ("auto", "legacy"):
                fault = await connection.run(mode, on_end, release)
                if connection.is_up or not connection.program.reset():
                    break  # a program that exits on one handshake is restarted with the other
        except TimeoutError:
            self.uses_initialize = not self.uses_initialize  # silent: the other handshake next time
            fault = f"no handshake within {self.spec.limits.start_timeout_s:g} s"
        except asyncio.CancelledError:
            connection.ready.cancel()
            raise
        finally:
            release()
            self._ended(connection, None if self.is_closed else fault)

    async def _opened(self, connection: Connection) -> None:
        """List the tools before other requests. A server whose listing fails has no tools; its prompts can be used."""
        try:
            await self._read_listing(connection)
        except (MCPError, ValidationError) as error:
            lost = await connection.loss(error, self.why) if isinstance(error, MCPError) else None
            if lost is not None and not lost.is_malformed:
                raise
            self.listing = None
            log.warning(
                "tools list failed", extra={"server": self.spec.name, "problem": type(error).__name__}
            )
        if self.uses_initialize != (not connection.is_modern):
            self.uses_initialize = not connection.is_modern
            self.protocol_known(self)
        self.last_fault = None
        self._report_up(1)
        self._metrics.count(rows.SERVER_STARTS, self.spec.name, "done")

    def _ended(self, connection: Connection, fault: str | None) -> None:
        name = self.spec.name
        is_last = self._current is None  # a successor may be up already
        if fault is None:
            if is_last:
                self.last_fault = None
                self._report_up(None)
            return
        problem = redact_text(connection.program.with_stderr(fault), self.spec.reach.secrets)[:1_000]
        if is_last:
            self.last_fault = problem
            self._report_up(0)
        if not connection.ready.done():
            self._metrics.count(rows.SERVER_STARTS, name, "failed")
            connection.ready.set_exception(UpstreamDown(f"{name} cannot be started: {problem}"))
        self._failures += 1
        if self._failures > 1:
            delay_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(self._failures - 2, 10))
            self._not_before = time.monotonic() + delay_s
        log.warning("upstream server failed", extra={"server": name, "problem": problem})

    def _report_up(self, value: int | None) -> None:
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


async def _retry_if_not_received(send: Callable[[], Awaitable[T]]) -> T:
    """Send; once more if the server certainly did not receive the request."""
    try:
        return await send()
    except ConnectionLost as lost:
        if not lost.not_received:
            raise
    return await send()


def _nothing(_upstream: Upstream) -> None:
    return None
