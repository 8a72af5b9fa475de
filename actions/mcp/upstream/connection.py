"""One tool server: started on first use, started again after it died, stopped when nobody used it for a while.

Knows no policy and no client. The official SDK's client speaks; a task of our own owns the connection, because a
connection must be opened and closed by the same task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import mcp_types as types
from mcp import Client
from mcp.client import ClientSession, IncomingMessage
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from actions.mcp.redaction import redact_text
from actions.mcp.upstream.http import web_transport
from actions.mcp.upstream.limits import Usage
from actions.mcp.upstream.listing import MAX_PAGES, Listing
from actions.mcp.upstream.spec import Http, ServerSpec, Stdio
from actions.mcp.upstream.stdio import Program, stdio_transport
from actions.metrics import Metrics
from exporter.catalogue import mcp as rows

log = logging.getLogger(__name__)

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MOST_S: Final = 30.0
"""The first restart comes at once; then doubling from the first to the most."""

_APPLICATION_CODES: Final = frozenset(
    {types.INVALID_PARAMS, types.METHOD_NOT_FOUND, types.REQUEST_TIMEOUT, -32002}  # -32002: no such resource
)
"""Errors of a server that is well. After others, a server at a URL is connected to anew."""

ListChanged = Callable[[str], Awaitable[None]]
"""Is told `tools`, `prompts` or `resources`."""

_CHANGES: Final = {
    types.ToolListChangedNotification: "tools",
    types.PromptListChangedNotification: "prompts",
    types.ResourceListChangedNotification: "resources",
}


LEFT: Final = "was removed from the policy, or changed there"


class UpstreamDown(Exception):
    """The server cannot be reached. The message says why, and holds none of its secrets."""


class _Running:
    """One connection."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self.stop = asyncio.Event()
        self.program = Program()
        self.in_use = 0
        self.used_at = time.monotonic()
        self.task: asyncio.Task[None] | None = None


