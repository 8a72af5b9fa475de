"""Passes bytes between clients and the daemon, one connection to the daemon for each of a client's, unchanged.

Does not depend on HTTP. Because connections are not shared, nothing has to be rewritten: chunk boundaries,
pipelining, trailers, upgrades, half-closed connections and resets reach the other side as they were. A reader that is
full stops the writer (backpressure); what waits between the two is at most twice BUFFER_BYTES and direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import socket
import ssl
import struct
import termios
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from exporter.llmster.wire.transport import NEXT_ADDRESS_S

log = logging.getLogger(__name__)

BUFFER_BYTES: Final = 64 * 1024
CONNECT_S: Final = 30.0
"""For a connection to the daemon."""
LINGER_S: Final = 60.0
"""How long a client may keep a connection that the daemon has ended, without a byte on it."""
_KEEPALIVE: Final = (
    ("TCP_KEEPIDLE", 60),
    ("TCP_KEEPINTVL", 15),
    ("TCP_KEEPCNT", 4),
)  # a client behind a pulled cable is gone after two minutes
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s
_UNSENT_CHECK_S: Final = 0.05
_UNSENT_CHECKS: Final = 200


class Side(StrEnum):
    """An end of a connection through the relay."""

    CLIENT = "client"
    DAEMON = "daemon"


class Observer(Protocol):
    """Is shown a copy after the bytes have been passed on. Must not raise."""

    def from_client(self, data: bytes) -> None:
        """Take what the client sent."""

    def from_daemon(self, data: bytes) -> None:
        """Take what the daemon sent."""

    def daemon_ended(self) -> None:
        """Take the end of the daemon's direction."""

    def closed(self, by: Side | None) -> None:
        """Take the end of both directions; `by` is who ended first."""


class Counts(Protocol):
    """Where the relay counts, by name."""

    def __getitem__(self, name: str, /) -> int: ...
    def __setitem__(self, name: str, value: int, /) -> None: ...


# One buffer serves every connection: bytes are copied out of it before the event loop goes on.
_BUFFER: Final = memoryview(bytearray(BUFFER_BYTES))


