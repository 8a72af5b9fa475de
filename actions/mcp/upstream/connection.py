"""One connection to an upstream server by the SDK's client, from handshake to close.

Does not depend on policy, clients or other connections. One task opens and closes it, as anyio requires.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

import mcp_types as types
from mcp import Client
from mcp.client import ClientSession, IncomingMessage
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from opentelemetry.trace import Span
from pydantic import ValidationError

from actions.mcp.upstream.answers import NOT_VALID
from actions.mcp.upstream.http import http_transport
from actions.mcp.upstream.large_messages import limit_of
from actions.mcp.upstream.sdk import TransportStreams
from actions.mcp.upstream.spec import LOOK_PLACES, ServerSpec, Stdio
from actions.mcp.upstream.stdio import Program, stdio_transport
from actions.mcp.upstream.streams import Exchange, Health, Lost

log = logging.getLogger(__name__)

_EXIT_WAIT_S: Final = 2.0

_CHANGES: Final = {
    types.ToolListChangedNotification: "tools",
    types.PromptListChangedNotification: "prompts",
    types.ResourceListChangedNotification: "resources",
}


class ConnectionLost(Exception):
    """The connection ended before the response. The message has the reason."""

    def __init__(self, lost: Lost) -> None:
        self.not_received = lost.not_received
        self.is_malformed = lost.is_malformed
        super().__init__(lost.reason)


class Connection:
    """One connection. `ready` holds its session once it is open.

    `opened` is awaited before that. `changed` is called with `tools`, `prompts` or `resources`; `dropped` with the
    method and number of malformed items.
    """

    def __init__(
        self,
        spec: ServerSpec,
        *,
        opened: Callable[[Connection], Awaitable[None]],
        changed: Callable[[str], None],
        dropped: Callable[[str, int], None],
    ) -> None:
        self.spec = spec
        self.ready: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self.ready.add_done_callback(_retrieve_exception)
        self.stop = asyncio.Event()
        self.ended = asyncio.Event()
        self.program = Program()
        self.health = Health()
        self.in_use = 0
        self.used_at = time.monotonic()
        self.task: asyncio.Task[None] | None = None
        self.protocol_version = ""
        self._client: Client | None = None
        self._opened = opened
        self._changed = changed
        self._dropped = dropped

    @property
    def is_up(self) -> bool:
        """Whether it was opened."""
        return self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None

    @property
    def session(self) -> ClientSession:
        """The SDK's session; also while `opened` runs."""
        if self._client is None:
            raise RuntimeError("the connection is not open")
        return self._client.session

    @property
    def is_modern(self) -> bool:
        """Whether the protocol is 2026-07-28 or later, without `initialize`."""
        return self.protocol_version in MODERN_PROTOCOL_VERSIONS

    def offers(self, what: str) -> bool:
        """Tell whether the server has a capability: tools, prompts, resources or completions."""
        capabilities = self.session.server_capabilities
        return capabilities is not None and getattr(capabilities, what) is not None

    async def run(self, mode: str, on_end: Callable[[], None], release: Callable[[], None]) -> str | None:
        """Open by `initialize` ("legacy") or detection ("auto"), hold, close. Return the fault, None if none.

        `on_end` is called when the server ends the connection, `release` before it is closed. Raises TimeoutError
        when the server does not start in time.
        """
        self.ended.clear()
        try:
            return await self._hold(mode, on_end, release)
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001 - a tool server must not end the gate
            if self.program.has_ended:
                return self.program.exit_reason()
            return self.health.problem or _named(error)

    async def loss(self, error: MCPError, why: Callable[[], str]) -> Lost | None:
        """Return why the request was lost; None if the error is the server's own."""
        data = error.error.data
        if isinstance(data, Lost):
            return data
        if self.program.stdin_closed and not self.ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EXIT_WAIT_S):
                    await self.ended.wait()
        return Lost(why()) if self.ended.is_set() or self.program.stdin_closed else None

    async def _hold(self, mode: str, on_end: Callable[[], None], release: Callable[[], None]) -> str | None:
        client = Client(
            self._transport(on_end),
            mode=mode,
            message_handler=self._on_message,
            cache=None,
            client_info=types.Implementation(name="daemonpulse-gate", version="1"),
        )
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(self.spec.limits.start_timeout_s):
                await stack.enter_async_context(client)
                self._client, self.protocol_version = client, client.protocol_version
                if self.is_modern:
                    listener = asyncio.create_task(self._listen(client), name=f"mcp listen {self.spec.name}")
                    stack.push_async_callback(_cancelled, listener)
                await self._opened(self)
            self.ready.set_result(client.session)
            await self._until_unused()
            release()
            if self.ended.is_set():
                return self.program.exit_reason()
        return None

    @asynccontextmanager
    async def _transport(self, on_end: Callable[[], None]) -> AsyncIterator[TransportStreams]:
        def end() -> None:
            on_end()
            self.ended.set()

        whole_bytes = limit_of(self.spec.limits.output_cap_bytes)
        inner = (
            stdio_transport(self.spec.reach, self.program, end, whole_bytes=whole_bytes)
            if isinstance(self.spec.reach, Stdio)
            else http_transport(
                self.spec.reach,
                self.health,
                whole_bytes=whole_bytes,
                calls=self.spec.limits.places + LOOK_PLACES,
            )
        )
        async with inner as streams:
            yield Exchange(self.health, self._dropped, _set_request_id).wrap(streams)

    async def _until_unused(self) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (self.stop, self.ended)]
        idle_s = self.spec.limits.idle_s
        try:
            while self.in_use or time.monotonic() - self.used_at < idle_s:
                since = time.monotonic() if self.in_use else self.used_at
                left_s = max(since + idle_s - time.monotonic(), 0.01)
                if (await asyncio.wait(waits, timeout=left_s, return_when=asyncio.FIRST_COMPLETED))[0]:
                    return
        finally:
            for wait in waits:
                wait.cancel()

    async def _on_message(self, message: IncomingMessage) -> None:
        """Process notifications; errors of the transport are logged."""
        what = _CHANGES.get(type(message))  # type: ignore[arg-type]  # other types are not in it
        if what is not None:
            self._changed(what)
        elif isinstance(message, Exception):
            log.warning(
                "malformed message received",
                extra={"server": self.spec.name, "problem": type(message).__name__},
            )

    async def _listen(self, client: Client) -> None:
        """Subscribe to list changes, as protocol 2026-07-28 and later require."""
        try:
            async with client.listen(
                tools_list_changed=True, prompts_list_changed=True, resources_list_changed=True
            ) as subscription:
                async for event in subscription:
                    self._changed(type(event).__name__.removesuffix("ListChanged").lower())
        except Exception as error:  # noqa: BLE001 - subscriptions are optional
            log.info(
                "upstream server has no subscriptions",
                extra={"server": self.spec.name, "problem": type(error).__name__},
            )


upstream_request: ContextVar[Span | None] = ContextVar("upstream_request", default=None)
"""The span of the request being sent; the SDK assigns the request id later."""


def _set_request_id(request_id: str) -> None:
    span = upstream_request.get()
    if span is not None:
        span.set_attribute("jsonrpc.request.id", request_id)


def _retrieve_exception(ready: asyncio.Future[Any]) -> None:
    """Retrieve an exception, so that asyncio does not log it as never retrieved."""
    if not ready.cancelled():
        ready.exception()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _named(error: BaseException) -> str:
    """Describe an exception; of a group, its first one."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if isinstance(error, ValidationError):  # whose words quote the response
        return NOT_VALID
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
