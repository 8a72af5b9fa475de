"""The splitter: where a marker counts and where it is only text."""

import pytest

from exporter.pipeline.output import grammar, splitter
from tests.exporter.pipeline.output.splitting import A, Part, R, T, parts


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("just text", [(A, "just text")]),
        ("  \n", []),
        ("", []),
        ("<think>never closed", [(R, "never closed")]),
        ("<think>a</think>\n<think>b</think>c", [(R, "a"), (R, "b"), (A, "c")]),
        ("a\n<think>\nb\n</think>\nc", [(A, "a\n"), (R, "\nb\n"), (A, "c")]),
        ("<think>a<think>b</think>c</think>d", [(R, "a<think>b</think>c"), (A, "d")]),
        ("<think><think>a</think>b", [(R, "a"), (A, "b")]),
        ("<think>a<think>b</think>c", [(R, "a<think>b"), (A, "c")]),
        ("<think>say `</think>` last</think>b", [(R, "say `</think>` last"), (A, "b")]),
        ("<think>a</think>```py\nx\n```", [(R, "a"), (A, "```py\nx\n```")]),
        ("thought the prompt opened</think>b", [(R, "thought the prompt opened"), (A, "b")]),
        ("a `</think>` [THINK]r[/THINK]b", [(A, "a `</think>` "), (R, "r"), (A, "b")]),
        ('a "<tool_call>{}" [THINK]r[/THINK]b', [(A, 'a "<tool_call>{}" '), (R, "r"), (A, "b")]),
        ("a\n<think>b</think>c</think>d", [(A, "a\n"), (R, "b"), (A, "c</think>d")]),
        (
            "[TOOL_CALLS]f{}[TOOL_CALLS]g{}[TOOL_CALLS]h{}",
            [(T, "f{}", ("f",)), (T, "g{}", ("g",)), (T, "h{}", ("h",))],
        ),
        ("<tool_call>{}</tool_call><tool_call>{}</tool_call>", [(T, "{}", ("unknown",))] * 2),
    ],
)
def test_blocks_may_repeat_nest_stay_open_or_lack_their_opening(output: str, expected: list[Part]) -> None:
    assert parts(output) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "Qwen3 writes <think> before and </think> after its reasoning.",
        "Use `<think>` and `</think>`.",
        "Look:\n```xml\n<think>\nhm\n</think>\n```\nThat is all.",
        "~~~\n```\n~~~\n```\n<think>\nin code\n</think>\n```",
        "Then\n```\n<tool_call>\n{}\n</tool_call>\n```",
        '{"text": "<think>x</think>", "call": "<tool_call>{}</tool_call>"}',
        'In JSON: "[THINK]x[/THINK]"',
        "A lone\n<think>\nthat is never closed",
        "The <tool_call> tag and the [TOOL_CALLS] token start calls.",
        "gpt-oss writes <|channel|>analysis<|message|> first.",
        "x < y and a[i] <- b[j] <|",
    ],
)
def test_an_answer_that_talks_about_tags_stays_an_answer(answer: str) -> None:
    assert parts(answer) == [(A, answer)]
    assert parts(f"<think>a</think>{answer}") == [(R, "a"), (A, answer)]


def test_final_message_of_gpt_oss_may_show_channels_in_code() -> None:
    shown = "So:\n```\n<|channel|>analysis<|message|>x<|end|>\n```\ndone"
    output = f"<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>{shown}"
    assert parts(output) == [(R, "a"), (A, shown)]


def test_a_closing_tag_inside_an_argument_does_not_end_the_call() -> None:
    call = '\n{"name": "write", "arguments": {"text": "ends with </tool_call>"}}\n'
    assert parts(f"<tool_call>{call}</tool_call>ok") == [(T, call, ("write",)), (A, "ok")]


def test_custom_tags_work_like_known_ones() -> None:
    custom = (("<reason>", "</reason>"),)
    assert parts("<reason>a</reason>b", custom=custom) == [(R, "a"), (A, "b")]
    assert parts("<reason>a</reason>b") == [(A, "<reason>a</reason>b")]
    opened = grammar.prompt_opening("...<|assistant|>\n<reason>\n", grammar.grammar(custom))
    assert parts("a</reason>b", opened, custom) == [(R, "a"), (A, "b")]


