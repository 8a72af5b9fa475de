"""The protocol state machine: every answer ends its own call, and no other frame impresses it."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.wire.messages import ABSENT, Identity, WireError
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
    Refused,
    Unreadable,
    Warned,
)
from tests.exporter.strategies import JSON
from tests.recorded import frames

SERVER_TYPES = (
    "rpcResult",
    "rpcError",
    "channelSend",
    "channelAck",
    "channelClose",
    "channelError",
    "keepAliveAck",
    "communicationWarning",
    "signalUpdate",
)

ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(SERVER_TYPES) | JSON,
        "success": st.booleans() | JSON,
        "callId": st.integers(-1, 4) | JSON,
        "channelId": st.integers(-1, 4) | JSON,
        "ackId": st.integers(0, 4) | JSON,
        "result": JSON,
        "message": JSON,
        "error": JSON,
        "warning": JSON,
        "kind": JSON,
        "extra": JSON,
    },
)

DEEP = b'{"type":"rpcResult","callId":0,"result":' + b"[" * 50_000 + b"]" * 50_000 + b"}"


def opened() -> Protocol:
    core = Protocol(Identity.guest())
    core.frames_to_send()
    assert core.receive('{"success":true}') == Authenticated()
    return core


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def sent(core: Protocol) -> list[Any]:
    return [json.loads(frame) for frame in core.frames_to_send()]


def test_the_handshake_is_the_only_frame_before_its_answer() -> None:
    core = Protocol(Identity("someone", "secret"))

    assert sent(core) == [{"authVersion": 1, "clientIdentifier": "someone", "clientPasskey": "secret"}]
    for too_early in (lambda: core.call("version"), lambda: core.open_channel("streamLogs"), core.keep_alive):
        with pytest.raises(RuntimeError, match="handshake"):
            too_early()
    assert core.frames_to_send() == []


def test_calls_and_channels_count_their_ids_apart_from_zero() -> None:
    core = opened()

    assert [core.call("version"), core.call("info"), core.open_channel("streamLogs")] == [0, 1, 0]
    core.keep_alive()
    assert sent(core) == [
        {"type": "rpcCall", "endpoint": "version", "callId": 0},
        {"type": "rpcCall", "endpoint": "info", "callId": 1},
        {"type": "channelCreate", "endpoint": "streamLogs", "channelId": 0},
        {"type": "keepAlive"},
    ]
    assert core.frames_to_send() == []


def test_a_parameter_is_sent_only_when_there_is_one() -> None:
    core = opened()
    core.call("a", ABSENT)
    core.call("b", {"identifier": "m"})
    core.open_channel("c", {"modelKey": "k"})

    absent, present, created = sent(core)
    assert "parameter" not in absent
    assert present["parameter"] == {"identifier": "m"}
    assert created["creationParameter"] == {"modelKey": "k"}


def test_a_refusal_carries_the_daemons_reason() -> None:
    core = Protocol(Identity.guest())

    assert core.receive('{"success":false,"error":"Invalid API token."}') == Refused("Invalid API token.")
    assert core.phase is Phase.REFUSED
    with pytest.raises(RuntimeError, match="refused"):
        core.call("version")


@pytest.mark.parametrize("error", [b"", b',"error":5', b',"error":"\xff"', b',"error":null'])
def test_a_refusal_without_a_readable_reason_is_still_a_refusal(error: bytes) -> None:
    event = Protocol(Identity.guest()).receive(b'{"success":false' + error + b"}")

    assert event == Refused("the daemon gave no reason")


def test_anything_before_the_handshakes_answer_is_unreadable_and_changes_nothing() -> None:
    core = Protocol(Identity.guest())

    assert core.receive('{"type":"rpcResult","callId":0}') == Unreadable("before_handshake")
    assert core.phase is Phase.HANDSHAKE
    assert core.receive('{"success":true}') == Authenticated()


def test_a_void_result_is_none_and_a_null_result_is_not() -> None:
    core = opened()
    core.call("unloadModel")
    core.call("other")

    assert core.receive('{"type":"rpcResult","callId":0}') == CallReturned(0, None)
    assert core.receive('{"type":"rpcResult","callId":1,"result":null}') == CallReturned(1, raw(None))


def test_an_answer_resolves_its_call_once() -> None:
    core = opened()
    core.call("version")
    answer = '{"type":"rpcResult","callId":0,"result":1}'

    assert core.receive(answer) == CallReturned(0, raw(1))
    assert core.receive(answer) == Unreadable("unknown_call")


def test_a_forgotten_calls_late_answer_is_unreadable() -> None:
    core = opened()
    core.forget_call(core.call("version"))

    assert core.receive('{"type":"rpcResult","callId":0,"result":1}') == Unreadable("unknown_call")


def test_an_error_keeps_the_daemons_words_and_code_but_never_its_stack() -> None:
    core = opened()
    core.call("unloadModel")
    error = {
        "title": "t",
        "cause": "c",
        "suggestion": "s",
        "displayData": {"code": "generic.x"},
        "stack": "Error: at /home/someone/secret.js",
    }

    event = core.receive(json.dumps({"type": "rpcError", "callId": 0, "error": error}))

    assert isinstance(event, CallErred)
    assert (event.error.title, event.error.cause, event.error.suggestion) == ("t", "c", "s")
    assert event.error.code == "generic.x"
    assert "secret" not in repr(event)


@pytest.mark.parametrize(
    "error", [b"", b',"error":5', b',"error":{"title":7}', b',"error":{"title":"\xff"}', b',"error":null']
)
def test_an_error_of_an_unknown_shape_still_ends_its_call(error: bytes) -> None:
    core = opened()
    core.call("unloadModel")

    event = core.receive(b'{"type":"rpcError","callId":0' + error + b"}")

    assert isinstance(event, CallErred)
    assert event.error.title.startswith("the daemon")
    assert event.error.code is None


def test_a_channel_message_that_asks_for_an_acknowledgement_gets_it() -> None:
    core = opened()
    channel = core.open_channel("streamLogs")
    core.frames_to_send()

    event = core.receive('{"type":"channelSend","channelId":0,"message":{"a":1},"ackId":7}')

    assert event == ChannelMessage(channel, msgspec.Raw(b'{"a":1}'))
    assert sent(core) == [{"type": "channelAck", "channelId": 0, "ackId": 7}]


def test_a_channel_message_without_ack_id_is_not_acknowledged() -> None:
    core = opened()
    core.open_channel("streamLogs")
    core.frames_to_send()
    core.receive('{"type":"channelSend","channelId":0,"message":1}')

    assert core.frames_to_send() == []


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ('{"type":"channelClose","channelId":0}', ChannelClosed(0)),
        (
            '{"type":"channelError","channelId":0,"error":{"title":"t"}}',
            ChannelErred(0, WireError(title="t")),
        ),
    ],
)
def test_an_ended_channel_takes_and_gives_nothing_more(frame: str, expected: Event) -> None:
    core = opened()
    channel = core.open_channel("loadModel")
    core.send_on_channel(channel, {"type": "cancel"})
    assert sent(core)[1:] == [{"type": "channelSend", "channelId": 0, "message": {"type": "cancel"}}]

    assert core.receive(frame) == expected
    core.send_on_channel(channel, {"type": "cancel"})

    assert core.frames_to_send() == []
    assert core.receive('{"type":"channelSend","channelId":0,"message":1}') == Unreadable("unknown_channel")


def test_a_channel_message_without_a_message_is_unreadable() -> None:
    core = opened()
    core.open_channel("streamLogs")

    assert core.receive('{"type":"channelSend","channelId":0}') == Unreadable("empty_message")


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        ('{"type":"keepAliveAck"}', KeepAliveAnswered()),
        ('{"type":"communicationWarning","warning":"w","kind":"k"}', Warned("w", "k")),
        ('{"type":"communicationWarning","warning":"w"}', Warned("w", "unspecified")),
        ('{"type":"channelAck","channelId":0,"ackId":1}', None),
        ('{"type":"signalUpdate","subscribeId":1,"patches":[]}', None),
        ('{"type":"tomorrow"}', Unreadable("unknown_type")),
        ("{}", Unreadable("unknown_type")),
        ("{not json", Unreadable("malformed")),
        ("[]", Unreadable("malformed")),
        ("", Unreadable("malformed")),
        (b"\xff", Unreadable("malformed")),
        ("\ud800", Unreadable("malformed")),
        (DEEP, Unreadable("malformed")),
    ],
)
def test_every_other_frame_has_its_event(frame: str | bytes, event: Event | None) -> None:
    core = opened()
    core.call("version")

    assert core.receive(frame) == event


def test_an_unknown_key_is_ignored() -> None:
    core = opened()
    core.call("version")

    assert core.receive('{"type":"rpcResult","callId":0,"result":1,"since":"0.5"}') == CallReturned(0, raw(1))


@given(st.lists(st.text() | st.binary() | ENVELOPES.map(json.dumps), max_size=12), st.booleans())
def test_no_frame_raises_or_yields_an_event_for_an_id_that_is_not_waiting(
    arriving: Sequence[str | bytes],
    handshaken: bool,  # noqa: FBT001 - hypothesis fills it
) -> None:
    core = opened() if handshaken else Protocol(Identity.guest())
    calls = {core.call("a"), core.call("b")} if handshaken else set()
    channels = {core.open_channel("c")} if handshaken else set()

    for frame in arriving:
        match core.receive(frame):
            case CallReturned(call_id=call_id) | CallErred(call_id=call_id):
                calls.remove(call_id)  # KeyError for a stranger, and for a second answer
            case ChannelMessage(channel_id=channel_id):
                assert channel_id in channels
            case ChannelClosed(channel_id=channel_id) | ChannelErred(channel_id=channel_id):
                channels.remove(channel_id)
            case _:
                pass


@given(st.data())
def test_any_interleaving_of_answers_and_channel_messages_resolves_to_its_own(data: st.DataObject) -> None:
    core = opened()
    expected_results = {core.call(f"call {number}"): f"result {number}" for number in range(5)}
    expected_messages = {
        core.open_channel("streamLogs"): [f"message {channel}.{number}" for number in range(3)]
        for channel in range(3)
    }
    # Each script keeps its own order, as one socket does; between scripts every order is possible.
    scripts: list[list[dict[str, Any]]] = [
        [{"type": "rpcResult", "callId": call_id, "result": result}]
        for call_id, result in expected_results.items()
    ]
    for channel_id, messages in expected_messages.items():
        sends = [{"type": "channelSend", "channelId": channel_id, "message": each} for each in messages]
        scripts.append([*sends, {"type": "channelClose", "channelId": channel_id}])
    owners = data.draw(st.permutations([index for index, script in enumerate(scripts) for _ in script]))

    results: dict[int, object] = {}
    received: dict[int, list[object]] = {channel_id: [] for channel_id in expected_messages}
    closed: Counter[int] = Counter()
    for owner in owners:
        match core.receive(json.dumps(scripts[owner].pop(0))):
            case CallReturned(call_id=call_id, result=result):
                assert result is not None
                results[call_id] = json.loads(bytes(result))
            case ChannelMessage(channel_id=channel_id, message=message):
                received[channel_id].append(json.loads(bytes(message)))
            case ChannelClosed(channel_id=channel_id):
                closed[channel_id] += 1
            case other:
                pytest.fail(f"unexpected: {other}")

    assert results == expected_results
    assert received == expected_messages
    assert closed == dict.fromkeys(expected_messages, 1)


def test_what_the_official_clients_send_is_what_we_send() -> None:
    """The frames of recording 01 and 02, made by our own Protocol from the same token and calls."""
    recorded = [frame.json for frame in frames("02") if (frame.dir, frame.op) == ("c2s", "text")]
    core = Protocol(Identity.from_token("sk-lm-Ab3dE6gH:0123456789abcdefghij"))
    ours = sent(core)
    core.receive('{"success":true}')
    core.call("version")

    assert [*ours, *sent(core)] == recorded
