"""Server-sent events: any cut reads alike, all three line ends, and nothing grows."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from exporter.tap.wire.sse import MAX_EVENT_BYTES, EventReader

STREAM = b': note\r\n\r\nevent: a\r\ndata: {"x":1}\r\n\r\ndata:two\ndata: lines\n\ndata: last\r\rid: 7\n\ndata: end\n\n'
EVENTS = [b'{"x":1}', b"two\nlines", b"last", b"end"]


def read(data: bytes, cuts: list[int]) -> tuple[list[bytes], EventReader]:
    reader = EventReader()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [event for s, e in itertools.pairwise(places) for event in reader.feed(data[s:e])], reader


@given(st.lists(st.integers(0, len(STREAM)), max_size=10))
def test_any_cut_reads_alike(cuts: list[int]) -> None:
    assert read(STREAM, cuts)[0] == EVENTS


def test_an_event_that_is_too_long_is_skipped_and_the_next_one_read() -> None:
    long = b"data: " + b"x" * (3 * MAX_EVENT_BYTES) + b"\n\n"
    events, reader = read(long + b"data: ok\n\n", [1000, MAX_EVENT_BYTES * 2, len(long) - 1])
    assert events == [b"ok"]
    assert reader.skipped == 1


def test_a_stream_without_an_end_of_event_keeps_a_bounded_part() -> None:
    reader = EventReader()
    for _ in range(64):
        assert reader.feed(b"data: " + b"y" * 32_768) == []
    assert len(reader._rest) <= 2 * MAX_EVENT_BYTES


@given(
    end=st.sampled_from(["\n", "\r", "\r\n"]),
    has_mark=st.booleans(),
    cuts=st.lists(st.integers(0, 120), max_size=10),
)
def test_each_line_end_alone_comments_names_ids_and_a_mark_at_the_start(
    *,
    end: str,
    has_mark: bool,
    cuts: list[int],
) -> None:
    lines = ["\ufeff" * has_mark + "data: one", "", ": note", "event: x", "id: 3", "retry: 10", "data:two"]
    lines += ["data", "data:  three", "datax: no", "", "event: without data", "", "data: [DONE]", "", ""]
    stream = end.join(lines).encode()
    assert read(stream + b"\n", cuts)[0] == [b"one", b"two\n\n three", b"[DONE]"]


def test_a_mark_in_the_middle_is_text() -> None:
    assert read("data: a\n\n\ufeffdata: b\n\ndata: \ufeffc\n\n".encode(), [])[0] == [b"a", "\ufeffc".encode()]


def test_one_byte_at_a_time_reads_alike_with_every_line_end_and_a_mark() -> None:
    assert read(STREAM, list(range(len(STREAM))))[0] == EVENTS
    for end in (b"\n", b"\r", b"\r\n"):
        stream = (
            b"\xef\xbb\xbf" + end.join([b"data: one", b"", b"data: two", b"data: three", b"", b""]) + b"\n"
        )
        assert read(stream, list(range(len(stream))))[0] == [b"one", b"two\nthree"]
        assert read(stream, [])[0] == [b"one", b"two\nthree"]
    assert read(b"\xef\xbb\n\ndata: x\n\n", [1, 2, 3])[0] == [b"x"]


def test_an_event_may_be_as_long_as_the_limit_and_each_longer_one_is_counted() -> None:
    longest = b"data: " + b"x" * (MAX_EVENT_BYTES - 6)
    longer = longest + b"x"
    for cuts in ([], [len(longest)], [len(longest) + 1], [100]):
        events, reader = read(longest + b"\n\n", cuts)
        assert ([len(event) for event in events], reader.skipped) == ([MAX_EVENT_BYTES - 6], 0), cuts
        events, reader = read((longer + b"\n\n") * 2 + b"data: ok\n\n", cuts)
        assert (events, reader.skipped) == ([b"ok"], 2), cuts
