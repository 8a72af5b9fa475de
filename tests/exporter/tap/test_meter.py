"""The timeline of an answer: phases tile it, gaps are counted, and a long one takes no more memory than a short one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.pipeline.output.ending import ending
from exporter.pipeline.output.segments import Kind
from exporter.tap.meter import MAX_MARKS, MAX_PHASES, MAX_TOOLS, Meter

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