class Upstream:
    """One server. `group` owns its tasks; `list_changed` hears of changed lists."""

    def __init__(
        self, spec: ServerSpec, *, group: asyncio.TaskGroup, metrics: Metrics, list_changed: ListChanged
    ) -> None:
        self.spec = spec
        self.usage = Usage(spec.limits)
        self.listing: Listing | None = None
        """The tools as last listed; None before the first time."""
        self._group = group
        self._metrics = metrics
        self._list_changed = list_changed
        self._running: _Running | None = None
        self._failures = 0
        self._not_before = 0.0
        self.is_closed = False
        """Whether it left the policy, or changed there: then calls that still come get nothing."""
        self.last_fault: str | None = None

    @property
    def state(self) -> str:
        """Say how it is: up, starting, failed or idle."""
        if self._running is not None:
            return "up" if self._running.ready.done() else "starting"
        return "failed" if self.last_fault is not None else "idle"

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._running.program.pid if self._running is not None else None

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncIterator[ClientSession]:
        """Use the connection, making it first if there is none. Raises UpstreamDown."""
        running = self._running or self._start()
        running.in_use += 1
        try:
            client = await asyncio.shield(running.ready)
            yield client.session
            self._failures = 0
        except MCPError as error:
            if isinstance(self.spec.reach, Http) and error.code not in _APPLICATION_CODES:
                self._retire(running)
            raise
        finally:
            running.in_use -= 1
            running.used_at = time.monotonic()

    async def list_tools(self) -> Listing:
        """List the tools, all pages. Raises UpstreamDown, MCPError."""
        async with self.lease() as session:
            tools: list[types.Tool] = []
            if offers(session, "tools"):
                cursor: str | None = None
                for _ in range(MAX_PAGES):
                    page = await session.send_request(
                        types.ListToolsRequest(params=types.PaginatedRequestParams(cursor=cursor)),
                        types.ListToolsResult,
                        request_read_timeout_seconds=self.spec.limits.start_timeout_s,
                    )
                    tools += page.tools
                    cursor = page.next_cursor
                    if cursor is None:
                        break
        self.listing = Listing(tools)
        if self.listing.dropped:
            log.warning(
                "tools dropped: named twice, named too long or too many",
                extra={"server": self.spec.name, "dropped": self.listing.dropped},
            )
        return self.listing

    def why(self) -> str:
        """Say why the connection ended, for a caller whose call it took along."""
        return self.last_fault or "the connection was closed"

    async def close(self) -> None:
        """Stop the server for good and wait until it has stopped. Another of its name may be up meanwhile."""
        self._tell_up(None)
        self.is_closed = True
        running = self._running
        if running is not None:
            self._retire(running)
            if running.task is not None:
                await asyncio.wait([running.task])

    def _start(self) -> _Running:
        if self.is_closed:
            raise UpstreamDown(f"{self.spec.name} {LEFT}")
        wait_s = self._not_before - time.monotonic()
        if wait_s > 0:
            raise UpstreamDown(
                f"{self.spec.name} cannot be used: {self.last_fault}; it is tried again in {wait_s:.1f} s"
            )
        running = self._running = _Running()
        running.ready.add_done_callback(_seen)
        running.task = self._group.create_task(self._own(running), name=f"mcp server {self.spec.name}")
        return running

    def _retire(self, running: _Running) -> None:
        """Let a connection end; the next use makes a new one."""
        running.stop.set()
        if self._running is running:
            self._running = None

    async def _own(self, running: _Running) -> None:
        """Open the connection, hold it, close it. Never raises but for cancellation."""
        fault: str | None = None
        try:
            fault = await self._hold(running)
        except asyncio.CancelledError:
            running.ready.cancel()
            raise
        except TimeoutError:
            fault = f"it did not start within {self.spec.limits.start_timeout_s:g} s"
        except Exception as error:  # noqa: BLE001 - whatever a tool server provokes must not end the gate
            gone = running.program.exit_status is not None or running.program.fault is not None
            fault = running.program.obituary() if gone else _named(error)
        finally:
            if self._running is running:
                self._running = None
            self._ended(running, fault)

    async def _hold(self, running: _Running) -> str | None:
        """Return why it ended; None when it was meant to."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def on_end() -> None:
            self.last_fault = running.program.obituary()
            if self._running is running:
                self._running = None  # whoever comes now starts a new one
            ended.set()

        transport = (
            stdio_transport(self.spec.reach, running.program, on_end)
            if isinstance(self.spec.reach, Stdio)
            else web_transport(self.spec.reach)
        )
        client = Client(
            transport,
            message_handler=self._heard,
            cache=None,
            client_info=types.Implementation(name="daemonpulse-gate", version="1"),
        )
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(self.spec.limits.start_timeout_s):
                await stack.enter_async_context(client)
            if client.protocol_version in MODERN_PROTOCOL_VERSIONS:
                listener = loop.create_task(self._listen(client), name=f"mcp listen {self.spec.name}")
                stack.push_async_callback(_cancelled, listener)
            self.last_fault = None
            self._tell_up(1)
            self._metrics.count(rows.SERVER_STARTS, self.spec.name, "done")
            running.ready.set_result(client)
            await self._until_unused(running, ended)
            meant = not ended.is_set()
        return None if meant else running.program.obituary()

    async def _until_unused(self, running: _Running, ended: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (running.stop, ended)]
        try:
            while True:
                idle_s = time.monotonic() - running.used_at if not running.in_use else 0.0
                left_s = self.spec.limits.idle_s - idle_s
                done, _ = await asyncio.wait(
                    waits, timeout=max(left_s, 0.01), return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    return
                if not running.in_use and time.monotonic() - running.used_at >= self.spec.limits.idle_s:
                    if self._running is running:
                        self._running = None  # whoever comes now starts a new one
                    return
        finally:
            for wait in waits:
                wait.cancel()

    def _ended(self, running: _Running, fault: str | None) -> None:
        name = self.spec.name
        is_last = self._running is None  # another may be up already while this one was still being closed
        if fault is None:
            if is_last:
                self.last_fault = None
                self._tell_up(None)
            return
        started = running.ready.done()
        tail = " / ".join(line for line in list(running.program.stderr)[-3:] if line.strip())
        said = redact_text(f"{fault}: {tail}" if tail else fault, self.spec.reach.secrets)[:500]
        if is_last:
            self.last_fault = said
            self._tell_up(0)
        if not started:
            self._metrics.count(rows.SERVER_STARTS, name, "failed")
            running.ready.set_exception(UpstreamDown(f"{name} cannot be started: {said}"))
        self._failures += 1
        if self._failures > 1:
            delay_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(self._failures - 2, 10))
            self._not_before = time.monotonic() + delay_s
        log.warning("a tool server failed", extra={"server": name, "problem": said})

    def _tell_up(self, value: int | None) -> None:
        if not self.is_closed:
            self._metrics.set(rows.SERVER_UP, value, self.spec.name)

    async def _heard(self, message: IncomingMessage) -> None:
        """Take note of what the server says unasked; errors of the transport are logged, not answered."""
        what = _CHANGES.get(type(message))  # type: ignore[arg-type]  # other types are not in it
        if what is not None:
            await self._list_changed(what)
        elif isinstance(message, Exception):
            log.warning(
                "a tool server sent something malformed",
                extra={"server": self.spec.name, "problem": type(message).__name__},
            )

    async def _listen(self, client: Client) -> None:
        """Subscribe to changed lists: how servers of 2026-07-28 and later tell of them."""
        try:
            async with client.listen(
                tools_list_changed=True, prompts_list_changed=True, resources_list_changed=True
            ) as subscription:
                async for event in subscription:
                    name = type(event).__name__.removesuffix("ListChanged").lower()
                    await self._list_changed(name)
        except Exception as error:  # noqa: BLE001 - a server without subscriptions is a server still
            log.info(
                "a tool server has no subscriptions",
                extra={"server": self.spec.name, "problem": type(error).__name__},
            )


def offers(session: ClientSession, what: str) -> bool:
    """Tell whether the server has tools, prompts, resources or completions at all."""
    capabilities = session.server_capabilities
    return capabilities is not None and getattr(capabilities, what) is not None


def _seen(ready: asyncio.Future[Any]) -> None:
    """Look at an exception that perhaps nobody else waits for any more."""
    if not ready.cancelled():
        ready.exception()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _named(error: BaseException) -> str:
    """Describe an exception, out of whatever groups it came in."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
