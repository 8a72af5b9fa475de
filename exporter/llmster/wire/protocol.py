"""One namespace socket as a state machine without I/O: frames in, events and frames out.

Does not depend on sockets, clocks or asyncio; connection.py drives it. The shape follows the `websockets` library's
own sans-I/O core: `receive()` takes what arrived and returns events, `frames_to_send()` drains what must go out.

Order on the wire (source: wire framework of lmstudio-js, frames in tests/fixtures/protocol):
handshake frame -> answer -> then calls and channels in any order, each with client-chosen ids from its own space.
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass
from typing import Final

import msgspec

from exporter.llmster.lenient import UNDECODABLE
from exporter.llmster.wire import messages
from exporter.llmster.wire.messages import ABSENT, KEEP_ALIVE_FRAME, Envelope, Identity, WireError


class Phase(enum.Enum):
    """Where a socket is in its life."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The daemon accepted the handshake."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The daemon refused the handshake; `reason` is the daemon's text and never holds the passkey."""

    reason: str


@dataclass(frozen=True, slots=True)
class CallReturned:
    """An `rpcResult`; `result` is None for a void call (no `result` key on the wire)."""

    call_id: int
    result: msgspec.Raw | None


@dataclass(frozen=True, slots=True)
class CallErred:
    """An `rpcError`."""

    call_id: int
    error: WireError


@dataclass(frozen=True, slots=True)
class ChannelMessage:
    """One message of a channel, still raw."""

    channel_id: int
    message: msgspec.Raw


@dataclass(frozen=True, slots=True)
class ChannelClosed:
    """The daemon ended a channel in good order."""

    channel_id: int


@dataclass(frozen=True, slots=True)
class ChannelErred:
    """The daemon ended a channel with an error."""

    channel_id: int
    error: WireError


@dataclass(frozen=True, slots=True)
class KeepAliveAnswered:
    """The daemon answered a keepAlive: it is alive, not merely connected."""


