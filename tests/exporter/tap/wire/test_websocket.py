"""WebSocket frames: what the websockets library writes is read back, cut and fragmented as it may be."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

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
