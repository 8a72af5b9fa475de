"""Drives one protocol state machine over a WebSocket: handshake, calls, channels, keepAlive liveness.

It never reconnects: session.py decides when to open another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from exporter.llmster import lenient
from exporter.llmster.errors import (
    AuthenticationRefused,
    CallFailed,
    ConnectionLost,
    DaemonStalled,
    LlmsterError,
    NotLlmster,
    ProtocolViolation,
)
from exporter.llmster.lenient import UNDECODABLE
from exporter.llmster.wire import protocol
from exporter.llmster.wire.channel import Channel
from exporter.llmster.wire.messages import ABSENT, Identity, WireError
from exporter.llmster.wire.transport import open_websocket

log = logging.getLogger(__name__)

QUIET_S: Final = 0.05
"""A socket that is about to be closed has no more to send when it has sent nothing for so long."""

MAX_KINDS: Final = 32
"""Distinct kinds per counter; the kinds come from the daemon, and labels must stay bounded."""

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each wait may take, in seconds."""

    connect_s: float = 3.0
    """TCP only: a host that drops packets is down, not stalled."""
    handshake_s: float = 5.0
    """Upgrade and authentication: a daemon that accepts and then sends nothing is stalled."""
    call_s: float = 15.0
    keep_alive_every_s: float = 5.0
    dead_after_s: float = 15.0
    """A keepAlive unanswered for so long ends the connection."""
    close_s: float = 1.0


@dataclass(slots=True)
class WireCounts:
    """What a daemon sent that it should not have sent, counted over all its sockets and reconnects."""

    daemon: str = ""
    """Its name, for the log."""
    warnings: Counter[str] = field(default_factory=Counter)
    """communicationWarning by kind: each one is a defect of this client."""
    unreadable: Counter[str] = field(default_factory=Counter)
    """What could not be used: frames, by the fixed words of protocol.Unreadable; parts of answers, by what they are."""


@dataclass(slots=True)
class Liveness:
    """Time of the last frame from a daemon, over all sockets of one session."""

    heard_at: float = field(default_factory=time.monotonic)
    acknowledges: bool = False
    """Whether it answers keepAlive; one that does not is judged by its other frames."""


