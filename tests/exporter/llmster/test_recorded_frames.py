"""Recorded frames: every one is understood, and every error keeps its words."""

import json
from collections import Counter
from typing import Any

import pytest

from exporter.llmster.wire.messages import Identity, WireError
from exporter.llmster.wire.protocol import (
    Authenticated,
    CallErred,
    CallReturned,
    ChannelClosed,
    ChannelMessage,
    Event,
    KeepAliveAnswered,
    Protocol,
    Refused,
    Unreadable,
    Warned,
)
from tests.recorded import Frame, frames

# Server frames that are not understood, by recording. The only one is a line the recording broke on purpose.
ODDITIES: dict[str, Counter[str]] = {"11": Counter({"malformed": 1})}


def replay(recording: str) -> Counter[str]:
    """Play a recording through one Protocol per connection; count what was not understood.

    The recorded client's ids are given to our Protocol as they are, because the recorded server answers those.
    """
    unreadable: Counter[str] = Counter()
    cores: dict[int, Protocol] = {}
    for frame in frames(recording):
        if frame.ns == "http" or frame.op != "text":
            continue
        if frame.conn not in cores:
            cores[frame.conn] = Protocol(Identity.guest())
        if frame.dir == "c2s":
            _expect_answers_to(cores[frame.conn], frame)
            continue
        event = cores[frame.conn].receive(frame.data)
        if isinstance(event, Unreadable):
            unreadable[event.what] += 1
        _check_against(frame, event)
    return unreadable


def _expect_answers_to(core: Protocol, frame: Frame) -> None:
    try:
        asked = frame.json
    except ValueError:
        return
    match asked:
        case {"type": "rpcCall", "callId": int(call_id)}:
            core._calls.add(call_id)
        case {"type": "channelCreate", "channelId": int(channel_id)}:
            core._channels.add(channel_id)


def _check_against(frame: Frame, event: Event | None) -> None:
    """Compare what an event says with what the frame says."""
    if isinstance(event, Unreadable):
        return
    body, told = frame.json, _told_by(event)
    assert told.items() <= body.items()
    assert ("result" in told) == ("result" in body)
    assert event is not None or body["type"] in {"channelAck", "signalUpdate", "writableSignalUpdate"}


def _told_by(event: Event | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    match event:
        case Authenticated():
            told = {"success": True}
        case Refused(reason=reason):
            told = {"success": False, "error": reason}
        case CallReturned(call_id=number, result=result):
            told = {"type": "rpcResult", "callId": number}
            if result is not None:
                told["result"] = json.loads(bytes(result))
        case ChannelMessage(channel_id=number, message=message):
            told = {"type": "channelSend", "channelId": number, "message": json.loads(bytes(message))}
        case ChannelClosed(channel_id=number):
            told = {"type": "channelClose", "channelId": number}
        case Warned(warning=warning, kind=kind):
            told = {"type": "communicationWarning", "warning": warning, "kind": kind}
        case KeepAliveAnswered():
            told = {"type": "keepAliveAck"}
    return told


def test_every_recorded_error_keeps_its_words_and_its_code() -> None:
    errors = [
        (body["error"], Protocol(Identity.guest()))
        for number in ("12", "15")
        for frame in frames(number)
        if (frame.dir, frame.op) == ("s2c", "text")
        and (body := frame.json).get("type") in {"rpcError", "channelError"}
    ]
    assert len(errors) > 4
    for error, core in errors:
        core.receive('{"success":true}')
        core.call("x")
        event = core.receive(json.dumps({"type": "rpcError", "callId": 0, "error": error}))
        assert isinstance(event, CallErred)
        assert event.error == WireError(
            title=error["title"],
            cause=error.get("cause"),
            suggestion=error.get("suggestion"),
            display_data=error.get("displayData"),
        )
        assert event.error.code == error.get("displayData", {}).get("code")


@pytest.mark.parametrize("number", [f"{number:02}" for number in range(1, 18)])
def test_every_recorded_server_frame_is_understood(number: str) -> None:
    assert replay(number) == ODDITIES.get(number, Counter())