@dataclass(frozen=True, slots=True)
class Warned:
    """The daemon reported a client error; the call in question is never answered."""

    warning: str
    kind: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame that could not be used: not JSON, an unknown type, an unknown id.

    `what` is one of a handful of fixed words, fit for a label.
    """

    what: str


Event = (
    Authenticated
    | Refused
    | CallReturned
    | CallErred
    | ChannelMessage
    | ChannelClosed
    | ChannelErred
    | KeepAliveAnswered
    | Warned
    | Unreadable
)

# Types of the official schema that answer calls this client never makes: not counted.
_IGNORED_TYPES: Final = frozenset(
    {"channelAck", "signalUpdate", "signalError", "writableSignalUpdate", "writableSignalError"}
)


class Protocol:
    """The client side of one namespace socket.

    Every method that must put something on the wire queues frames; `frames_to_send()` hands them over in order.
    Ids count up from 0, calls and channels apart, as the official clients do.
    """

    def __init__(self, identity: Identity) -> None:
        self.phase = Phase.HANDSHAKE
        self._outgoing: list[str] = [messages.handshake_frame(identity)]
        self._call_ids = itertools.count()
        self._channel_ids = itertools.count()
        self._calls: set[int] = set()
        self._channels: set[int] = set()

    def frames_to_send(self) -> list[str]:
        """Return the frames queued since the last time, oldest first."""
        frames, self._outgoing = self._outgoing, []
        return frames

    def call(self, endpoint: str, parameter: object = ABSENT) -> int:
        """Queue a call and return its id. Raises RuntimeError before the handshake is answered."""
        self._require_open()
        call_id = next(self._call_ids)
        self._calls.add(call_id)
        self._outgoing.append(messages.call_frame(endpoint=endpoint, call_id=call_id, parameter=parameter))
        return call_id

    def forget_call(self, call_id: int) -> None:
        """Stop waiting for a call; a late answer to it is then reported as Unreadable."""
        self._calls.discard(call_id)

    def open_channel(self, endpoint: str, parameter: object = ABSENT) -> int:
        """Queue the creation of a channel and return its id."""
        self._require_open()
        channel_id = next(self._channel_ids)
        self._channels.add(channel_id)
        self._outgoing.append(
            messages.channel_create_frame(endpoint=endpoint, channel_id=channel_id, parameter=parameter)
        )
        return channel_id

    def send_on_channel(self, channel_id: int, message: object) -> None:
        """Queue a message on an open channel; on one that already ended, do nothing (the daemon would warn)."""
        if channel_id in self._channels:
            self._outgoing.append(messages.channel_send_frame(channel_id=channel_id, message=message))

    def keep_alive(self) -> None:
        """Queue a keepAlive; its answer arrives as KeepAliveAnswered."""
        self._require_open()
        self._outgoing.append(KEEP_ALIVE_FRAME)

    def receive(self, frame: str | bytes) -> Event | None:
        """Take one frame from the daemon. Never raises on its content; None means no event."""
        try:
            envelope = messages.decode_envelope(frame)
        except UNDECODABLE:
            return Unreadable("malformed")
        if self.phase is Phase.HANDSHAKE:
            return self._receive_handshake_answer(envelope)
        return self._receive_message(envelope)

    def _receive_handshake_answer(self, envelope: Envelope) -> Event:
        if envelope.success is msgspec.UNSET:
            return Unreadable("before_handshake")
        if envelope.success:
            self.phase = Phase.OPEN
            return Authenticated()
        self.phase = Phase.REFUSED
        return Refused(_text_of(envelope.error) or "the daemon gave no reason")

    def _receive_message(self, envelope: Envelope) -> Event | None:
        event: Event | None
        match envelope.type:
            case "rpcResult" | "rpcError":
                event = self._receive_call_end(envelope)
            case "channelSend" | "channelClose" | "channelError":
                event = self._receive_channel(envelope)
            case "keepAliveAck":
                event = KeepAliveAnswered()
            case "communicationWarning":
                warning = envelope.warning if isinstance(envelope.warning, str) else ""
                event = Warned(warning, envelope.kind if isinstance(envelope.kind, str) else "unspecified")
            case known if known in _IGNORED_TYPES:
                event = None
            case _:
                event = Unreadable("unknown_type")
        return event

    def _receive_call_end(self, envelope: Envelope) -> Event:
        call_id = envelope.call_id
        if not isinstance(call_id, int) or call_id not in self._calls:
            return Unreadable("unknown_call")
        self._calls.discard(call_id)
        if envelope.type == "rpcError":
            return CallErred(call_id, messages.decode_error(envelope.error))
        return CallReturned(call_id, envelope.result if isinstance(envelope.result, msgspec.Raw) else None)

    def _receive_channel(self, envelope: Envelope) -> Event:
        channel_id = envelope.channel_id
        if not isinstance(channel_id, int) or channel_id not in self._channels:
            return Unreadable("unknown_channel")
        if envelope.type == "channelSend":
            if isinstance(envelope.ack_id, int):
                self._outgoing.append(
                    messages.channel_ack_frame(channel_id=channel_id, ack_id=envelope.ack_id)
                )
            if not isinstance(envelope.message, msgspec.Raw):
                return Unreadable("empty_message")
            return ChannelMessage(channel_id, envelope.message)
        self._channels.discard(channel_id)
        if envelope.type == "channelError":
            return ChannelErred(channel_id, messages.decode_error(envelope.error))
        return ChannelClosed(channel_id)

    def _require_open(self) -> None:
        if self.phase is not Phase.OPEN:
            raise RuntimeError(f"the handshake is not done (phase: {self.phase.value})")


def _text_of(raw: msgspec.Raw | msgspec.UnsetType) -> str | None:
    """Read a refusal's reason: a string on the wire; anything else gives None."""
    if raw is msgspec.UNSET:
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except UNDECODABLE:
        return None
