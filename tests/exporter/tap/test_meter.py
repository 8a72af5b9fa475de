"""The timeline of an answer: phases tile it, gaps are counted, and a long one takes no more memory than a short one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.pipeline.output.ending import ending
from exporter.pipeline.output.segments import Kind
from exporter.tap.meter import MAX_MARKS, MAX_PHASES, MAX_TOOLS, Meter
from exporter.tap.transcript import Run, Transcript

BOUNDS = (0.1, 1.0)


def test_phases_begin_with_their_first_text_and_end_with_the_next_ones() -> None:
    meter = Meter(BOUNDS)
    for at_s, kind in ((1.0, Kind.REASONING), (1.05, Kind.REASONING), (2.0, Kind.ANSWER), (4.5, Kind.ANSWER)):
        meter.delta(kind, "ab", at_s)
    assert meter.kind is Kind.ANSWER
    first, second = meter.phases()
    assert (first.kind, first.start_s, first.end_s, first.tokens, first.chars) == (
        "reasoning",
        1.0,
        2.0,
        2,
        4,
    )
    assert (second.start_s, second.end_s, second.tokens) == (2.0, 4.5, 2)
    assert meter.gaps == [1, 1, 1]
    assert meter.gaps_s == pytest.approx(3.5)
    assert meter.ending == ending("abab")


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.text("ab c\n", min_size=1, max_size=80))
def test_reasoning_in_tags_is_found_whatever_the_pieces(sizes: list[int], thought: str) -> None:
    output = f"<think>x{thought}</think>\n\nAnd so {thought} it is."
    meter, at, clock = Meter(BOUNDS), 0, 0.0
    for index in range(len(output)):
        size = sizes[index % len(sizes)]
        if at < len(output):
            clock += 1.0
            meter.text(output[at : at + size], clock)
            at += size
    phases = meter.phases()
    assert [phase.kind for phase in phases] == [Kind.REASONING, Kind.ANSWER]
    assert phases[0].end_s == phases[1].start_s
    assert phases[1].end_s == clock
    assert meter.ending == ending(f"And so {thought} it is.")


def test_a_very_long_text_is_kept_in_bounded_memory_and_still_ends_where_it_does() -> None:
    meter = Meter(BOUNDS)
    meter.text("<think>", 0.0)
    for number in range(50_000):
        meter.text("word ", number / 100)
    meter.text("</think>", 500.0)
    meter.text("Yes.", 501.0)
    text = meter._text
    assert text is not None
    assert len(text._ends) <= MAX_MARKS
    reasoning, answer = meter.phases()
    assert reasoning.start_s < 1
    assert answer.start_s == pytest.approx(501.0, abs=1.0)


def test_a_model_that_changes_its_mind_for_ever_is_bounded() -> None:
    meter = Meter(BOUNDS)
    for number in range(1000):
        meter.delta((Kind.REASONING, Kind.ANSWER)[number % 2], "x", float(number))
        meter.tool("search" * 50)
    phases = meter.phases()
    assert len(phases) == MAX_PHASES
    assert sum(phase.tokens for phase in phases) == 1000
    assert len(meter.tools) == MAX_TOOLS
    assert max(map(len, meter.tools)) == 64


def told(meter: Meter) -> list[tuple[str, float, float, int, int]]:
    return [(mark.kind.value, mark.start_s, mark.end_s, mark.tokens, mark.chars) for mark in meter.phases()]


def test_the_first_event_ends_the_wait_and_later_ones_do_not() -> None:
    meter = Meter(BOUNDS)
    assert meter.queue_s is None
    meter.event(0.5)
    meter.event(0.7)
    assert meter.queue_s == 0.5


def test_times_gaps_and_tokens_are_those_of_the_deltas() -> None:
    meter = Meter(BOUNDS)
    assert (meter.first_s, meter.last_s, meter.kind) == (None, None, None)
    for at_s, tokens in ((1.0, 2), (1.0625, 1), (1.125, 3), (3.0, 1), (6.0, 1)):
        meter.delta(Kind.ANSWER, "ab", at_s, tokens)
    assert (meter.first_s, meter.last_s, meter.tokens) == (1.0, 6.0, 8)
    assert meter.gaps == [2, 0, 2]
    assert meter.gaps_s == 5.0
    assert told(meter) == [("answer", 1.0, 6.0, 8, 10)]
    assert Meter(BOUNDS).phases() == ()


def test_text_with_tags_is_counted_in_tokens_and_characters() -> None:
    meter = Meter(BOUNDS)
    for number, text in enumerate(("<think>", "ab", "c</think>", "de", "f")):
        meter.text(text, float(number))
    assert meter.kind is not None
    assert told(meter) == [("reasoning", 1.0, 3.0, 2, 3), ("answer", 3.0, 4.0, 2, 3)]
    assert meter.ending == ending("def")
    assert meter.tokens == 5


def test_text_behind_reasoning_that_the_api_marked_is_the_answer_tags_and_all() -> None:
    meter = Meter(BOUNDS)
    meter.delta(Kind.REASONING, "hm", 1.0)
    meter.text("a <think> b", 2.0, 3)
    assert told(meter) == [("reasoning", 1.0, 2.0, 1, 2), ("answer", 2.0, 2.0, 3, 11)]
    assert meter.ending == ending("a <think> b")


def test_a_call_behind_text_is_a_stretch_of_its_own_and_has_no_ending() -> None:
    meter = Meter(BOUNDS)
    meter.text("Let me see.", 1.0)
    meter.delta(Kind.TOOL_CALL, "{}", 2.0, 2)
    meter.delta(Kind.ANSWER, "x", 3.0)
    meter.delta(Kind.TOOL_CALL, "{}", 4.0)
    assert told(meter) == [
        ("answer", 1.0, 4.0, 1, 11),
        ("tool_call", 2.0, 3.0, 2, 2),
        ("answer", 3.0, 4.0, 1, 1),
        ("tool_call", 4.0, 4.0, 1, 2),
    ]
    assert meter.ending == 0
    call = Meter(BOUNDS)
    call.delta(Kind.TOOL_CALL, "{}", 2.0)
    call.phases()
    assert call.ending == 0


def test_tags_of_ones_own_are_known_in_streams_and_in_whole_answers() -> None:
    meter = Meter(BOUNDS, (("<r>", "</r>"),))
    meter.text("<r>hm</r>Yes.", 1.0)
    assert [mark.kind for mark in meter.phases()] == [Kind.REASONING, Kind.ANSWER]
    assert meter.ending == ending("Yes.")
    meter.whole("<r>hm</r>No.")
    assert meter.ending == ending("No.")


def test_what_is_written_is_copied_with_its_kind() -> None:
    meter = Meter(BOUNDS)
    meter.transcript = Transcript()
    meter.text("<think>a", 1.0)
    meter.delta(Kind.TOOL_CALL, "{}", 2.0)
    assert meter.transcript.after(0) == "<think>a{}"
    assert meter.transcript.runs == [Run(0, None), Run(8, Kind.TOOL_CALL)]


def test_a_long_text_keeps_every_second_time_and_all_its_tokens() -> None:
    meter = Meter(BOUNDS)
    meter.text("<think>", 0.0)
    for number in range(1, 3 * MAX_MARKS):
        meter.text("abcd", float(number))
    meter.text("</think>", 99_998.0)
    meter.text("Yes.", 99_999.0)
    reasoning, answer = meter.phases()
    assert (reasoning.chars, answer.chars) == (4 * (3 * MAX_MARKS - 1), 4)
    assert reasoning.start_s <= 4.0
    assert reasoning.tokens + answer.tokens == pytest.approx(3 * MAX_MARKS + 1, abs=8)
    assert answer.end_s == 99_999.0
    assert meter.ending == ending("Yes.")
