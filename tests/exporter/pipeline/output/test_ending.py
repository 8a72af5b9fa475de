"""A checksum of how a text ends: the same with and without markup and white space, another for another end."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.pipeline.output.ending import ending, ending_of
from exporter.pipeline.output.splitter import split


@given(st.text(max_size=100), st.text(st.characters(categories=["L"]), min_size=1, max_size=100))
def test_reasoning_before_and_white_space_around_an_answer_do_not_matter(thought: str, answer: str) -> None:
    output = f"<think>{thought.replace('<', '')}</think>\n\n{answer} \n"
    assert ending_of(output, split(output)) == ending(answer) != 0


def test_another_end_is_another_checksum_and_none_is_zero() -> None:
    assert ending("a " * 500 + "b") != ending("a " * 500 + "c")
    assert ending(" \n") == 0
    assert ending_of("", []) == 0


def test_where_a_tool_call_comes_last_there_is_none() -> None:
    output = 'Sure.\n<tool_call>\n{"name": "search", "arguments": {}}\n</tool_call>'
    assert ending_of(output, split(output)) == 0
