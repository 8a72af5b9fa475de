"""A connection until its TLS handshake is over: counted like any other, and with a deadline.

asyncio's own TLS server tells of a connection only after its handshake: a client that never finishes one would hold a
descriptor that is not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from typing import Any, Final

from exporter.shared.http_timeouts import PatientProtocol, is_admitted

HANDSHAKE_S: Final = 10.0
"""From the first byte that could be sent to the end of the handshake."""


class TlsHandshake(asyncio.Protocol):
    """Takes the place of a PatientProtocol, with the arguments that uvicorn makes one with, until there is TLS."""

    def __init__(self, tls: ssl.SSLContext, *, server_state: Any, **others: Any) -> None:
        self._tls = tls
        self._arguments = {"server_state": server_state, **others}
        self._connections: set[Any] = server_state.connections
        self._loop = asyncio.get_running_loop()
        self._since = math.inf
        self._early: list[bytes] = []
        """What came with the end of the handshake."""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it; when there are too many, another one gives way, or it is rejected."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._connections.add(self)
        if is_admitted(self._connections):
            self._since = self._loop.time()
            self._task = self._loop.create_task(self._shake_hands(), name="TLS handshake")
        else:
            self.give_way()

    def waited_for_since(self) -> float:
        """Tell since when its peer has owed the handshake."""
        return self._since

    def give_way(self) -> None:
        """End the connection."""
        self._since = math.inf
        self._connections.discard(self)
        self._transport.abort()

    shutdown = give_way

    def data_received(self, data: bytes) -> None:
        """Keep what came before the protocol that takes it."""
        self._early.append(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """Count it no more."""
        self._connections.discard(self)

    async def _shake_hands(self) -> None:
        """Shake hands; then hand over to HTTP."""
        transport: asyncio.Transport | None = None
        with contextlib.suppress(OSError):  # SSLError too: no TLS, or not in time
            transport = await self._loop.start_tls(
                self._transport,
                self,
                self._tls,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        self._connections.discard(self)
        if transport is None or transport.is_closing():
            self._transport.abort()
            return
        http = PatientProtocol(**self._arguments)
        transport.set_protocol(http)
        http.connection_made(transport)
        for data in self._early:
            http.data_received(data)
