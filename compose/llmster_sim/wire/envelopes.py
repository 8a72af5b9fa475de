"""Speak the daemon's WebSocket protocol on one authenticated socket: envelopes, calls, channels, warnings.

Does not depend on endpoints or the daemon; endpoints are passed in, frames go to `send_text`.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Protocol

from llmster_sim.wire.schema import ABSENT, Check, anything

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmster_sim.errors import DaemonError

# After this many warnings on a connection the daemon stops sending any (official wire framework).
_MOST_WARNINGS = 5
# Observed: errors carry the server's stack; a product must never show it.
_STACK_FRAMES = (
    "    at fail (/opt/llmster/daemon.js:1:1)\n"
    "    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)"
)


def dump(value: object) -> str:
    """JSON as JavaScript prints it; a NaN becomes null there."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def error_to_wire(error: DaemonError) -> dict[str, Any]:
    """`serializedLMSExtendedErrorSchema`, keys in the recorded order."""
    wire: dict[str, Any] = {"title": error.title}
    if error.cause is not None:
        wire["cause"] = error.cause
    if error.suggestion is not None:
        wire["suggestion"] = error.suggestion
    if error.display is not None:
        wire["displayData"] = error.display
    wire["stack"] = f"Error: {error.title}\n{_STACK_FRAMES}"
    wire["rootTitle"] = error.title
    return wire


class Interceptor(Protocol):
    """Decides whether an answer goes out as it is; the faults of a simulator."""

    def rpc(self, *, call: Call, answer: Callable[[], None]) -> None:
        """Run `answer`, or do something else to `call`."""

    def channel(self, *, channel: Channel, begin: Callable[[], None]) -> None:
        """Run `begin`, or do something else to `channel`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """An endpoint that answers once. `handle` gets the call and answers through it, now or later."""

    handle: Callable[[Call], None]
    check: Check = anything


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An endpoint that is a channel. `messages` are the types a client may send on it."""

    handle: Callable[[Channel], None]
    check: Check = anything
    messages: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """The endpoints one socket path serves."""

    name: str
    rpcs: Mapping[str, Rpc]
    streams: Mapping[str, Stream]


class Call:
    """One RPC call waiting for its answer; the first answer counts."""

    def __init__(self, *, port: Port, endpoint: str, call_id: int, parameter: Any) -> None:
        self.port = port
        self.endpoint = endpoint
        self.call_id = call_id
        self.parameter = parameter
        self.transform: Callable[[Any], Any] | None = None

    @property
    def name(self) -> str:
        """`namespace.endpoint`."""
        return f"{self.port.namespace.name}.{self.endpoint}"

    def resolve(self, result: Any = ABSENT) -> None:
        """Answer; without a result the frame has no `result` key."""
        if self.transform is not None:
            result = self.transform(result)
        frame: dict[str, Any] = {"type": "rpcResult", "callId": self.call_id}
        if result is not ABSENT:
            frame["result"] = result
        self.port.send(frame)

    def fail(self, error: DaemonError) -> None:
        """Answer with an error."""
        self.port.send({"type": "rpcError", "callId": self.call_id, "error": error_to_wire(error)})


