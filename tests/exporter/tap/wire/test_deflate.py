"""Compressed WebSocket messages: what the websockets library writes is read back, and a bomb is not unpacked."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from exporter.tap.wire.deflate import MAX_INFLATED_BYTES, InflateError, Inflater, inflaters
from exporter.tap.wire.websocket import MAX_MESSAGE_BYTES, FrameReader


def packed(packer: PerMessageDeflate, text: bytes, *, opcode: Opcode = Opcode.TEXT, pieces: int = 1) -> bytes:
    """Write a message in so many fragments, compressed."""
    size = max(1, -(-len(text) // pieces))
    parts = [text[at : at + size] for at in range(0, len(text), size)] or [b""]
    frames = [
        Frame(opcode if index == 0 else Opcode.CONT, part, fin=index == len(parts) - 1)
        for index, part in enumerate(parts)
    ]
    return b"".join(frame.serialize(mask=True, extensions=[packer]) for frame in frames)


def packer(*, takes_over: bool = True, bits: int = 15) -> PerMessageDeflate:
    return PerMessageDeflate(
        remote_no_context_takeover=False,
        local_no_context_takeover=not takes_over,
        remote_max_window_bits=15,
        local_max_window_bits=bits,
    )


@given(
    texts=st.lists(st.binary(max_size=400), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 2000), max_size=8),
    pieces=st.integers(1, 4),
    takes_over=st.booleans(),
    bits=st.integers(9, 15),
)
def test_messages_are_inflated_whatever_the_fragments_cuts_and_window(
    *, texts: list[bytes], cuts: list[int], pieces: int, takes_over: bool, bits: int
) -> None:
    sender = packer(takes_over=takes_over, bits=bits)
    data = b"".join(packed(sender, text, pieces=pieces) for text in texts)
    reader = FrameReader(Inflater(takes_over=takes_over))
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert [one for s, e in itertools.pairwise(places) for one in reader.feed(data[s:e])] == texts


def test_a_message_that_is_passed_over_does_not_spoil_the_next_one() -> None:
    sender, reader = packer(), FrameReader(Inflater(takes_over=True))
    long = b"abcdefgh" * MAX_MESSAGE_BYTES
    data = (
        packed(sender, b"first", opcode=Opcode.BINARY) + packed(sender, long) + packed(sender, b"first again")
    )
    read = reader.feed(data)
    assert (read[0], read[1]) == (long[:MAX_MESSAGE_BYTES], b"first again")


def test_a_bomb_is_not_unpacked() -> None:
    sender, reader = packer(), FrameReader(Inflater(takes_over=True))
    data = packed(sender, bytes(MAX_INFLATED_BYTES + 1))
    with pytest.raises(InflateError, match="more than"):
        reader.feed(data)


def test_what_is_not_deflate_is_refused() -> None:
    with pytest.raises(InflateError):
        Inflater(takes_over=True).feed(b"\xff" * 64)


@pytest.mark.parametrize(
    ("extensions", "client", "daemon"),
    [
        ("", None, None),
        ("x-other", None, None),
        ("permessage-deflate", True, True),
        ("x-other, permessage-deflate; server_no_context_takeover", True, False),
        ("Permessage-Deflate; client_no_context_takeover; client_max_window_bits=12", False, True),
    ],
)
def test_the_answer_says_how_each_direction_is_compressed(
    *,
    extensions: str,
    client: bool | None,
    daemon: bool | None,
) -> None:
    made = [None if one is None else one._takes_over for one in inflaters(extensions)]
    assert made == [client, daemon]
