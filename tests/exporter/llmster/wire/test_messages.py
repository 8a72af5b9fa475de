"""Wire messages: what goes out has the recorded form, what is secret stays inside."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.lenient import UNDECODABLE
from exporter.llmster.wire import messages
from exporter.llmster.wire.messages import ABSENT, Identity
from tests.exporter.strategies import JSON
from tests.recorded import frames

ALPHANUMERIC = string.ascii_letters + string.digits


def test_a_token_is_split_as_the_official_client_splits_it() -> None:
    handshake = next(frame for frame in frames("02") if (frame.dir, frame.op) == ("c2s", "text"))

    identity = Identity.from_token("sk-lm-Ab3dE6gH:0123456789abcdefghij")

    assert json.loads(messages.handshake_frame(identity)) == handshake.json


@pytest.mark.parametrize(
    "token",
    [
        "",
        "sk-lm-Ab3dE6gH",
        "Ab3dE6gH:0123456789abcdefghij",
        "sk-lm-Ab3dE6gH:0123456789abcdefghi",
        "sk-lm-Ab3dE6gH:0123456789abcdefghijk",
        "sk-lm-Ab3dE6gH:0123456789abcdefghij\n",
        "sk-lm-Ab3dE6g_:0123456789abcdefghij",
    ],
)
def test_a_malformed_token_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ValueError, match="form sk-lm-") as caught:
        Identity.from_token(token)

    assert token == "" or token not in str(caught.value)


@given(
    st.text(ALPHANUMERIC, min_size=8, max_size=8),
    st.text(ALPHANUMERIC, min_size=20, max_size=20),
)
def test_no_identity_shows_its_passkey(name: str, passkey: str) -> None:
    identity = Identity.from_token(f"sk-lm-{name}:{passkey}")

    assert (identity.client_identifier, identity.client_passkey) == (name, passkey)
    assert passkey not in repr(identity)
    assert passkey not in str(identity)


def test_guests_are_strangers_to_each_other_and_fit_the_wire() -> None:
    guests = [Identity.guest() for _ in range(20)]

    assert len({guest.client_identifier for guest in guests}) == len(guests)
    assert len({guest.client_passkey for guest in guests}) == len(guests)
    for guest in guests:
        assert guest.client_identifier.startswith("guest:")
        assert max(len(guest.client_identifier), len(guest.client_passkey)) <= 256
        assert guest.client_identifier not in repr(guest)


@given(st.text(), st.integers(0, 2**53), JSON)
def test_calls_and_channels_round_trip(endpoint: str, number: int, parameter: object) -> None:
    call = messages.call_frame(endpoint=endpoint, call_id=number, parameter=parameter)
    create = messages.channel_create_frame(endpoint=endpoint, channel_id=number, parameter=parameter)
    send = messages.channel_send_frame(channel_id=number, message=parameter)
    ack = messages.channel_ack_frame(channel_id=number, ack_id=number)

    assert json.loads(call) == {
        "type": "rpcCall",
        "endpoint": endpoint,
        "callId": number,
        "parameter": parameter,
    }
    assert json.loads(create) == {
        "type": "channelCreate",
        "endpoint": endpoint,
        "channelId": number,
        "creationParameter": parameter,
    }
    assert json.loads(send) == {"type": "channelSend", "channelId": number, "message": parameter}
    assert json.loads(ack) == {"type": "channelAck", "channelId": number, "ackId": number}


def test_an_absent_parameter_leaves_no_key() -> None:
    assert "arameter" not in messages.call_frame(endpoint="e", call_id=0)
    assert "arameter" not in messages.channel_create_frame(endpoint="e", channel_id=0, parameter=ABSENT)
    assert repr(ABSENT) == "ABSENT"


@given(JSON, JSON)
def test_an_envelope_hands_its_payloads_over_unchanged(result: object, message: object) -> None:
    frame = {"type": "t", "callId": 1, "result": result, "message": message, "new in 0.5": 1}

    envelope = messages.decode_envelope(json.dumps(frame))

    assert (envelope.type, envelope.call_id) == ("t", 1)
    assert json.loads(bytes(envelope.result)) == result  # type: ignore[arg-type]
    assert json.loads(bytes(envelope.message)) == message  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("escaped", "read"),
    [
        (r"cut \ud83d", "cut \ufffd"),
        (r"\uDE00 late", "\ufffd late"),
        (r"\ud83d\ud83d\ude00", "\ufffd\N{GRINNING FACE}"),
        (r"\\ud83d \ud83d", r"\ud83d" + " \ufffd"),
        (r"\ud83dx\ude00", "\ufffdx\ufffd"),
    ],
)
def test_half_a_surrogate_pair_costs_a_character_and_not_the_frame(escaped: str, read: str) -> None:
    frame = f'{{"type":"channelSend","channelId":3,"message":["{escaped}",1]}}'

    for arrived in (frame, frame.encode()):
        envelope = messages.decode_envelope(arrived)

        assert envelope.channel_id == 3
        assert json.loads(bytes(envelope.message)) == [read, 1]  # type: ignore[arg-type]


@given(st.binary() | st.text())
def test_decoding_an_envelope_raises_only_what_it_says(frame: bytes | str) -> None:
    try:
        messages.decode_envelope(frame)
    except UNDECODABLE:
        return
    assert isinstance(json.loads(frame), dict)


@given(JSON)
def test_whatever_arrives_as_an_error_an_error_comes_out(error: object) -> None:
    envelope = messages.decode_envelope(json.dumps({"error": error}))

    read = messages.decode_error(envelope.error)

    assert isinstance(read.title, str)
    assert read.code is None or isinstance(read.code, str)


@pytest.mark.parametrize("display_data", [None, "generic.x", {"code": 5}, {}, ["code"]])
def test_an_error_code_is_text_or_nothing(display_data: object) -> None:
    frame = json.dumps({"error": {"title": "t", "displayData": display_data}})

    assert messages.decode_error(messages.decode_envelope(frame).error).code is None
