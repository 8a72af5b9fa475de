"""Targets: frames of the daemon's WebSocket, and events of its log stream.

Knows no socket. What a well-formed frame must lead to is worked out here from our own record of what was asked.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from exporter.llmster.events import (
    LogEvent,
    PredictionInput,
    PredictionOutput,
    PredictionStats,
    RuntimeLog,
    ServerLog,
    UnknownEvent,
    parse,
    parse_message,
    parse_ndjson_line,
)
from exporter.llmster.wire.messages import Identity
from exporter.llmster.wire.protocol import (
    Authenticated,
    CallErred,
    CallReturned,
    ChannelClosed,
    ChannelErred,
    ChannelMessage,
    Event,
    KeepAliveAnswered,
    Phase,
    Protocol,
    Unreadable,
    Warned,
)
from tests.fuzz.choices import LONE_SURROGATE, Choices

_TYPES: Final = (
    "rpcResult",
    "rpcError",
    "channelSend",
    "channelClose",
    "channelError",
    "keepAliveAck",
    "communicationWarning",
    "channelAck",
    "somethingNew",
)
_FINAL: Final = {"rpcResult": CallReturned, "rpcError": CallErred}
_ENDS: Final = {"channelSend": ChannelMessage, "channelClose": ChannelClosed, "channelError": ChannelErred}


class _Ledger:
    """What we asked for and were not answered yet, kept beside the product's own."""

    def __init__(self, core: Protocol) -> None:
        self.core = core
        self.calls: set[int] = set()
        self.channels: set[int] = set()
        self.asked = self.answered = self.forgotten = 0

    def call(self) -> None:
        call_id = self.core.call("endpoint")
        assert call_id not in self.calls, f"call id {call_id} was given out while it was waiting"
        self.calls.add(call_id)
        self.asked += 1

    def forget(self, call_id: int) -> None:
        self.core.forget_call(call_id)
        if call_id in self.calls:
            self.calls.discard(call_id)
            self.forgotten += 1

    def took(self, event: Event | None) -> None:
        match event:
            case CallReturned(call_id=call_id) | CallErred(call_id=call_id):
                assert call_id in self.calls, f"an answer to call {call_id}, which nobody waits for"
                self.calls.discard(call_id)
                self.answered += 1
            case ChannelMessage(channel_id=channel_id):
                assert channel_id in self.channels, f"a message of channel {channel_id}, which is not open"
            case ChannelClosed(channel_id=channel_id) | ChannelErred(channel_id=channel_id):
                assert channel_id in self.channels, f"the end of channel {channel_id}, which is not open"
                self.channels.discard(channel_id)
            case _:
                pass

    def balance(self) -> None:
        assert self.core._calls == self.calls, f"waits for {self.core._calls}, asked {self.calls}"
        assert self.core._channels == self.channels, f"open {self.core._channels}, opened {self.channels}"
        assert self.asked == self.answered + self.forgotten + len(self.calls), "calls were lost"


def protocol(choices: Choices) -> None:
    """No frame raises; every call and channel ends once and no stranger's does."""
    core = Protocol(Identity.guest())
    ledger = _Ledger(core)
    if not choices.rarely():
        assert core.receive('{"success":true}') == Authenticated()
    for _ in range(40):
        if choices.is_used_up:
            break
        action = choices.upto(7)
        if core.phase is Phase.OPEN and action == 0:
            ledger.call()
        elif core.phase is Phase.OPEN and action == 1:
            ledger.channels.add(core.open_channel("endpoint"))
        elif action == 2:
            ledger.forget(choices.upto(6))
        elif action == 3:
            ledger.took(
                core.receive(choices.raw(40) if choices.flag() else choices.text(40, surrogates=True))
            )
        else:
            _send(choices, ledger)
        ledger.balance()
    sent = [json.loads(frame) for frame in core.frames_to_send()]
    assert sum(frame.get("type") == "rpcCall" for frame in sent) == ledger.asked