class Connection:
    """One authenticated socket to one namespace. Make it with `open()`, then keep `run()` going beside its use."""

    def __init__(
        self,
        websocket: ClientConnection,
        core: protocol.Protocol,
        name: str,
        timeouts: Timeouts,
        counts: WireCounts,
        *,
        liveness: Liveness | None = None,
    ) -> None:
        self.name = name
        self._liveness = liveness or Liveness()
        self._websocket = websocket
        self._core = core
        self._timeouts = timeouts
        self._counts = counts
        self._calls: dict[int, asyncio.Future[msgspec.Raw | None]] = {}
        self._channels: dict[int, Channel] = {}
        self._keep_alive_sent_at: float | None = None
        self._heard_at = time.monotonic()
        self._held_up = False
        self._lost: LlmsterError | None = None
        self._done = asyncio.Event()

    @classmethod
    async def open(
        cls,
        base_url: str,
        namespace: str,
        identity: Identity,
        *,
        timeouts: Timeouts,
        counts: WireCounts,
        liveness: Liveness | None = None,
        accepted: Callable[[], None] = lambda: None,
    ) -> Connection:
        """Connect to `ws(s)://host:port` + `/namespace` and authenticate; `accepted` is called once TCP is connected.

        Raises DaemonUnreachable, DaemonStalled, NotLlmster or AuthenticationRefused.
        """
        websocket = await open_websocket(
            f"{base_url}/{namespace}",
            connect_s=timeouts.connect_s,
            upgrade_s=timeouts.handshake_s,
            accepted=accepted,
        )
        connection = cls(
            websocket, protocol.Protocol(identity), namespace, timeouts, counts, liveness=liveness
        )
        try:
            async with asyncio.timeout(timeouts.handshake_s):
                await connection._authenticate()
        except TimeoutError:
            connection.abort()
            raise DaemonStalled(
                f"{base_url}/{namespace} upgraded and then did not answer the handshake "
                f"in {timeouts.handshake_s:g} s"
            ) from None
        except BaseException:
            connection.abort()
            raise
        return connection

    @property
    def unanswered_s(self) -> float:
        """How long a keepAlive has been unanswered without any other frame from the daemon; 0 if neither."""
        return self._silent_s(self._liveness.heard_at)

    @property
    def lost(self) -> LlmsterError | None:
        """Why this connection is over; None while it works."""
        return self._lost

    async def run(self) -> LlmsterError:
        """Read frames and send keepAlives until the connection is over; return why. Never raises LlmsterError."""
        keep_alive = asyncio.create_task(self._keep_alive())
        try:
            while True:
                frame = await self._websocket.recv(decode=False)
                self._heard_at = self._liveness.heard_at = time.monotonic()
                await self._handle(self._core.receive(frame))
                await self._flush()
        except ConnectionClosed as error:
            return self._end(self._as_lost(error))
        except ConnectionLost as error:
            return self._end(error)
        finally:
            keep_alive.cancel()
            self._end(ConnectionLost(f"the /{self.name} socket was given up"))
            self.abort()
            self._done.set()

    async def call(
        self, endpoint: str, parameter: object = ABSENT, *, timeout_s: float | None = None
    ) -> msgspec.Raw | None:
        """Call an endpoint and wait for its raw result; None for a void one.

        Raises CallFailed, DaemonStalled (no answer in time) or ConnectionLost.
        """
        self._raise_if_lost()
        limit_s = self._timeouts.call_s if timeout_s is None else timeout_s
        call_id = self._core.call(endpoint, parameter)
        answer: asyncio.Future[msgspec.Raw | None] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = answer
        try:
            async with asyncio.timeout(limit_s):
                await self._flush()
                return await answer
        except TimeoutError:
            raise DaemonStalled(f"{self.name}.{endpoint} did not answer within {limit_s:g} s") from None
        finally:
            self._calls.pop(call_id, None)
            self._core.forget_call(call_id)
            answer.cancel()

    async def open_channel(self, endpoint: str, parameter: object = ABSENT) -> Channel:
        """Open a channel; messages that arrive before the first iteration are kept. Raises ConnectionLost."""
        self._raise_if_lost()
        channel_id = self._core.open_channel(endpoint, parameter)
        channel = Channel(lambda message: self._core.send_on_channel(channel_id, message))
        self._channels[channel_id] = channel
        await self._flush()
        return channel

    async def flush(self) -> None:
        """Send what channels have queued. Raises ConnectionLost."""
        self._raise_if_lost()
        await self._flush()

    async def close(self) -> None:
        """Close in good order, within close_s; waiting callers get ConnectionLost.

        Channels get what has come for them first: a daemon that dies closes all its sockets at once, and the last of
        its log must not be lost to whichever of them we notice first. Nothing is sent before that: a socket whose
        other end is gone fails on the first byte written to it, with all that was still to be read.
        """
        reason = ConnectionLost(f"the /{self.name} socket was closed")
        self._fail_calls(reason)
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(self._timeouts.close_s):
                await self._heard_out()
                await self._websocket.close()
                await self._done.wait()
        self._end(reason)

    async def _heard_out(self) -> None:
        """Wait until the connection ends, or no frames arrive while it is read."""
        while not self._done.is_set():
            before = self._heard_at
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), QUIET_S)
            if self._heard_at == before and not self._held_up:
                return

    def abort(self) -> None:
        """Drop the TCP connection at once."""
        self._websocket.transport.abort()

    async def _authenticate(self) -> None:
        await self._flush()
        try:
            while True:
                event = self._core.receive(await self._websocket.recv(decode=False))
                match event:
                    case protocol.Authenticated():
                        return
                    case protocol.Refused(reason=reason):
                        raise AuthenticationRefused(reason)
                    case _:
                        await self._handle(event)
        except ConnectionClosed as error:
            raise NotLlmster(
                f"the server closed /{self.name} without answering the handshake ({_closing_words(error)})"
            ) from None

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._timeouts.keep_alive_every_s)
            if self._lost is not None:
                return
            own_s = self._silent_s(self._heard_at)
            # One socket may be dead while others live; but not because keepAlive is never answered at all.
            judged_s = own_s if self._liveness.acknowledges else self.unanswered_s
            if judged_s > self._timeouts.dead_after_s:
                self._end(DaemonStalled(f"/{self.name} left keepAlive unanswered for {own_s:.0f} s"))
                self.abort()
                return
            if self._keep_alive_sent_at is None:
                self._keep_alive_sent_at = time.monotonic()
            self._core.keep_alive()
            with contextlib.suppress(ConnectionLost):
                await self._flush()

    def _silent_s(self, heard_at: float) -> float:
        if self._keep_alive_sent_at is None or self._lost is not None or self._held_up:
            return 0.0
        return time.monotonic() - max(self._keep_alive_sent_at, heard_at)

    async def _flush(self) -> None:
        try:
            for frame in self._core.frames_to_send():
                await self._websocket.send(frame)
        except ConnectionClosed as error:
            raise self._as_lost(error) from None

    def _as_lost(self, error: ConnectionClosed) -> ConnectionLost:
        return ConnectionLost(f"the /{self.name} socket closed ({_closing_words(error)})")

    async def _handle(self, event: protocol.Event | None) -> None:
        match event:
            case protocol.CallReturned(call_id=call_id, result=result):
                _resolve(self._calls.get(call_id), result)
            case protocol.CallErred(call_id=call_id, error=error):
                _fail(self._calls.get(call_id), _as_call_failed(error))
            case protocol.ChannelMessage(channel_id=channel_id, message=message):
                await self._hand_over(self._channels.get(channel_id), message)
            case protocol.ChannelClosed(channel_id=channel_id):
                await self._hand_over(self._channels.pop(channel_id, None), None)
            case protocol.ChannelErred(channel_id=channel_id, error=error):
                await self._hand_over(self._channels.pop(channel_id, None), _as_call_failed(error))
            case protocol.KeepAliveAnswered():
                self._keep_alive_sent_at = None
                self._liveness.acknowledges = True
            case protocol.Warned(warning=_, kind=kind):
                # The text of a warning can quote the request, so only its kind is kept.
                self._count_once(self._counts.warnings, kind, "protocol warning received")
            case protocol.Unreadable(what=what):
                self._count_once(self._counts.unreadable, what, "unreadable frame received")
            case _:
                pass

    async def _hand_over(self, channel: Channel | None, item: msgspec.Raw | LlmsterError | None) -> None:
        if channel is None:  # ended by this side between the daemon's message and now
            return
        if not channel.is_full:
            await channel.put(item)
            return
        # Until the reader catches up nothing is read here, so an unanswered keepAlive is no fault of the daemon.
        self._held_up = True
        try:
            await channel.put(item)
        finally:
            self._held_up = False
            self._keep_alive_sent_at = None

    def _count_once(self, counter: Counter[str], key: str, message: str) -> None:
        bounded = key if key in counter or len(counter) < MAX_KINDS else "other"
        counter[bounded] += 1
        if counter[bounded] == 1:
            log.warning(
                message, extra={"daemon": self._counts.daemon, "namespace": self.name, "kind": bounded}
            )

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise self._lost.anew()

    def _end(self, reason: LlmsterError) -> LlmsterError:
        """End every waiting call; the first reason counts and is returned."""
        lost = self._fail_calls(reason)
        is_owed = self._keep_alive_sent_at is not None and not self._held_up
        for channel in self._channels.values():
            channel.silent_s = time.monotonic() - self._heard_at if is_owed else 0.0
            channel.put_error(lost.anew())
        self._channels.clear()
        return lost

    def _fail_calls(self, reason: LlmsterError) -> LlmsterError:
        if self._lost is None:
            self._lost = reason
        for future in self._calls.values():
            _fail(future, self._lost.anew())
        return self._lost


def decode(raw: msgspec.Raw | None, shape: type[T], what: str) -> T:
    """Read a raw result as `shape`, an odd optional field as not sent. Raises ProtocolViolation naming `what`."""
    with expected(what):
        return lenient.decode(raw if raw is not None else b"null", shape)[0]


@contextlib.contextmanager
def expected(what: str) -> Iterator[None]:
    """Make what cannot be decoded a ProtocolViolation that names `what`."""
    try:
        yield
    except UNDECODABLE as error:
        raise ProtocolViolation(f"{what} answered something unexpected: {error}") from None


def _resolve(future: asyncio.Future[msgspec.Raw | None] | None, result: msgspec.Raw | None) -> None:
    if future is not None and not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[msgspec.Raw | None] | None, error: LlmsterError) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
        future.exception()  # seen: its caller may have given up in the same moment


def _as_call_failed(error: WireError) -> CallFailed:
    return CallFailed(error.title, code=error.code, cause=error.cause, suggestion=error.suggestion)


def _closing_words(error: ConnectionClosed) -> str:
    """Name the close code without quoting the peer."""
    return f"code {error.rcvd.code}" if error.rcvd is not None else "no close frame"
