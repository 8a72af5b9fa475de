"""The splitter on any text: the same segments for any chunking, in linear work and bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.pipeline.output import families
from exporter.pipeline.output.splitter import MAX_SEGMENTS, Splitter, split
from tests.exporter.pipeline.output.splitting import fed

PIECES = [
    *(text for tag in families.REASONING_TAGS for text in (tag.open, tag.close)),
    *(text for tag in families.TOOL_TAGS for text in (tag.open, tag.close or "")),
    "<|channel|>analysis<|message|>",
    "<|channel|>final<|message|>",
    "<|end|>",
    "<|start|>assistant",
    "to=functions.f",
    "<|call|>",
    '{"name": "f", "arguments": {}}',
    "<function=f>",
    "call:f{",
    "f[ARGS]{",
    "```",
    "~~~~",
    "\n",
    " ",
    "`",
    '"',
    "text",
    "<",
    "[",
    "<|",
    "x" * 200,
]
noisy_outputs = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=24).map("".join)
openings = st.sampled_from(
    [
        "",
        "<think>\n",
        "<think></think>",
        "<|start|>assistant",
        "<|start|>assistant<|channel|>",
        "<|start|>assistant<|channel|>analysis<|message|>",
    ]
)


@given(noisy_outputs, openings, st.lists(st.integers(0, 400), max_size=12))
def test_any_chunking_gives_the_same_segments(output: str, opened: str, cuts: list[int]) -> None:
    assert fed(output, cuts, opened) == split(output, opened)


@given(noisy_outputs, openings)
def test_segments_tile_the_output(output: str, opened: str) -> None:
    segments = split(output, opened)
    assert [s.start for s in segments] == [0, *(s.end for s in segments)][: len(segments)]
    assert (segments[-1].end if segments else 0) == len(output)
    for s in segments:
        assert s.start <= s.content_start <= s.content_end <= s.end
        if s.blank and s.content_end > s.content_start:
            assert output[s.content_start : s.content_end].isspace()


@given(st.text(), st.text())
def test_no_text_and_no_opening_raises(output: str, opened: str) -> None:
    assert sum(s.end - s.start for s in split(output, opened)) == len(output)


ADVERSARIES = {
    **{piece.strip() or "blank": piece for piece in PIECES if piece},
    "blocks": "<think></think>",
    "mentions": " <think></think>",
    "lines": "\n<think>",
    "closers": "\n</think>",
    "quoted": "`</think>`",
    "calls": '<tool_call>{"',
    "arrays": '[TOOL_CALLS][{"',
    "headers": "<|start|>assistant<|channel|>",
    "fences": "\n```\n<think>",
    "fences of two kinds": "\n```\n~~~~\n[THINK]",
    "brackets": "[<",
    "spaces": " \t",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "before", ["", "<think>", "x", "<tool_call>{", "\n```\n", "<|channel|>final<|message|>"]
)
@pytest.mark.parametrize("piece", ADVERSARIES.values(), ids=ADVERSARIES)
def test_work_and_memory_grow_no_faster_than_the_output(before: str, piece: str) -> None:
    output = before + piece * (60_000 // len(piece))
    whole = Splitter()
    segments = whole.feed(output) + whole.finish()
    assert whole.scanned <= 8 * len(output)
    assert len(segments) <= MAX_SEGMENTS + 8

    chunked = Splitter()
    kept = 0
    for at in range(0, len(output), 512):
        chunked.feed(output[at : at + 512])
        kept = max(kept, len(chunked._text))
    assert kept <= 512 + 1024
    assert chunked.scanned <= 12 * len(output)
