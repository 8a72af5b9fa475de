"""Segments: where each lies to the character, when it is certain, and where an output is cut off as noise."""

import msgspec
import pytest

from exporter.pipeline.output.grammar import MAX_MARKER_CHARS
from exporter.pipeline.output.segments import Kind, Segment
from exporter.pipeline.output.splitter import MAX_MARKERS, MAX_SEGMENTS, Splitter, split
from tests.exporter.pipeline.output.splitting import A, R, T, fed

ASSISTANT = "<|start|>assistant"
ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"


def closed(kind: Kind, *places: int, blank: bool = False, tools: tuple[str, ...] = ()) -> Segment:
    """Make a segment of its start, where its content starts and ends, and its end."""
    start, content_start, content_end, end = places
    return Segment(kind, start, end, content_start, content_end, blank, closed=True, tools=tools)


def unclosed(kind: Kind, *places: int, blank: bool = False, tools: tuple[str, ...] = ()) -> Segment:
    return msgspec.structs.replace(closed(kind, *places, blank=blank, tools=tools), closed=False)


PLACES: dict[str, tuple[str, str, list[Segment]]] = {
    "white space around a block": (
        "",
        " <think> a</think> \nb",
        [closed(R, 0, 8, 10, 18), closed(A, 18, 20, 21, 21)],
    ),
    "nothing thought": (
        "",
        "<think>\n</think>b",
        [closed(R, 0, 7, 8, 16, blank=True), closed(A, 16, 16, 17, 17)],
    ),
    "cut off": ("", "<think>a", [unclosed(R, 0, 7, 8, 8)]),
    "cut off before it began": ("", "<think> ", [unclosed(R, 0, 7, 8, 8, blank=True)]),
    "only white space": ("", "  ", [closed(A, 0, 2, 2, 2, blank=True)]),
    "white space after a block": (
        "",
        "<think>a</think>\n ",
        [closed(R, 0, 7, 8, 16), closed(A, 16, 18, 18, 18, blank=True)],
    ),
    "no opening tag": ("", "a</think>b", [closed(R, 0, 0, 1, 9), closed(A, 9, 9, 10, 10)]),
    "a second closing tag that nothing opened": (
        "",
        "a </think>b</think>c",
        [closed(R, 0, 0, 2, 10), closed(A, 10, 10, 20, 20)],
    ),
    "reasoning on a line of its own": (
        "",
        "a\n<think>b</think>c",
        [closed(A, 0, 0, 2, 2), closed(R, 2, 9, 10, 18), closed(A, 18, 18, 19, 19)],
    ),
    "a control token anywhere": (
        "",
        "x<seed:think>b</seed:think>",
        [closed(A, 0, 0, 1, 1), closed(R, 1, 13, 14, 27)],
    ),
    "a plain tag in mid line": ("", "a<think>b</think>", [closed(A, 0, 0, 17, 17)]),
    "nested": (
        "",
        "<think>a<think>b</think>c</think>d",
        [closed(R, 0, 7, 25, 33), closed(A, 33, 33, 34, 34)],
    ),
    "a call that needs its end": ("", "<tool_call>{}", [unclosed(T, 0, 11, 13, 13, tools=("unknown",))]),
    "a call that needs none": ("", "[TOOL_CALLS]f{", [closed(T, 0, 12, 14, 14, tools=("f",))]),
    "a call's marker that is none inside a call": (
        "",
        "[TOOL_CALLS]f{}[TOOL_CALLS] no [TOOL_CALLS]g{}",
        [closed(T, 0, 12, 31, 31, tools=("f",)), closed(T, 31, 43, 46, 46, tools=("g",))],
    ),
    "a call of white space": (
        "",
        "<tool_call>{}</tool_call>[TOOL_REQUEST] {[END_TOOL_REQUEST]",
        [
            closed(T, 0, 11, 13, 25, tools=("unknown",)),
            closed(T, 25, 39, 41, 59, tools=("unknown",)),
        ],
    ),
    "an end with a backslash behind it inside a call": (
        "",
        '<tool_call>{"a": "</tool_call>\\n"}</tool_call>',
        [closed(T, 0, 11, 34, 46, tools=("unknown",))],
    ),
    "an end told in reasoning": (
        "",
        f"{ANALYSIS}a `<|end|>",
        [closed(R, 0, 30, 33, 40)],
    ),
    "channels": (
        "",
        f"{ANALYSIS}a<|end|> {ASSISTANT}{FINAL}b",
        [closed(R, 0, 30, 31, 38), closed(A, 38, 84, 85, 85)],
    ),
    "channels without an end between": (
        "",
        f"{ANALYSIS}a{FINAL}b",
        [closed(R, 0, 30, 31, 31), closed(A, 31, 58, 59, 59)],
    ),
    "a channel that thinks nothing": (
        "",
        f"{ANALYSIS} <|end|>",
        [closed(R, 0, 30, 31, 38, blank=True)],
    ),
    "a channel cut off": ("", f"{ANALYSIS}a", [unclosed(R, 0, 30, 31, 31)]),
    "a header cut off": (ASSISTANT, "<|channel|>final", [closed(A, 0, 16, 16, 16, blank=True)]),
    "an end told in an answer": (
        "",
        f"{FINAL}a `<|end|>` b<|return|>",
        [closed(A, 0, 27, 40, 50)],
    ),
    "a recipient before the channel": (
        ASSISTANT,
        " to=functions.f<|message|>{}<|call|>",
        [closed(T, 0, 26, 28, 36, tools=("f",))],
    ),
    "a message that the prompt opened": (
        f"{ASSISTANT}<|channel|>commentary to=functions.f<|message|>",
        "{}",
        [closed(T, 0, 0, 2, 2, tools=("f",))],
    ),
    "a header that never was one": (
        f"{ASSISTANT}<|channel|>",
        "just text",
        [closed(A, 0, 0, 9, 9)],
    ),
    "a channel where none can begin": (
        "",
        f"<think>a</think>{ANALYSIS}b",
        [closed(R, 0, 7, 8, 16), closed(A, 16, 16, 47, 47)],
    ),
    "a second end of what the prompt opened": (
        "<think>",
        "a</think>b</think>c",
        [closed(R, 0, 0, 1, 9), closed(A, 9, 9, 19, 19)],
    ),
    "a quote before the first marker": ("", '"[THINK]a', [closed(A, 0, 0, 9, 9)]),
    "a quote at the very end": (
        "",
        '[THINK]a[/THINK]x [THINK]"',
        [
            closed(R, 0, 7, 8, 16),
            closed(A, 16, 16, 18, 18),
            unclosed(R, 18, 25, 26, 26),
        ],
    ),
    "a tag that repeats the prompt's": (
        "<think>",
        "<think>\n<think>a</think>",
        [closed(R, 0, 15, 16, 24)],
    ),
}


