"""Reading one direction of HTTP/1.1: any cut of the bytes reads alike, and h11 reads the same."""

import itertools
from dataclasses import dataclass, field

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.tap.wire.http1 import MAX_HEAD_BYTES, Body, FramingError, Head, MessageReader


@dataclass
class Told:
    """Notes what a reader tells; `follows` is what it is answered on a head."""

    follows: Body = Body.FRAMED
    heads: list[Head] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    whole: list[bytes] = field(default_factory=list)
    tunnel: bytes = b""

    def on_head(self, head: Head) -> Body:
        self.heads.append(head)
        self.bodies.clear()
        return self.follows

    def on_body(self, data: bytes) -> None:
        self.bodies.append(data)

    def on_end(self) -> None:
        self.whole.append(b"".join(self.bodies))

    def on_tunnel(self, data: bytes) -> None:
        self.tunnel += data


def read(data: bytes, *, requests: bool, cuts: tuple[int, ...] = (), follows: Body = Body.FRAMED) -> Told:
    told = Told(follows)
    reader = MessageReader(told, requests=requests)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        if start < end:
            reader.feed(data[start:end])
    return told


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
    b'5;note="x"\r\nhello\r\n0006\r\n world\r\n0\r\nTrailer: yes\r\n\r\n'
)
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


def test_chunks_are_read_without_their_sizes_extensions_and_trailers() -> None:
    told = read(CHUNKED, requests=False)
    assert told.whole == [b"hello world"]
    assert told.heads[0].header("x-a") == "1, 2"


@given(st.lists(st.integers(0, len(CHUNKED + SIZED)), max_size=12).map(tuple))
def test_any_cut_of_the_bytes_reads_alike(cuts: tuple[int, ...]) -> None:
    told = read(CHUNKED + SIZED, requests=False, cuts=cuts)
    assert told.whole == [b"hello world", b"abc"]


def test_pipelined_requests_are_told_one_by_one() -> None:
    data = (
        b"GET /a HTTP/1.1\r\n\r\n\r\nPOST /b HTTP/1.1\r\ncontent-length: 2\r\n\r\nhiGET /c HTTP/1.1\r\n\r\n"
    )
    told = read(data, requests=True)
    assert [head.start[1] for head in told.heads] == ["/a", "/b", "/c"]
    assert told.whole == [b"", b"hi", b""]


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    told = Told()
    reader = MessageReader(told, requests=False)
    reader.feed(b"HTTP/1.0 200 OK\r\n\r\nabc")
    reader.feed(b"def")
    assert told.whole == []
    assert reader.feed_eof()
    assert told.whole == [b"abcdef"]


def test_an_end_in_the_middle_of_a_message_is_told_from_one_between_messages() -> None:
    reader = MessageReader(Told(), requests=False)
    reader.feed(SIZED)
    assert reader.feed_eof()
    reader.feed(SIZED[:-1])
    assert not reader.feed_eof()


def test_after_a_switch_everything_is_the_other_protocol() -> None:
    told = read(b"HTTP/1.1 101 Switching\r\n\r\n\x81\x00", requests=False, follows=Body.TUNNEL, cuts=(20, 27))
    assert told.tunnel == b"\x81\x00"


def test_no_body_is_read_where_the_exchange_has_none_whatever_the_headers_say() -> None:
    told = read(SIZED[:-3] * 2, requests=False, follows=Body.NONE)
    assert told.whole == [b"", b""]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00 TLS\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 5000,
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: before any header\r\n\r\n",
    ],
)
def test_what_cannot_be_framed_is_refused(data: bytes) -> None:
    with pytest.raises(FramingError):
        read(data, requests=False)


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.booleans()), min_size=1, max_size=5),
    st.lists(st.integers(0, 3000), max_size=8).map(tuple),
)
def test_what_h11_writes_is_read_back(bodies: list[tuple[bytes, bool]], cuts: tuple[int, ...]) -> None:
    wire = b""
    for body, is_chunked in bodies:
        connection = h11.Connection(h11.CLIENT)
        framing = ("transfer-encoding", "chunked") if is_chunked else ("content-length", str(len(body)))
        request = h11.Request(method="POST", target="/", headers=[("host", "x"), framing])
        for event in (request, h11.Data(data=body), h11.EndOfMessage()):
            wire += connection.send(event) or b""
    told = read(wire, requests=True, cuts=cuts)
    assert told.whole == [body for body, _ in bodies]


@pytest.mark.parametrize(
    ("headers", "body", "read_as"),
    [
        (b"Content-Length: 3\r\nContent-Length: 3", b"abc", b"abc"),
        (b"Content-Length: 3, 3", b"abc", b"abc"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 1", b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"Content-Length: 1\r\nTransfer-Encoding: gzip, Chunked", b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"Transfer-Encoding:\r\n chunked", b"3;a=b;c\r\nabc\r\n0\r\nX: y\r\nZ: z\r\n\r\n", b"abc"),
        (b"X: one\r\n\ttwo\r\nContent-Length: 3", b"abc", b"abc"),
        (b"Content-Length: 0003", b"abc", b"abc"),
    ],
)
def test_what_smugglers_use_is_read_as_the_standard_says(headers: bytes, body: bytes, read_as: bytes) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n" + body + SIZED
    told = read(data, requests=False)
    assert told.whole == [read_as, b"abc"]
    assert told.heads[0].header("x") in {"", "one two"}


def test_a_coding_that_only_ends_like_chunked_is_read_to_the_end_of_the_connection() -> None:
    told = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n3\r\nabc", requests=False)
    assert (told.bodies, told.whole) == ([b"3\r\nabc"], [])
