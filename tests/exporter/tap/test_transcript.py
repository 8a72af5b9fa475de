"""The bounded copy of what is written: readable from any character on, in bounded number and for a bounded time."""

import pytest

from exporter.pipeline.output.segments import Kind
from exporter.tap.transcript import ENDED_S, MAX_CHARS, MAX_TRANSCRIPTS, Run, Transcript, Transcripts


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


def test_text_is_appended_and_read_from_any_character_on() -> None:
    copy = Transcript()
    assert copy.after(0) == ""
    for kind, text in ((Kind.REASONING, "Let"), (Kind.REASONING, " me"), (Kind.ANSWER, ""), (None, "Yes")):
        copy.add(kind, text)
    assert [copy.after(start) for start in (0, 4, 8, 9, 99)] == ["Let meYes", "meYes", "s", "", ""]
    copy.add(None, "!")
    assert copy.after(8) == "s!"
    assert copy.runs == [Run(0, Kind.REASONING), Run(6, None)]
    assert (copy.length, copy.is_truncated) == (10, False)


def test_what_does_not_fit_is_not_kept_and_the_copy_says_so() -> None:
    copy = Transcript()
    copy.add(Kind.ANSWER, "a" * (MAX_CHARS - 2))
    copy.add(Kind.ANSWER, "bc")
    assert not copy.is_truncated
    copy.add(Kind.TOOL_CALL, "")
    assert not copy.is_truncated
    copy.add(Kind.TOOL_CALL, "d")
    assert copy.is_truncated
    assert (copy.length, copy.after(MAX_CHARS - 3), copy.runs) == (MAX_CHARS, "abc", [Run(0, Kind.ANSWER)])
    other = Transcript()
    other.add(None, "a" * (MAX_CHARS + 5))
    assert (other.is_truncated, other.length, len(other.after(0))) == (True, MAX_CHARS, MAX_CHARS)


def test_a_model_that_changes_its_mind_for_ever_has_a_bounded_number_of_runs() -> None:
    copy = Transcript()
    for number in range(1000):
        copy.add((Kind.REASONING, Kind.ANSWER)[number % 2], "x")
    assert len(copy.runs) == 256
    assert copy.runs[-1] == Run(255, Kind.ANSWER)
    assert copy.after(0) == "x" * 1000


def test_a_request_is_read_while_it_runs_and_for_a_while_after_its_end(clock: Clock) -> None:
    copies = Transcripts(clock)
    copy = copies.begin(7)
    assert copy is not None
    copy.add(Kind.ANSWER, "Yes")
    running = copies.read(7, 1)
    assert running is not None
    assert (running.start, running.text, running.runs) == (1, "es", (Run(0, Kind.ANSWER),))
    assert (running.is_over, running.finish, running.is_truncated) == (False, None, False)
    copies.end(7, "stop")
    clock.now += ENDED_S
    ended = copies.read(7, 0)
    assert ended is not None
    assert (ended.text, ended.is_over, ended.finish) == ("Yes", True, "stop")
    clock.now += 0.1
    assert copies.read(7, 0) is None


def test_of_what_is_not_there_nothing_is_read(clock: Clock) -> None:
    copies = Transcripts(clock)
    copies.end(7, "stop")
    assert copies.read(7, 0) is None
    copies.begin(7)
    assert copies.read(8, 0) is None


def test_a_copy_that_is_cut_says_so_to_its_reader(clock: Clock) -> None:
    copies = Transcripts(clock)
    copy = copies.begin(1)
    assert copy is not None
    copy.add(None, "a" * (MAX_CHARS + 1))
    read = copies.read(1, MAX_CHARS)
    assert read is not None
    assert (read.text, read.is_truncated) == ("", True)


def test_the_oldest_that_ended_makes_room_and_what_runs_does_not(clock: Clock) -> None:
    copies = Transcripts(clock)
    for number in range(MAX_TRANSCRIPTS):
        assert copies.begin(number) is not None
    assert copies.begin(1000) is None
    copies.end(5, None)
    copies.end(3, None)
    assert copies.begin(1001) is not None
    assert [copies.read(number, 0) is not None for number in (5, 3, 0, 1001)] == [False, True, True, True]
    assert copies.begin(1002) is not None
    assert copies.read(3, 0) is None
    assert copies.begin(1003) is None


def test_what_ended_long_ago_is_forgotten_when_the_next_begins(clock: Clock) -> None:
    copies = Transcripts(clock)
    for number in range(MAX_TRANSCRIPTS):
        copies.begin(number)
    copies.end(0, None)
    clock.now += 1.0
    copies.end(1, None)
    clock.now += ENDED_S
    assert copies.begin(1000) is not None
    assert copies.read(1, 0) is not None