@pytest.mark.parametrize(("opened", "output", "expected"), PLACES.values(), ids=PLACES)
def test_every_segment_lies_where_it_lies(opened: str, output: str, expected: list[Segment]) -> None:
    assert split(output, opened) == expected
    assert fed(output, list(range(len(output))), opened) == expected


def test_a_segment_is_told_once_and_as_soon_as_nothing_can_change_it() -> None:
    splitter = Splitter()
    thought = closed(R, 0, 7, 8, 16)
    assert splitter.feed("<think>a</think>b") == []
    assert splitter.feed(" " * 127) == [thought]
    assert splitter.feed("c" * 200) == []
    assert splitter.finish() == [closed(A, 16, 16, 344, 344)]


def test_reasoning_that_may_go_on_is_held_back_until_the_answer_cannot_extend_it() -> None:
    splitter = Splitter()
    assert splitter.feed("<think>a<think>b</think>" + "c" * 300) == []
    assert splitter.feed("</think>d" + " " * 300)[0] == closed(R, 0, 7, 324, 332)


def test_after_too_many_segments_the_rest_is_one() -> None:
    block = "<think>a</think>"
    segments = split(block * (MAX_SEGMENTS + 50))
    assert len(segments) == MAX_SEGMENTS + 1
    start, end = MAX_SEGMENTS * len(block), (MAX_SEGMENTS + 50) * len(block)
    assert segments[-1] == closed(A, start, start, end, end)


@pytest.mark.parametrize(("mentions", "kinds"), [(MAX_MARKERS - 1, [A, R, A]), (MAX_MARKERS, [A, R])])
def test_after_too_many_markers_none_counts(mentions: int, kinds: list[Kind]) -> None:
    segments = split("a " + "`<think>`" * mentions + " [THINK]r[/THINK]b")
    assert [segment.kind for segment in segments] == kinds


@pytest.mark.parametrize(
    ("start", "mention", "end", "kind"),
    [
        ("<think>a", "`</think>`", "</think>", R),
        ("<tool_call>{", '</tool_call>"', "</tool_call>", T),
        (f"{FINAL}a", "`<|end|>", " <|end|>", A),
    ],
)
def test_after_too_many_mentions_of_its_end_a_block_has_none(
    start: str, mention: str, end: str, kind: Kind
) -> None:
    for mentions, segments in ((MAX_MARKERS - 1, 2), (MAX_MARKERS + 1, 1)):
        found = split(start + mention * mentions + end + "b")
        assert (len(found), found[0].kind) == (segments, kind)


@pytest.mark.parametrize("start", ["", "<think>", "<tool_call>{", ANALYSIS, FINAL])
def test_the_measure_of_work_follows_the_length(start: str) -> None:
    splitter = Splitter()
    for length in range(1000, 5001, 1000):
        splitter.feed(start + "x" * (1000 - len(start)))
        start = ""
        assert length - MAX_MARKER_CHARS <= splitter.scanned <= 8 * length


@pytest.mark.parametrize("start", ["", "<think>", "<tool_call>{", FINAL])
def test_many_mentions_of_a_marker_take_no_more_work_than_their_length(start: str) -> None:
    output = start + "`</think>` " * 300
    splitter = Splitter()
    splitter.feed(output)
    splitter.finish()
    assert len(output) <= splitter.scanned <= 8 * len(output)


def test_messages_of_any_length_are_split_alike_one_character_at_a_time() -> None:
    long = "x" * 400
    call = (
        "<|start|>assistant<|channel|>commentary to=functions.search <|constrain|>json<|message|>{}<|call|>"
    )
    output = f"{ANALYSIS}{long}<|end|>{call}{FINAL}{long}"
    expected = split(output)
    assert [(segment.kind, segment.tools) for segment in expected] == [(R, ()), (T, ("search",)), (A, ())]
    assert fed(output, list(range(len(output)))) == expected


def test_of_several_tags_in_a_prompt_the_last_one_counts() -> None:
    for opened, kind in (("<think>a</think>\n<think>\n", R), ("<think>a</think><think>b</think>", A)):
        assert [segment.kind for segment in split("text", opened)] == [kind]


def test_a_channel_without_a_message_for_too_long_is_an_answer() -> None:
    for filler, content in ((480, 502), (600, 0)):
        output = "<|channel|>" + "x" * filler + "<|message|>hi"
        assert split(output, ASSISTANT)[0].content_start == content
