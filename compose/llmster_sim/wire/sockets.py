"""Carry the WebSocket protocol over aiohttp: upgrades, the auth handshake, frames in and out, closing.

Does not depend on endpoints; each accepted socket gets a `Port`, which serves them.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from llmster_sim.wire.envelopes import Namespace, Port, dump

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmster_sim.clock import Clock
    from llmster_sim.wire.auth import Authority
    from llmster_sim.wire.faults import Faults

# Official wire framework: a client that sent no valid packet by then is told so and closed.
_HANDSHAKE_S = 10.0
_NO_STATUS = 1005


class Connection:
    """One socket from its upgrade to its end. Frames out are queued, so the daemon never waits for a client."""

    def __init__(self, *, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self.identifier: str | None = None
        self.port: Port | None = None
        self.closing = False
        self._request = request
        self._outbox: asyncio.Queue[str | None] = asyncio.Queue()

    def send_text(self, text: str) -> None:
        """Queue a text frame."""
        self._outbox.put_nowait(text)

    def close(self) -> None:
        """Queue the end: a close frame without a code, which the peer sees as 1005."""
        self._outbox.put_nowait(None)

    def hang_up(self) -> None:
        """End the connection after what was already sent."""
        if self._request.transport is not None:
            self._request.transport.close()

    def abort(self) -> None:
        """Cut the connection as a dying process does: no close frame."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def write(self, faults: Faults) -> None:
        """Send what is queued, in order, until the close frame."""
        while True:
            text = await self._outbox.get()
            await faults.thawed()
            if text is None:
                self.closing = True
                await self.socket.send_frame(b"", WSMsgType.CLOSE)
                return
            await self.socket.send_str(text)


class Sockets:
    """All WebSocket connections of one daemon."""

    def __init__(
        self,
        *,
        clock: Clock,
        faults: Faults,
        authority: Authority,
        namespaces: Mapping[str, Namespace],
        count: Callable[[str, str], None],
    ) -> None:
        self._clock = clock
        self._faults = faults
        self._authority = authority
        self._namespaces = namespaces
        self._count = count
        self.connections: set[Connection] = set()

    def abort_all(self) -> int:
        """Cut every connection; gives how many there were."""
        connections = list(self.connections)
        for connection in connections:
            connection.abort()
        return len(connections)

    def close_all(self) -> None:
        """Close every connection politely, as a revoked authentication does."""
        for connection in list(self.connections):
            connection.close()

    def broadcast(self, text: str) -> None:
        """Send a raw frame on every open log stream."""
        for connection in self.connections:
            for channel in connection.port.channels.values() if connection.port else ():
                if channel.endpoint == "streamLogs":
                    connection.send_text(text.replace("{id}", str(channel.channel_id)))

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Handle one upgrade request until its socket ends."""
        namespace = self._namespaces.get(request.path.removeprefix("/"))
        if self._faults.refuse_upgrades:
            return self._reject(request)
        if namespace is None:
            # Official wire framework: no path handler takes the socket, so nothing is ever answered.
            await asyncio.Event().wait()
        socket = web.WebSocketResponse(autoping=False, autoclose=False, compress=False, max_msg_size=0)
        await socket.prepare(request)
        connection = Connection(socket=socket, request=request)
        self.connections.add(connection)
        writer = asyncio.create_task(connection.write(self._faults))
        try:
            await self._read(connection, namespace)
        finally:
            self.connections.discard(connection)
            if connection.port is not None:
                self._clock.catch_up()
                connection.port.gone()
            if connection.identifier is not None:
                self._authority.leave(connection.identifier)
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await writer
            connection.hang_up()
        return socket

    def _reject(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            status = http.HTTPStatus(self._faults.upgrade_status)
            request.transport.write(f"HTTP/1.1 {status.value} {status.phrase}\r\n\r\n".encode())
            request.transport.close()
        return web.Response(status=self._faults.upgrade_status)

    async def _read(self, connection: Connection, namespace: Namespace | None) -> None:
        def too_late() -> None:
            if connection.identifier is None:
                self._refuse(connection, "Authentication timed out")

        timeout = self._clock.call_later(_HANDSHAKE_S * max(1.0, self._clock.speed), too_late)
        try:
            while True:
                message = await connection.socket.receive()
                await self._faults.thawed()
                self._clock.catch_up()
                match message.type:
                    case WSMsgType.TEXT | WSMsgType.BINARY:
                        text = (
                            message.data
                            if isinstance(message.data, str)
                            else bytes(message.data).decode(errors="replace")
                        )
                        self._receive(connection, namespace, text)
                    case WSMsgType.PING:
                        await connection.socket.pong(message.data)
                    case WSMsgType.CLOSE:
                        await self._echo_close(connection, message.data)
                        return
                    case WSMsgType.PONG:
                        pass
                    case _:
                        return
        except ConnectionError:
            return
        finally:
            timeout.cancel()

    async def _echo_close(self, connection: Connection, code: Any) -> None:
        """Answer a close with the same code, none for none, as the daemon's library does."""
        if connection.closing:
            return
        payload = b"" if code in {None, 0, _NO_STATUS} else int(code).to_bytes(2, "big")
        with contextlib.suppress(ConnectionError):
            await connection.socket.send_frame(payload, WSMsgType.CLOSE)

    def _receive(self, connection: Connection, namespace: Namespace | None, text: str) -> None:
        if connection.port is not None:
            connection.port.receive(text)
            return
        try:
            packet = self._authority.packet(json.loads(text))
        except ValueError:
            packet = None
        if packet is None or namespace is None:
            return
        delay_s = self._faults.handshake_delay_s
        if delay_s:
            self._clock.call_later(delay_s, lambda: self._admit(connection, namespace, packet))
        elif delay_s is not None:
            self._admit(connection, namespace, packet)

    def _admit(self, connection: Connection, namespace: Namespace, packet: tuple[str, str]) -> None:
        identifier, passkey = packet
        refusal = self._authority.admit(identifier=identifier, passkey=passkey)
        if refusal is not None:
            self._refuse(connection, refusal)
            return
        connection.identifier = identifier
        connection.send_text(dump({"success": True}))
        connection.port = Port(
            namespace=namespace,
            send_text=connection.send_text,
            hang_up=connection.abort,
            interceptor=self._faults,
            count=self._count,
        )

    def _refuse(self, connection: Connection, reason: str) -> None:
        connection.send_text(dump({"success": False, "error": reason}))
        connection.close()
