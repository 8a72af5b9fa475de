"""WebSocket frames: what the websockets library writes is read back, cut and fragmented as it may be."""

import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from exporter.tap.wire.deflate import Inflater
from exporter.tap.wire.websocket import MAX_MESSAGE_BYTES, FrameReader


def wire(*frames: Frame, mask: bool = True) -> bytes:
    return b"".join(frame.serialize(mask=mask) for frame in frames)


def fragments(text: bytes, sizes: list[int]) -> list[Frame]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    pieces.append(text[at:])
    return [
        Frame(Opcode.TEXT if index == 0 else Opcode.CONT, piece, fin=index == len(pieces) - 1)
        for index, piece in enumerate(pieces)
    ]


def read(data: bytes, cuts: list[int]) -> list[bytes]:
    reader = FrameReader()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [message for s, e in itertools.pairwise(places) for message in reader.feed(data[s:e])]


@given(
    messages=st.lists(
        st.tuples(st.binary(max_size=300), st.lists(st.integers(0, 120), max_size=4)), max_size=4
    ),
    cuts=st.lists(st.integers(0, 2000), max_size=10),
    mask=st.booleans(),
)
def test_messages_are_put_together_whatever_the_fragments_and_cuts(
    *, messages: list[tuple[bytes, list[int]]], cuts: list[int], mask: bool
) -> None:
    frames = [frame for text, sizes in messages for frame in fragments(text, sizes)]
    assert read(wire(*frames, mask=mask), cuts) == [text for text, _ in messages]


def test_control_frames_between_fragments_and_binary_messages_are_passed_over() -> None:
    first, last = fragments(b"hello world", [5])
    data = wire(
        Frame(Opcode.BINARY, b"\0" * 200), first, Frame(Opcode.PING, b"p"), last, Frame(Opcode.CLOSE, b"")
    )
    assert read(data, []) == [b"hello world"]
    for control in (Opcode.CLOSE, Opcode.PING, Opcode.PONG):
        assert read(wire(first, Frame(control, b""), last), []) == [b"hello world"]


def test_of_a_message_of_fifty_megabytes_the_beginning_is_kept_and_the_next_one_read() -> None:
    reader = FrameReader()
    piece = b"a" * (1 << 20)
    head = Frame(Opcode.TEXT, b"").serialize(mask=False)[:1] + bytes([127]) + (50 << 20).to_bytes(8, "big")
    messages = reader.feed(head)
    for _ in range(50):
        messages += reader.feed(piece)
        assert len(reader._message or b"") <= MAX_MESSAGE_BYTES
    messages += reader.feed(wire(Frame(Opcode.TEXT, b"next"), mask=False))
    assert messages == [b"a" * MAX_MESSAGE_BYTES, b"next"]


def test_a_compressed_message_is_passed_over() -> None:
    compressed = bytearray(wire(Frame(Opcode.TEXT, b"zip")))
    compressed[0] |= 0x40  # RFC 7692: RSV1
    assert read(bytes(compressed) + wire(Frame(Opcode.TEXT, b"plain")), []) == [b"plain"]


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 300])
def test_one_byte_at_a_time_reads_alike(size: int, *, mask: bool) -> None:
    text = bytes(range(256)) * 2
    frames = [*fragments(text[:size], [3, 0, 5]), Frame(Opcode.PING, b"ping"), Frame(Opcode.TEXT, b"next")]
    data = wire(*frames[:1], frames[-2], *frames[1:-2], frames[-1], mask=mask)
    assert read(data, list(range(len(data)))) == read(data, []) == [text[:size], b"next"]


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537])
def test_messages_around_the_limit_are_cut_to_it(size: int) -> None:
    text = bytes(range(251)) * 300
    data = wire(Frame(Opcode.TEXT, text[:size]), Frame(Opcode.TEXT, b"next"))
    for cuts in ([], [5], [40_001], [65_540], [7, 30_003, 65_541]):
        assert read(data, cuts) == [text[: min(size, MAX_MESSAGE_BYTES)], b"next"]
    pieces = wire(*fragments(text[:size], [65_530, 3]), Frame(Opcode.TEXT, b"next"))
    assert read(pieces, [1000]) == [text[: min(size, MAX_MESSAGE_BYTES)], b"next"]


def packed(text: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return (deflate.compress(text) + deflate.flush(zlib.Z_FULL_FLUSH)).removesuffix(b"\0\0\xff\xff")


def compressed(*pieces: bytes, opcode: Opcode = Opcode.TEXT) -> bytes:
    """Write a compressed message in fragments."""
    frames = [
        Frame(opcode if not number else Opcode.CONT, piece, fin=number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    ]
    made = bytearray(wire(*frames))
    made[0] |= 0x40
    return bytes(made)


def test_with_an_inflater_compressed_messages_are_read_between_plain_ones() -> None:
    data = packed(b"hello world " * 20)
    stream = (
        compressed(data)
        + wire(Frame(Opcode.TEXT, b"plain"))
        + compressed(data[:5], b"", data[5:])
        + compressed(data, opcode=Opcode.BINARY)
        + wire(*fragments(b"last", [2]))
    )
    expected = [b"hello world " * 20, b"plain", b"hello world " * 20, b"last"]
    for cuts in ([], list(range(len(stream)))):
        reader = FrameReader(Inflater(takes_over=True))
        places = [0, *cuts, len(stream)]
        found = [message for s, e in itertools.pairwise(places) for message in reader.feed(stream[s:e])]
        assert found == expected


@pytest.mark.parametrize("bits", [0x10, 0x20, 0x50, 0x60])
def test_a_message_of_an_unknown_extension_is_passed_over(bits: int) -> None:
    unknown = bytearray(wire(Frame(Opcode.TEXT, b"x")))
    unknown[0] |= bits
    for inflater in (None, Inflater(takes_over=True)):
        assert FrameReader(inflater).feed(bytes(unknown) + wire(Frame(Opcode.TEXT, b"plain"))) == [b"plain"]