def _send(choices: Choices, ledger: _Ledger) -> None:
    """Send a frame of the right form, and expect the one event it must lead to."""
    core = ledger.core
    type_, number = choices.pick(_TYPES), choices.upto(6)
    payload = choices.json(surrogates=True)
    frame: dict[str, Any] = {"type": type_, "callId": number, "channelId": number, "unknown": 1}
    if choices.flag():
        frame |= {"result": payload, "message": payload, "error": payload}
    if choices.flag():
        frame["ackId"] = choices.upto(3)
    was_open = core.phase is Phase.OPEN
    calls, channels = set(ledger.calls), set(ledger.channels)
    text = json.dumps(frame)
    event = core.receive(text.encode() if choices.flag() else text)
    ledger.took(event)
    expected: type[object] = type(None)
    if not was_open or type_ == "somethingNew":
        expected = Unreadable
    elif type_ in _FINAL:
        expected = _FINAL[type_] if number in calls else Unreadable
    elif type_ in _ENDS:
        empty = type_ == "channelSend" and "message" not in frame
        expected = Unreadable if empty or number not in channels else _ENDS[type_]
    elif type_ in ("keepAliveAck", "communicationWarning"):
        expected = KeepAliveAnswered if type_ == "keepAliveAck" else Warned
    assert type(event) is expected, f"{text} led to {event}, not {expected.__name__}"
    if isinstance(event, CallReturned) and "result" in frame and event.result is not None:
        whole = (
            json.dumps(payload, ensure_ascii=False)
            .encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
        )
        assert json.loads(bytes(event.result)) == json.loads(whole), "the result is not what was sent"


_FIELDS: Final[Mapping[str, tuple[type[object], tuple[str, ...]]]] = {
    "llm.prediction.input": (PredictionInput, ("input", "modelIdentifier")),
    "llm.prediction.output": (PredictionOutput, ("output", "modelIdentifier")),
    "server.log": (ServerLog, ("content",)),
    "runtime.log": (RuntimeLog, ("message",)),
}
_OPTIONAL: Final = ("modelPath", "stats", "level", "engineName", "pid", "instanceReference")
_LATEST: Final = 2**63 // 10**6
_STATS: Final = (
    "stopReason",
    "tokensPerSecond",
    "timeToFirstTokenSec",
    "totalTimeSec",
    "promptTokensCount",
    "predictedTokensCount",
    "totalDraftTokensCount",
    "usedDraftModelKey",
)


def events(choices: Choices) -> None:
    """Any entry parses to some event; one that has what it needs keeps its type and its text, whatever else it has."""
    if choices.rarely():
        raw = choices.rest()
        for event in (parse(raw), parse_message(raw), parse_ndjson_line(raw)):
            if event is not None:
                _is_sound(event)
        return
    kind = choices.pick((*_FIELDS, "some.new.type"))
    shape, required = _FIELDS.get(kind, (UnknownEvent, ()))
    texts = {name: choices.text(40, surrogates=True) for name in required}
    data: dict[str, Any] = {"type": kind, **texts}
    for name in choices.some(_OPTIONAL, 4):
        data[name] = choices.json(1, surrogates=True)
    if choices.flag():
        data["stats"] = {name: choices.json(0, surrogates=True) for name in choices.some(_STATS, 6)}
    stamp = choices.pick((1_795_351_872_748, 1_795_351_872_748.5, choices.number()))
    entry = {"timestamp": stamp, "data": data}
    raw_entry = json.dumps(entry, ensure_ascii=choices.flag())
    event = parse(raw_entry if choices.flag() else raw_entry.encode("utf-8", "replace"))
    _is_sound(event)
    if 1 <= stamp < _LATEST:
        assert type(event) is shape, f"{raw_entry} became {event}"
        assert event.timestamp_ms == int(stamp)
    else:
        assert isinstance(event, UnknownEvent), f"{raw_entry} has no believable time and became {event}"
    if isinstance(event, PredictionOutput | PredictionInput) and LONE_SURROGATE not in raw_entry:
        said = event.output if isinstance(event, PredictionOutput) else event.prompt
        if "\\ud83d" not in raw_entry:
            assert said == texts["output" if isinstance(event, PredictionOutput) else "input"]
        assert len(said) == len(texts["output" if isinstance(event, PredictionOutput) else "input"])


def _is_sound(event: LogEvent) -> None:
    """Every text can be encoded, every number is finite and in its range."""
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, str):
            value.encode()
        if isinstance(value, PredictionStats):
            _are_numbers(msgspec.structs.asdict(value))
    if event.timestamp_ms is not None:
        assert 1 <= event.timestamp_ms < _LATEST, event
    elif not isinstance(event, UnknownEvent):
        raise AssertionError(f"{event} has no time")


def _are_numbers(stats: Mapping[str, Any]) -> None:
    for name, value in stats.items():
        if isinstance(value, str):
            value.encode()
        elif value is not None:
            assert math.isfinite(value), (name, value)
            assert value >= 0, (name, value)
            if name.endswith(("tokens", "accepted", "rejected", "ignored")):
                assert isinstance(value, int), f"{name} is {value!r}"
