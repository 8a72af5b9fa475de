"""A checksum of how a text ends: the same with and without markup and white space, another for another end."""

from unittest import mock

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


def test_the_last_sixty_four_characters_with_ink_count_and_no_others() -> None:
    assert ending("b" + "a" * 64) == ending("a " * 64) == ending("a" * 65)
    assert ending("b" + "a" * 63) != ending("a" * 64)
    assert ending("ab\n") == ending("a b")
    assert ending("cut \ud83d") != ending("cut ?")


def test_a_checksum_of_nothing_but_zero_bits_is_one() -> None:
    with mock.patch("exporter.pipeline.output.ending.crc32", return_value=0):
        assert ending("a") == 1


def test_of_an_output_that_begins_later_the_same_end_is_read() -> None:
    output = "<think>why</think>" + "the answer is long " * 60
    segments = split(output)
    whole = ending_of(output, segments)
    for start in (1, 5, len("<think>why</think>"), len(output) - 300):
        assert ending_of(output[start:], segments, start=start) == whole == ending(output)
    first = split("abc")
    assert ending_of("abc", first) == ending("abc") != ending("bc")
    assert ending_of("", first, start=9) == 0
    assert ending_of("xyz", first, start=9) == 0