class _End(asyncio.BufferedProtocol):
    """One end of a connection. `link` joins it with the other end."""

    def __init__(self, side: Side, connection: RelayedConnection) -> None:
        self.side = side
        self.transport: asyncio.Transport | None = None
        self.has_ended = False  # it has sent its FIN
        self.reset_when_empty = False
        self._link = connection
        self._checks = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what TCP gives
        self.transport = transport
        # Low 0: resume_writing() then means that the kernel has all bytes.
        transport.set_write_buffer_limits(high=BUFFER_BYTES, low=0)
        self._link.connected(self)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self._link.passed(self, bytes(_BUFFER[:nbytes]))

    def eof_received(self) -> bool:
        self.has_ended = True
        self._link.ended(self)
        return True  # the other direction goes on

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lost(self, exc)

    def pause_writing(self) -> None:
        self._link.other(self).hold()

    def resume_writing(self) -> None:
        if self.reset_when_empty:
            self._reset_when_sent()
        self._link.other(self).go_on()

    def hold(self) -> None:
        """Stop reading."""
        if self.transport is not None and not self.has_ended:
            self.transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if self.transport is not None and not self.has_ended:
            self.transport.resume_reading()

    def end(self) -> None:
        """Send a FIN after what waits to be sent."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            with contextlib.suppress(OSError):
                transport.write_eof()
        else:  # TLS has no half-closed connections
            transport.close()

    def reset(self) -> None:
        """End as the other side did, by a reset; what was received before it is sent first."""
        transport = self.transport
        if transport is None:
            return
        self.hold()
        if transport.get_write_buffer_size():
            self.reset_when_empty = True
        else:
            self._reset_when_sent()

    def _reset_when_sent(self) -> None:
        """Wait for what the kernel has not delivered yet, which a reset discards."""
        transport = self.transport
        if transport is None:
            return
        sock: socket.socket | None = transport.get_extra_info("socket")
        self._checks += 1
        if sock is not None and sock.fileno() >= 0 and self._checks < _UNSENT_CHECKS and _unsent(sock):
            asyncio.get_running_loop().call_later(_UNSENT_CHECK_S, self._reset_when_sent)
            return
        if sock is not None and sock.fileno() >= 0:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()


class RelayedConnection:
    """A client's connection and the daemon's, joined."""

    def __init__(self, relay: Relay, observer: Observer) -> None:
        self.client = _End(Side.CLIENT, self)
        self.daemon = _End(Side.DAEMON, self)
        self._relay = relay
        self._observer = observer
        self._opening: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._first: Side | None = None  # who ended first
        self._open = 0

    def other(self, end: _End) -> _End:
        """Give the opposite end."""
        return self.daemon if end is self.client else self.client

    def connected(self, end: _End) -> None:
        """Go on with the opening."""
        self._open += 1
        if end is self.client:
            self._relay.connections.add(self)
            self.client.hold()  # until the daemon's connection is open
            self._opening = asyncio.get_running_loop().create_task(self._reach())
        else:
            self.client.go_on()

    def passed(self, end: _End, data: bytes) -> None:
        """Pass bytes on, then show them."""
        target = self.other(end).transport
        if target is not None:
            target.write(data)
        if self._linger is not None:
            self._rearm()
        if end is self.client:
            self._observer.from_client(data)
        else:
            self._observer.from_daemon(data)

    def ended(self, end: _End) -> None:
        """Pass a FIN on."""
        self._first = self._first or end.side
        other = self.other(end)
        if end is self.daemon:
            self._observer.daemon_ended()
            self._rearm()
        other.end()
        if other.has_ended:  # both directions are over; close() still sends what waits
            for each in (self.client, self.daemon):
                if each.transport is not None:
                    each.transport.close()

    def lost(self, end: _End, problem: Exception | None) -> None:
        """One end has closed, so close the other one, by a reset if that was one."""
        self._first = self._first or end.side
        end.transport = None
        self._open -= 1
        other = self.other(end)
        if problem is not None or not end.has_ended:
            other.reset()
        elif other.transport is not None:
            other.transport.close()
        if end is self.client and self._opening is not None:
            self._opening.cancel()
        if self._open == 0:
            if self._linger is not None:
                self._linger.cancel()
            self._relay.remove(self)
            self._observer.closed(self._first)

    def abort(self) -> None:
        """End at once."""
        self.client.reset()
        self.daemon.reset()

    async def _reach(self) -> None:
        """Connect to the daemon. Where that fails, the client's connection fails as its own would have."""
        loop = asyncio.get_running_loop()
        relay = self._relay
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(
                    lambda: self.daemon,
                    relay.host,
                    relay.port,
                    ssl=relay.tls,
                    happy_eyeballs_delay=NEXT_ADDRESS_S,
                )
        except Exception as error:
            if not isinstance(error, OSError | TimeoutError):
                log.exception("connection to the daemon failed inside")
            self._first = Side.DAEMON
            relay.counts["connect_failures"] += 1
            if relay.is_upstream_reachable is not False:
                relay.is_upstream_reachable = False
                log.warning("daemon not reachable", extra={"upstream": relay.upstream, "problem": str(error)})
            self.client.reset()
        else:
            if relay.is_upstream_reachable is False:
                log.info("daemon reachable again", extra={"upstream": relay.upstream})
            relay.is_upstream_reachable = True

    def _rearm(self) -> None:
        """Bound how long a client keeps a connection that the daemon has ended."""
        if self._linger is not None:
            self._linger.cancel()
        self._linger = asyncio.get_running_loop().call_later(LINGER_S, self.abort)


class Relay:
    """Accepts clients and joins each with a connection to the daemon."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        observe: Callable[[], Observer],
        counts: Counts,
        max_connections: int,
    ) -> None:
        """`host` and `port` are the daemon's. `observe` makes the observer of a new connection."""
        self.host = host
        self.port = port
        self.tls = tls
        self.connections: set[RelayedConnection] = set()
        self.counts = counts
        self.is_upstream_reachable: bool | None = None
        self._observe = observe
        self._max = max_connections
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()

    @property
    def upstream(self) -> str:
        """The daemon's address, for messages."""
        return f"{self.host}:{self.port}"

    async def start(self, listener: socket.socket) -> None:
        """Accept clients on a bound port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, sock=listener, backlog=1024)

    async def stop(self, *, within_s: float) -> None:
        """Accept no more, let open connections end for a while, then end them."""
        if self._server is not None:
            self._server.close()
        self._empty.clear()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._empty.wait()
        for connection in tuple(self.connections):
            connection.abort()
        await asyncio.sleep(0)

    def remove(self, connection: RelayedConnection) -> None:
        """Forget a link that has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def _accept(self) -> asyncio.BaseProtocol:
        self.counts["connections"] += 1
        if len(self.connections) >= self._max:
            self.counts["rejected_connections"] += 1
            return _Rejecting()
        return RelayedConnection(self, self._observe()).client


class _Rejecting(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what TCP gives
        transport.abort()


def keep_alive(sock: socket.socket) -> None:
    """Let the kernel detect that a silent peer is gone; accepted sockets inherit it from their listener."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _unsent(sock: socket.socket) -> int:
    """Return how many bytes the peer's kernel has not acknowledged yet; 0 where the system does not report it."""
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except OSError:
        return 0
    return int.from_bytes(answer, "little")