@pytest.mark.parametrize(
    ("opened", "output", "expected"),
    [
        ("<think>\n\n</think>\n\n", "hi", [(A, "hi")]),
        ("<think>\n", "<think>\na</think>b", [(R, "\na"), (A, "b")]),
        ("<think>\n", "cut off", [(R, "cut off")]),
        ("<|channel>thought\n", "a<channel|>b", [(R, "a"), (A, "b")]),
        ("<|start|>assistant<|channel|>final<|message|>", "b<|return|>", [(A, "b")]),
        ("<|start|>assistant<|channel|>analysis", "<|message|>a<|end|>", [(R, "a")]),
        ("<|start|>assistant", "no channel at all", [(A, "no channel at all")]),
    ],
)
def test_what_the_prompt_opened_is_continued(opened: str, output: str, expected: list[Part]) -> None:
    assert parts(output, opened) == expected


QUOTED_CALL_END = '</tool_call>"'
FINAL = "<|channel|>final<|message|>"
NEXT = "<|end|><|start|>assistant<|channel|>analysis<|message|>r<|end|>"


@pytest.mark.parametrize(
    ("opened", "before", "mention", "after", "few", "many"),
    [
        (
            "",
            "x ",
            "`<think>` ",
            "[THINK]r[/THINK]b",
            [(A, "x M"), (R, "r"), (A, "b")],
            [(A, "x M[THINK]r[/THINK]b")],
        ),
        ("", "<think>", "`</think>` ", "r</think>b", [(R, "Mr"), (A, "b")], [(R, "Mr</think>b")]),
        ("<think>\n", "", "<think>", "r</think>b", [(R, "r"), (A, "b")], [(R, "r</think>b")]),
        (
            "",
            "<tool_call>{",
            QUOTED_CALL_END,
            "}</tool_call>b",
            [(T, "{M}", ("unknown",)), (A, "b")],
            [(T, "{M}</tool_call>b", ("unknown",))],
        ),
        ("", FINAL, "`<|end|>` ", f"x{NEXT}", [(A, "Mx"), (R, "r")], [(A, f"Mx{NEXT}")]),
    ],
)
def test_an_output_of_more_markers_than_any_real_one_is_not_taken_apart_further(
    *,
    monkeypatch: pytest.MonkeyPatch,
    opened: str,
    before: str,
    mention: str,
    after: str,
    few: list[Part],
    many: list[Part],
) -> None:
    monkeypatch.setattr(splitter, "MAX_MARKERS", 7)

    def with_mentions(count: int) -> list[Part]:
        return parts(before + mention * count + after, opened)

    def expected(found: list[Part], count: int) -> list[Part]:
        return [(part[0], part[1].replace("M", mention * count), *part[2:]) for part in found]

    assert with_mentions(4) == expected(few, 4)
    assert with_mentions(8) == expected(many, 8)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "<think>a</think>b[THINK]c[/THINK]d[THINK]e[/THINK]f",
            [(R, "a"), (A, "b"), (R, "c"), (A, "d[THINK]e[/THINK]f")],
        ),
        (
            "<think>a</think><think>b</think><think>c</think><think>d</think>e",
            [(R, "a"), (R, "b"), (R, "c"), (A, "<think>d</think>e")],
        ),
        (
            f"{FINAL}x{NEXT}<|start|>assistant{FINAL}y{NEXT}",
            [(A, "x"), (R, "r"), (A, "y"), (A, NEXT[len("<|end|>") :])],
        ),
    ],
)
def test_an_output_of_more_blocks_than_any_real_one_is_not_taken_apart_further(
    monkeypatch: pytest.MonkeyPatch, output: str, expected: list[Part]
) -> None:
    monkeypatch.setattr(splitter, "MAX_SEGMENTS", 3)
    assert parts(output) == expected
