"""Extensions of the SDK's server: list-changed capabilities, ordered progress, the actor of a request.

Does not depend on the policy.
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
"""Key of the actor in a request's ASGI scope, set by http_server.py."""

MAX_PROGRESS: Final = 4_096
"""Characters of a progress message, which no output cap counts."""

MAX_UNDER_WAY: Final = 100
"""Progress messages of a call that its client has not taken; later ones are dropped."""

NOTIFY_S: Final = 1.0
"""Timeout of one notification to a client, seconds."""


class SdkServer(Server[dict[str, Any]]):
    """The SDK's server; announces list changes to clients that use `initialize` too."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """Announce the list-changed capabilities."""
        changes = notification_options or NotificationOptions(
            prompts_changed=True, resources_changed=True, tools_changed=True
        )
        return super().create_initialization_options(changes, experimental_capabilities, extensions)


class Progress:
    """Forwards a call's progress, in order before the result. The SDK alone forwards it in tasks that may be late."""

    def __init__(self, session: ServerSession) -> None:
        self._session = session
        self._under_way: set[asyncio.Future[None]] = set()

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """Forward one notification, unless the client is far behind."""
        if len(self._under_way) >= MAX_UNDER_WAY:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(done)
        try:
            shown = message[:MAX_PROGRESS] if message is not None else None
            await self._session.report_progress(progress, total, shown)
        finally:
            self._under_way.discard(done)
            done.cancel()

    async def flush(self) -> None:
        """Wait until notifications under way are sent, at most NOTIFY_S."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=NOTIFY_S)


def actor_of(context: Context) -> Actor:
    """Return the actor of a request, set by http_server.py. Raises MCPError."""
    actor = context.request.scope.get(ACTOR_KEY) if context.request is not None else None
    if not isinstance(actor, Actor):
        raise MCPError(types.INVALID_REQUEST, "DaemonPulse gate: no token")
    return actor


def token_of(context: Context) -> str:
    """Return the name of the token of a request."""
    return actor_of(context).token_name


def wants_progress(context: Context) -> bool:
    """Tell whether the client requested progress notifications."""
    meta: Mapping[str, Any] = context.meta or {}
    return "progress_token" in meta or "progressToken" in meta


def span_attributes(context: Context) -> dict[str, str]:
    """Return the span attributes of a request, by OpenTelemetry's semantic conventions for MCP."""
    found = {"mcp.protocol.version": context.protocol_version, "network.transport": "tcp"}
    if context.request_id is not None:
        found["jsonrpc.request.id"] = str(context.request_id)[:100]
    session = context.request.headers.get("mcp-session-id") if context.request is not None else None
    if session is not None:
        found["mcp.session.id"] = session[:100]
    return found
