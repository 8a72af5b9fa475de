"""Lines made of events: however a text is cut, the same lines come out; what is kept of it is bounded."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.pipeline import line_joiner
from exporter.pipeline.line_joiner import MAX_CHANNELS, LineJoiner
from exporter.pipeline.log_formats import engine
from exporter.pipeline.log_formats.engine import EngineLine
from tests.exporter.pipeline.engine_lines import DECODE, LAUNCH, PROMPT, RELEASE

OTHER = "0.05.250.000 I srv        update:    - prompt 0x557d6a67f400:    1319 tokens, checkpoints:  0"
LINES = [
    "0.05.247.915 I " + LAUNCH,
    OTHER,
    "0.05.251.000 I " + PROMPT,
    "AMX is not ready to be used!",
    "0.06.247.915 I " + DECODE,
    "0.10.001.002 I " + RELEASE,
    "0.11.000.000 I srv  update_slots: all slots are idle",
]
WHOLE = [line for text in LINES if (line := engine.read(text)) is not None]


def last_of_each(lines: list[EngineLine]) -> list[EngineLine]:
    """Leave out what a line said before all of it had come."""
    return [
        line for i, line in enumerate(lines) if i + 1 == len(lines) or lines[i + 1].stamp_ms != line.stamp_ms
    ]


@given(st.lists(st.integers(0, 800), max_size=12), st.booleans())
def test_a_text_cut_anywhere_yields_the_same_lines(cuts: list[int], only_engine: bool) -> None:  # noqa: FBT001
    text = "\n".join(LINES) + "\n"
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    joiner = LineJoiner()
    found: list[EngineLine] = []
    for start, stop in itertools.pairwise(places):
        found += joiner.feed("c", text[start:stop], only_engine=True)
    assert last_of_each(found) == WHOLE
    assert [line for text in LINES for line in LineJoiner().feed("c", text, only_engine=only_engine)] == WHOLE


@given(st.lists(st.integers(1, 60), min_size=len(LINES), max_size=len(LINES)))
def test_lines_cut_in_two_without_line_feeds_yield_the_same_lines(cuts: list[int]) -> None:
    joiner = LineJoiner()
    found: list[EngineLine] = []
    for line, cut in zip(LINES, cuts, strict=True):
        for piece in (line[:cut], line[cut:]):
            found += joiner.feed("c", piece, only_engine=True) if piece else []
    assert last_of_each(found) == WHOLE


def test_channels_are_joined_each_by_itself() -> None:
    joiner = LineJoiner()
    assert joiner.feed("a", LAUNCH[:30], only_engine=True) == []
    assert joiner.feed("b", LAUNCH[30:], only_engine=True) == []
    assert joiner.feed("a", LAUNCH[30:], only_engine=True) == [engine.read(LAUNCH)]


def test_what_was_forgotten_is_not_joined() -> None:
    joiner = LineJoiner()
    joiner.feed("a", LAUNCH[:30], only_engine=True)
    joiner.forget("a")
    assert joiner.feed("a", LAUNCH[30:], only_engine=True) == []
    joiner.feed("a", LAUNCH[:30], only_engine=True)
    joiner.clear()
    assert joiner.feed("a", LAUNCH[30:], only_engine=True) == []


@pytest.mark.parametrize("begin", ["Received request: {", "Generated:", "x", "", "{"])
def test_below_other_text_only_an_engines_channel_is_read(begin: str) -> None:
    text = f"{begin}\n{LAUNCH}"
    assert LineJoiner().feed("c", text, only_engine=False) == []
    assert LineJoiner().feed("c", text, only_engine=True) == [engine.read(LAUNCH)]


def test_below_an_engines_unknown_line_or_the_rest_of_one_lines_are_read() -> None:
    assert LineJoiner().feed("c", f"{OTHER}\n{LAUNCH}", only_engine=False) == [engine.read(LAUNCH)]
    joiner = LineJoiner()
    joiner.feed("c", "LlamaV4: server assigned slot ", only_engine=False)
    assert joiner.feed("c", f"0 to task 163\n{LAUNCH}", only_engine=False) == [engine.read(LAUNCH)]


def test_what_is_kept_and_read_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    joiner = LineJoiner()
    for number in range(2 * MAX_CHANNELS):
        joiner.feed(f"c{number}", "0.05.247.915 I " + LAUNCH, only_engine=True)
        joiner.feed(f"c{number}", "slot launch", only_engine=True)
    assert len(joiner._tails) == len(joiner._stamps) == MAX_CHANNELS
    for _ in range(100):
        joiner.feed("long", "slot launch_slot_: " + "x" * 100, only_engine=True)
        joiner.feed("long", "y" * 100, only_engine=True)
    assert len(joiner._tails["long"].text) <= engine.MAX_LINE_CHARS

    work = 0
    read = engine.read

    def counting(line: str) -> EngineLine | None:
        nonlocal work
        work += min(len(line), engine.MAX_LINE_CHARS)
        return read(line)

    monkeypatch.setattr(engine, "read", counting)
    spent = []
    for size in (2_000, 4_000, 400_000):
        work = 0
        joiner.feed("w", "slot \n" * size, only_engine=True)
        spent.append(work)
    assert spent[1] <= 2 * spent[0]
    assert spent[2] <= engine.MAX_LINE_CHARS * line_joiner.MAX_LINES


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_cut_once_at_every_place_yields_the_same_lines(end: str) -> None:
    text = end.join(LINES) + end
    for cut in range(len(text)):
        joiner = LineJoiner()
        found = [
            line for part in (text[:cut], text[cut:]) for line in joiner.feed("c", part, only_engine=True)
        ]
        assert last_of_each(found) == WHOLE, cut


def test_every_line_cut_once_at_every_place_yields_the_same_lines() -> None:
    for cut in range(1, max(map(len, LINES))):
        joiner = LineJoiner()
        found: list[EngineLine] = []
        for line in LINES:
            for piece in (line[:cut], line[cut:]):
                found += joiner.feed("c", piece, only_engine=True) if piece else []
        assert last_of_each(found) == WHOLE, cut


def test_lines_without_stamps_cut_once_at_every_place_yield_the_same_lines() -> None:
    lines = [LAUNCH, PROMPT, DECODE, RELEASE]
    whole = [engine.read(line) for line in lines]
    for cut in range(5, min(map(len, lines))):
        joiner = LineJoiner()
        found: list[EngineLine] = []
        for line in lines:
            for piece in (line[:cut], line[cut:]):
                found += joiner.feed("c", piece, only_engine=True)
        assert [line for line in found if line in whole] == whole, cut


def test_below_an_empty_line_only_what_an_engine_stamped_goes_on() -> None:
    def below(before: str, text: str) -> list[EngineLine]:
        joiner = LineJoiner()
        if before:
            joiner.feed("c", before, only_engine=False)
        return joiner.feed("c", f"\n{text}", only_engine=False)

    assert below(f"{LINES[0]}\n", LINES[2]) == [engine.read(LINES[2])]
    assert below("", LINES[2]) == []
    assert below(f"{LINES[0]}\n", PROMPT) == []


def test_a_channel_that_is_forgotten_has_no_stamp() -> None:
    joiner = LineJoiner()
    joiner.feed("c", f"{LINES[0]}\n", only_engine=False)
    joiner.forget("c")
    joiner.forget("unknown")
    assert joiner.feed("c", f"\n{LINES[2]}", only_engine=False) == []


def test_a_line_that_is_too_long_ends_where_the_next_one_begins() -> None:
    joiner = LineJoiner()
    joiner.feed("c", f"{LINES[0]}\n", only_engine=True)
    assert joiner.feed("c", "slot x: " + "y" * engine.MAX_LINE_CHARS + "0.05.2", only_engine=True) == []
    assert joiner.feed("c", LINES[2][6:], only_engine=True) == [engine.read(LINES[2])]
