"""Make a simulated daemon misbehave on demand: hangs, delays, odd answers, refused or dropped sockets.

Works on calls, channels and HTTP requests, whatever their meaning.
"""

from __future__ import annotations

import asyncio
import dataclasses
import fnmatch
import json
from typing import TYPE_CHECKING, Any, Literal

from llmster_sim.errors import DaemonError
from llmster_sim.wire.schema import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmster_sim.clock import Clock
    from llmster_sim.engine.log_events import Event
    from llmster_sim.wire.envelopes import Call, Channel

Action = Literal["hang", "delay", "warn", "fail", "alter", "raw", "close", "html"]
# More than any client's default message limit; operators saw 5 MB outputs in the log stream.
BIG_FRAME_BYTES = 5 * 1024 * 1024


@dataclasses.dataclass(slots=True, kw_only=True)
class Rule:
    """One fault: what it applies to, what it does, and how often it still will (None: always)."""

    target: str
    action: Action
    left: int | None
    seconds: float = 0.0
    text: str = ""
    status: int = 200
    error: DaemonError | None = None
    alter: Callable[[Any], Any] | None = None


class Faults:
    """The faults in force. Targets: `llm.listLoaded`, `llm.*`, `GET /api/v1/models`, `* /api/*`, `*`.

    `times` limits how often a fault strikes. `clear()` takes every one of them back.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._rules: list[Rule] = []
        self._thawed = asyncio.Event()
        self._thawed.set()
        self.refuse_upgrades = False
        self.upgrade_status = 403
        """What refused upgrades are answered with: 403 by the official framework, 502 or 503 by a proxy."""
        self.handshake_delay_s: float | None = 0.0
        """Virtual seconds before a handshake is answered; None: never."""
        self.drop_sockets: Callable[[], int] = lambda: 0
        self.revoke: Callable[[], None] = lambda: None
        self.rotate: Callable[[str], None] = lambda _token: None
        self.restart: Callable[[float], None] = lambda _down_s: None
        """Ends the daemon; it is there again after so many real seconds, as a new process."""
        self.broadcast: Callable[[str], None] = lambda _text: None

    # Answers to calls, channels and requests

    def hang(self, target: str, *, times: int | None = None) -> None:
        """Take the request and never answer."""
        self._add(target, "hang", times)

    def delay(self, target: str, seconds: float, *, times: int | None = None) -> None:
        """Answer `seconds` of virtual time later."""
        self._add(target, "delay", times, seconds=seconds)

    def warn(self, target: str, *, times: int | None = None) -> None:
        """Send a communicationWarning instead of the answer."""
        self._add(target, "warn", times)

    def fail(self, target: str, *, error: DaemonError | None = None, times: int | None = None) -> None:
        """Answer with an rpcError, channelError or HTTP 500 error object."""
        failure = error or DaemonError(
            "Injected failure", cause="Injected by the simulator.", suggestion="Turn the fault off."
        )
        self._add(target, "fail", times, error=failure)

    def alter(self, target: str, change: Callable[[Any], Any], *, times: int | None = None) -> None:
        """Send `change(result)` for a call, or `change(message)` for every message of a channel."""
        self._add(target, "alter", times, alter=change)

    def unknown_enum(
        self, target: str, *, key: str, value: str = "surprising", times: int | None = None
    ) -> None:
        """Put a value outside every schema under `key`, anywhere in the answer."""
        self.alter(target, lambda result: _replace(result, key, value), times=times)

    def wrong_types(self, target: str, *, times: int | None = None) -> None:
        """Turn every number of the answer into text and every text into a number."""
        self.alter(target, _swap_types, times=times)

    def malformed_json(self, target: str, *, times: int | None = None) -> None:
        """Send half a frame instead of the answer."""
        self._add(target, "raw", times, text='{"type":"rpcResult","callId":{id},"resu')

    def raw(self, target: str, text: str, *, times: int | None = None) -> None:
        """Send this text frame instead of the answer; `{id}` becomes the call's or channel's id."""
        self._add(target, "raw", times, text=text)

    def big_frame(self, target: str, *, size_bytes: int = BIG_FRAME_BYTES, times: int | None = None) -> None:
        """Add an unknown key with that many characters to each object of the answer's first level."""
        self.alter(target, lambda result: _pad(result, size_bytes), times=times)

    def close_mid_call(self, target: str, *, times: int | None = None) -> None:
        """Cut the socket instead of answering."""
        self._add(target, "close", times)

    def html(self, target: str = "* /*", *, status: int = 200, times: int | None = None) -> None:
        """Answer HTTP requests with a web page, as a proxy or a crashing handler does."""
        self._add(target, "html", times, status=status)

    def clear(self) -> None:
        """Clear all faults."""
        self._rules.clear()
        self.refuse_upgrades = False
        self.upgrade_status = 403
        self.handshake_delay_s = 0.0
        self.thaw()

    # Connections

    def freeze(self) -> None:
        """Accept connections and answer nothing at all, like a stopped process; no keepAliveAck either."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Go on; what was sent meanwhile is answered now."""
        self._thawed.set()

    async def thawed(self) -> None:
        """Wait until the daemon is not frozen."""
        await self._thawed.wait()

    def drop_connections(self) -> int:
        """Cut every WebSocket without a close frame; gives how many there were."""
        return self.drop_sockets()

    def revoke_token(self) -> None:
        """Refuse the API token from now on and close the connections that used it."""
        self.revoke()

    def rotate_token(self, token: str) -> None:
        """Take another API token from now on; connections that used the one before go on."""
        self.rotate(token)

    def send_raw(self, text: str) -> None:
        """Send a text frame to every open log stream; `{id}` becomes the channel's id."""
        self.broadcast(text)

    def send_log(self, event: Event) -> None:
        """Send any object as a log event to every open log stream."""
        message = json.dumps({"type": "log", "log": event}, separators=(",", ":"))
        self.broadcast('{"type":"channelSend","channelId":{id},"message":' + message + "}")

    # Used by the layers that answer

    def rpc(self, *, call: Call, answer: Callable[[], None]) -> None:
        """Answer a call, or do what a rule says instead."""
        self._answered(call, str(call.call_id), answer)

    def channel(self, *, channel: Channel, begin: Callable[[], None]) -> None:
        """Begin a channel, or do what a rule says instead."""
        self._answered(channel, str(channel.channel_id), begin)

    def _answered(self, asked: Call | Channel, number: str, answer: Callable[[], None]) -> None:
        rule = self._take(asked.name)
        if rule is None:
            answer()
            return
        match rule.action:
            case "delay":
                self._clock.call_later(rule.seconds, answer)
            case "warn":
                asked.port.warn(f"Injected warning for {asked.endpoint}", "unknown")
            case "fail" if rule.error is not None:
                asked.fail(rule.error)
            case "alter":
                asked.transform = rule.alter
                answer()
            case "raw":
                asked.port.send_text(rule.text.replace("{id}", number))
            case "close":
                asked.port.hang_up()
            case _:
                return

    def http(self, *, method: str, path: str) -> Rule | None:
        """Give the rule for an HTTP request, if any; used up by one."""
        return self._take(f"{method} {path}")

    def _add(self, target: str, action: Action, times: int | None, **details: Any) -> None:
        self._rules.append(Rule(target=target, action=action, left=times, **details))

    def _take(self, name: str) -> Rule | None:
        for rule in self._rules:
            if rule.left != 0 and fnmatch.fnmatchcase(name, rule.target):
                if rule.left is not None:
                    rule.left -= 1
                return rule
        return None


def _replace(value: Any, key: str, new: str) -> Any:
    if isinstance(value, list):
        return [_replace(item, key, new) for item in value]
    if isinstance(value, dict):
        return {name: new if name == key else _replace(item, key, new) for name, item in value.items()}
    return value


def _swap_types(value: Any) -> Any:
    if isinstance(value, list):
        return [_swap_types(item) for item in value]
    if isinstance(value, dict):
        return {name: _swap_types(item) for name, item in value.items()}
    if isinstance(value, str):
        return len(value)
    return value if value is None or value is ABSENT else str(value)


def _pad(value: Any, size_bytes: int) -> Any:
    padding = "x" * size_bytes
    if isinstance(value, list):
        return [{**item, "paddingOfSimulator": padding} if isinstance(item, dict) else item for item in value]
    return {**value, "paddingOfSimulator": padding} if isinstance(value, dict) else value