class Channel:
    """One open channel; `on_message` and `on_gone` are for its handler to set."""

    def __init__(self, *, port: Port, endpoint: str, channel_id: int, parameter: Any) -> None:
        self.port = port
        self.endpoint = endpoint
        self.channel_id = channel_id
        self.parameter = parameter
        self.open = True
        self.transform: Callable[[Any], Any] | None = None
        self.on_message: Callable[[dict[str, Any]], None] = lambda _message: None
        self.on_gone: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        """`namespace.endpoint`."""
        return f"{self.port.namespace.name}.{self.endpoint}"

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; nothing once the channel is closed."""
        if self.open:
            if self.transform is not None:
                message = self.transform(message)
            self.port.send({"type": "channelSend", "channelId": self.channel_id, "message": message})

    def close(self) -> None:
        """End the channel without an error."""
        if self._end():
            self.port.send({"type": "channelClose", "channelId": self.channel_id})

    def fail(self, error: DaemonError) -> None:
        """End the channel with an error."""
        if self._end():
            self.port.send(
                {"type": "channelError", "channelId": self.channel_id, "error": error_to_wire(error)}
            )

    def _end(self) -> bool:
        was_open, self.open = self.open, False
        self.port.channels.pop(self.channel_id, None)
        return was_open


class Port:
    """The server side of one socket after its handshake. Feed it text frames; it answers with text frames."""

    def __init__(
        self,
        *,
        namespace: Namespace,
        send_text: Callable[[str], None],
        hang_up: Callable[[], None],
        interceptor: Interceptor,
        count: Callable[[str, str], None],
    ) -> None:
        self.namespace = namespace
        self.send_text = send_text
        self.hang_up = hang_up
        self.channels: dict[int, Channel] = {}
        self._interceptor = interceptor
        self._count = count
        self._warnings = 0

    def send(self, frame: dict[str, Any]) -> None:
        """Send one envelope."""
        self.send_text(dump(frame))

    def receive(self, text: str) -> None:
        """Handle one text frame; what is no valid envelope is ignored without a word (recorded)."""
        try:
            frame = json.loads(text)
        except ValueError:
            return
        if not isinstance(frame, dict):
            return
        match frame.get("type"):
            case "keepAlive":
                self.send({"type": "keepAliveAck"})
            case "rpcCall" if isinstance(frame.get("endpoint"), str) and _whole(frame.get("callId")):
                self._rpc_call(frame)
            case "channelCreate" if isinstance(frame.get("endpoint"), str) and _whole(frame.get("channelId")):
                self._channel_create(frame)
            case "channelSend" if _whole(frame.get("channelId")):
                self._channel_send(frame)
            case "channelAck" if _whole(frame.get("channelId")) and frame["channelId"] not in self.channels:
                self._unknown_channel("channelAck", frame["channelId"])
            case "signalSubscribe" | "writableSignalSubscribe" as kind:
                # None of these namespaces has signals (official schemas).
                family = kind.removesuffix("Subscribe")
                self.warn(
                    f"Received {kind} for unknown endpoint, endpoint = {frame.get('endpoint')}",
                    f"{family}EndpointUnknown",
                )
            case _:
                return

    def warn(self, warning: str, kind: str) -> None:
        """Send a communicationWarning; the request in question is then never answered."""
        if self._warnings < _MOST_WARNINGS:
            self._warnings += 1
            self.send({"type": "communicationWarning", "warning": warning, "kind": kind})

    def gone(self) -> None:
        """Tell every open channel that the socket is gone."""
        for channel in list(self.channels.values()):
            channel.open = False
            channel.on_gone()
        self.channels.clear()

    def _rpc_call(self, frame: dict[str, Any]) -> None:
        name = frame["endpoint"]
        self._count(self.namespace.name, name)
        endpoint = self.namespace.rpcs.get(name)
        if endpoint is None:
            self.warn(f"Received rpcCall for unknown endpoint, endpoint = {name}", "rpcEndpointUnknown")
            return
        parameter = frame.get("parameter", ABSENT)
        mistakes = list(endpoint.check(parameter, "parameter"))
        if mistakes:
            self.warn(
                f"Received invalid parameter for rpcCall, endpointName = {name},"
                f" parameter = {_show(parameter)}. Zod error:\n\n" + "\n".join(mistakes),
                "rpcParameterTypeError",
            )
            return
        call = Call(port=self, endpoint=name, call_id=frame["callId"], parameter=parameter)
        self._interceptor.rpc(call=call, answer=lambda: endpoint.handle(call))

    def _channel_create(self, frame: dict[str, Any]) -> None:
        name, channel_id = frame["endpoint"], frame["channelId"]
        self._count(self.namespace.name, name)
        endpoint = self.namespace.streams.get(name)
        if endpoint is None:
            self.warn(
                f"Received channelCreate for unknown endpoint, endpoint = {name}", "channelEndpointUnknown"
            )
            return
        if channel_id in self.channels:
            self.warn(
                f"Received channelCreate for already open channel, channelId = {channel_id}",
                "channelAlreadyOpen",
            )
            return
        parameter = frame.get("creationParameter", ABSENT)
        mistakes = list(endpoint.check(parameter, "creationParameter"))
        if mistakes:
            self.warn(
                f"Received invalid creationParameter for channel, endpointName = {name},"
                f" creationParameter = {_show(parameter)}. Zod error:\n\n" + "\n".join(mistakes),
                "channelCreationParameterTypeError",
            )
            return
        channel = Channel(port=self, endpoint=name, channel_id=channel_id, parameter=parameter)
        self.channels[channel_id] = channel
        self._interceptor.channel(channel=channel, begin=lambda: endpoint.handle(channel))

    def _channel_send(self, frame: dict[str, Any]) -> None:
        channel = self.channels.get(frame["channelId"])
        if channel is None:
            self._unknown_channel("channelSend", frame["channelId"])
            return
        message = frame.get("message", ABSENT)
        allowed = self.namespace.streams[channel.endpoint].messages
        if not isinstance(message, dict) or message.get("type") not in allowed:
            expected = " | ".join(f"'{name}'" for name in allowed)
            self.warn(
                f"Received invalid message for channel, endpointName = {channel.endpoint},"
                f" message = {_show(message)}. Zod error:\n\n"
                f"- message.type: Invalid discriminator value. Expected {expected}",
                "channelMessageTypeError",
            )
            return
        if _whole(frame.get("ackId")):
            self.send({"type": "channelAck", "channelId": channel.channel_id, "ackId": frame["ackId"]})
        channel.on_message(message)

    def _unknown_channel(self, kind: str, channel_id: int) -> None:
        self.warn(f"Received {kind} for unknown channel, channelId = {channel_id}", "channelUnknown")


def _whole(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0


def _show(value: object) -> str:
    return "undefined" if value is ABSENT else dump(value)
