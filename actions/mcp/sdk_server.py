"""What the gate adds to the SDK's server: change notices for older clients, ordered progress, who called.

Does not know the policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import mcp_types as types
from mcp.server import Server, ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.models import InitializationOptions
from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPError

from actions.domain.actor import Actor

Context = ServerRequestContext[Any, Any]

ACTOR_KEY: Final = "daemonpulse.actor"
"""Where http_server.py leaves the actor in a request's scope."""

NOTIFY_S: Final = 1.0
"""How long a client may take to accept a notification."""


class SdkServer(Server[dict[str, Any]]):
    """The SDK's server, saying that its lists may change also to clients of the older protocol."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """Announce changes of lists."""
        changes = notification_options or NotificationOptions(
            prompts_changed=True, resources_changed=True, tools_changed=True
        )
        return super().create_initialization_options(changes, experimental_capabilities, extensions)


class Progress:
    """Hands a call's progress on. The SDK does so in tasks of their own, which the result would overtake."""

    def __init__(self, session: ServerSession) -> None:
        self._session = session
        self._under_way: set[asyncio.Future[None]] = set()

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """Hand one on."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(done)
        try:
            await self._session.report_progress(progress, total, message)
        finally:
            self._under_way.discard(done)
            done.cancel()

    async def passed_on(self) -> None:
        """Wait until the client has what came before the result, unless it takes its time."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=NOTIFY_S)


def actor_of(context: Context) -> Actor:
    """Name who called: http_server.py let nobody through without."""
    actor = context.request.scope.get(ACTOR_KEY) if context.request is not None else None
    if not isinstance(actor, Actor):
        raise MCPError(types.INVALID_REQUEST, "DaemonPulse gate: no token")
    return actor


def token_of(context: Context) -> str:
    """Name the token that called."""
    return actor_of(context).token_name


def passed_meta(context: Context) -> Any:
    """Pass a request's `_meta` on, but for what belongs to one connection. The SDK puts the trace context in anew."""
    return {
        key: value
        for key, value in (context.meta or {}).items()
        if key not in {"progress_token", "progressToken"} and not key.startswith("io.modelcontextprotocol/")
    } or None


def wants_progress(context: Context) -> bool:
    """Tell whether the client asked to hear of progress."""
    meta: Mapping[str, Any] = context.meta or {}
    return "progress_token" in meta or "progressToken" in meta


def span_attributes(context: Context) -> dict[str, str]:
    """Name the request as OpenTelemetry's semantic conventions for MCP do."""
    found = {"mcp.protocol.version": context.protocol_version}
    if context.request_id is not None:
        found["jsonrpc.request.id"] = str(context.request_id)[:100]
    session = context.request.headers.get("mcp-session-id") if context.request is not None else None
    if session is not None:
        found["mcp.session.id"] = session[:100]
    return found
