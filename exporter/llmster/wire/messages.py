"""Wire messages of llmster's WebSocket protocol: text frames <-> typed values.

Does not depend on sockets or state: see protocol.py for order, ids and liveness.

Source: the wire framework of lmstudio-js (envelope schemas) and frames recorded from the official clients
(tests/fixtures/protocol). Unknown keys are ignored, because every release adds some.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from exporter.llmster import lenient
from exporter.llmster.lenient import UNDECODABLE
from exporter.shared import api_token

KEEP_ALIVE_FRAME: Final = '{"type":"keepAlive"}'


class _Absent:
    """The value of a key that must not be in the frame at all: `"parameter":null` hangs a call for ever."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Identity:
    """The client's identity: ONE pair for all namespaces, because its first use fixes the passkey."""

    client_identifier: str
    client_passkey: str

    def __repr__(self) -> str:
        """Never show the passkey."""
        return f"Identity({self.client_identifier.partition(':')[0]}:…)"

    @classmethod
    def guest(cls) -> Identity:
        """Make up an identity, as the official clients do without a token."""
        return cls(f"guest:{secrets.token_urlsafe(18)}", secrets.token_urlsafe(18))

    @classmethod
    def from_token(cls, token: str) -> Identity:
        """Split an API token. Raises ValueError, without showing the token, if its form is wrong."""
        match = api_token.PATTERN.fullmatch(token)
        if match is None:
            raise ValueError(f"the API token does not have the form {api_token.EXAMPLE}")
        return cls(match[1], match[2])


class WireError(msgspec.Struct, frozen=True, rename="camel"):
    """An error object. `stack` is not declared on purpose: it names paths on the server."""

    title: str = "the daemon gave no reason"
    cause: str | None = None
    suggestion: str | None = None
    display_data: Any = None

    @property
    def code(self) -> str | None:
        """`displayData.code`, such as `generic.identifierNotFound`; None if absent or not a string."""
        code = self.display_data.get("code") if isinstance(self.display_data, dict) else None
        return code if isinstance(code, str) else None


class Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """Any frame a server may send, decoded one level deep; payloads stay raw bytes until they are used."""

    type: str | msgspec.UnsetType = msgspec.UNSET
    success: bool | msgspec.UnsetType = msgspec.UNSET
    call_id: int | msgspec.UnsetType = msgspec.UNSET
    channel_id: int | msgspec.UnsetType = msgspec.UNSET
    ack_id: int | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    message: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    warning: str | msgspec.UnsetType = msgspec.UNSET
    kind: str | msgspec.UnsetType = msgspec.UNSET


_ENVELOPE: Final = msgspec.json.Decoder(Envelope)
_ERROR: Final = msgspec.json.Decoder(WireError)
_ENCODER: Final = msgspec.json.Encoder()


def decode_envelope(frame: str | bytes) -> Envelope:
    """Read one server frame. Raises one of UNDECODABLE for what is not a JSON object of this shape."""
    try:
        return _ENVELOPE.decode(frame)
    except (msgspec.DecodeError, UnicodeError):
        return _ENVELOPE.decode(lenient.mended(frame))


def decode_error(raw: msgspec.Raw | msgspec.UnsetType) -> WireError:
    """Read an error object leniently: any value becomes an error."""
    if raw is msgspec.UNSET:
        return WireError()
    try:
        return _ERROR.decode(raw)
    except UNDECODABLE:
        return WireError(title="the daemon sent an error of an unknown shape")


def handshake_frame(identity: Identity) -> str:
    """Make the first frame of every socket; nothing else may be sent before its answer."""
    return _text(
        {
            "authVersion": 1,
            "clientIdentifier": identity.client_identifier,
            "clientPasskey": identity.client_passkey,
        }
    )


def call_frame(*, endpoint: str, call_id: int, parameter: object = ABSENT) -> str:
    """Make an `rpcCall`; `parameter` is left out when ABSENT."""
    frame: dict[str, object] = {"type": "rpcCall", "endpoint": endpoint, "callId": call_id}
    if parameter is not ABSENT:
        frame["parameter"] = parameter
    return _text(frame)


def channel_create_frame(*, endpoint: str, channel_id: int, parameter: object = ABSENT) -> str:
    """Make a `channelCreate`; `creationParameter` is left out when ABSENT."""
    frame: dict[str, object] = {"type": "channelCreate", "endpoint": endpoint, "channelId": channel_id}
    if parameter is not ABSENT:
        frame["creationParameter"] = parameter
    return _text(frame)


def channel_send_frame(*, channel_id: int, message: object) -> str:
    """Make a `channelSend` to the server, without asking for an acknowledgement."""
    return _text({"type": "channelSend", "channelId": channel_id, "message": message})


def channel_ack_frame(*, channel_id: int, ack_id: int) -> str:
    """Make the acknowledgement a server asked for with `ackId`."""
    return _text({"type": "channelAck", "channelId": channel_id, "ackId": ack_id})


def _text(frame: dict[str, object]) -> str:
    return _ENCODER.encode(frame).decode()
