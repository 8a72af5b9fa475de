"""Names and arguments of calls, shape by shape, also where a block is cut, mixed or longer than any real one."""

from typing import Any

import pytest

from exporter.pipeline.output import call_names
from exporter.pipeline.output.call_names import NameReader, call_arguments
from exporter.pipeline.output.segments import Kind, Segment
from exporter.pipeline.output.unrecognised import looks_unrecognised

KIMI = "<|tool_call_begin|>functions.{}:0<|tool_call_argument_begin|>{{}}"
DEEPSEEK = "<｜tool▁call▁begin｜>{}<｜tool▁sep｜>{}"


@pytest.mark.parametrize(
    ("read", "text", "names"),
    [
        (call_names.json_names, 'x {"name": "a"} X [{"name": "b"}]', ["a", "b"]),
        (
            call_names.json_names,
            '{"tool_name": "a"} {"tool": "b"} {"function": 5, "name": "c"}',
            ["a", "b", "c"],
        ),
        (call_names.json_names, '{"function": {"tool_name": "a"}} 5 "x"', ["a"]),
        (call_names.json_names, '{"name": "a"} ' * 70, ["a"] * 64),
        (call_names.key_names, '{"a": 1}', ["a"]),
        (call_names.key_names, '[{}, 5, {"a": 1}]', ["a"]),
        (call_names.key_names, "5", []),
        (call_names.python_tag_names, '{"name": "a"}', ["a"]),
        (call_names.python_tag_names, 'print({"name": "a"})', ["python"]),
        (call_names.kimi_names, KIMI.format("a") + KIMI.format("b"), ["a", "b"]),
        (call_names.kimi_names, "functions.a:0<|tool_call_argument_begin|>{}", ["a"]),
        (
            call_names.deepseek_names,
            DEEPSEEK.format("function", "a") + DEEPSEEK.format("b", "{}"),
            ["a", "b"],
        ),
        (call_names.deepseek_names, "a<｜tool▁sep｜>{}", ["a"]),
        (call_names.pythonic_names, "[f({'a': (1, 2)}), g()]", ["f", "g"]),
        (call_names.pythonic_names, "f(x=(1, h(2)), y={'z': i()}), g(\"),k(\")", ["f", "g"]),
        (call_names.pythonic_names, "X, f()), }g()", ["f", "g"]),
        (call_names.pythonic_names, "f()\n" * 70, ["f"] * 64),
        (call_names.python_or_json_names, '[ {"name": "a"}]', ["a"]),
        (call_names.python_or_json_names, '{"name": "a"}', ["a"]),
        (call_names.python_or_json_names, "[a()]", ["a"]),
        (call_names.python_code, "[a(), b()]", ["a", "b"]),
        (call_names.python_code, "a()", ["python"]),
        (call_names.step_names, '<steptml:invoke name="a"><｜tool_sep｜>b', ["a"]),
        (call_names.invoke_names, '<x:invoke name="a"><invoke name="b">', ["a", "b"]),
        (call_names.solar_names, "<|tool_call:name|>a<|x|><|tool_call:name|> b", ["a", "b"]),
        (call_names.separated_names, "<tool_call>a<tool_sep>x<tool_call> b <tool_sep>", ["a", "b"]),
        (call_names.quoted_name, 'a"b"', ["a"]),
        (call_names.function_name, "a>b>", ["a"]),
        (call_names.mcp_names, "<tool_name> a </tool_name><tool_name>b</tool_name>", ["a"]),
        (call_names.word_name, "a b(", ["a b"]),
    ],
)
def test_names_are_read_in_every_shape(read: NameReader, text: str, names: list[str]) -> None:
    assert read(text) == names


def test_a_block_has_at_most_so_many_names() -> None:
    assert call_names.call_names(call_names.invoke_names, '<invoke name="a">' * 70) == ("a",) * 64
    assert call_names.plain_name(" a ") == "a"
    assert call_names.plain_name("a" * 65) == "unknown"


@pytest.mark.parametrize(
    ("block", "tools", "arguments"),
    [
        ('{"name": "a", "arguments": {"x": 1}}', ("a",), [{"x": 1}]),
        ('[{"function": {"name": "a", "parameters": 1}}, {"args": [2], "name": "b"}]', ("a", "b"), [1, [2]]),
        ('x {"name": "a", "arguments": 1} y {"name": "b", "arguments": 2}', ("a", "b"), [1, 2]),
        ('{"arguments": 1, "parameters": 2}', ("a",), [1]),
        ('{"arguments": 1} {"cut": ', ("a",), [1]),
        (' {"x": 1} ', ("a",), ['{"x": 1}']),
        (' {"arguments": 1} ', ("a", "b"), ['{"arguments": 1}', ""]),
        (" f(x=1) ", ("f", "g", "h"), ["f(x=1)", "", ""]),
        ("{5", ("a",), ["{5"]),
        ('{"arguments": 1}' * 70, ("a",) * 64, [1] * 64),
    ],
)
def test_arguments_are_those_of_each_call_or_the_whole_block(
    block: str, tools: tuple[str, ...], arguments: list[Any]
) -> None:
    assert call_arguments(block, tools) == arguments


def answer(start: int, end: int, kind: Kind = Kind.ANSWER, *, blank: bool = False) -> Segment:
    return Segment(kind, start, end, start, end, blank=blank, closed=True)


def looks(output: str, *segments: Segment) -> bool:
    return looks_unrecognised(output, segments or (answer(0, len(output)),))


FAR = 2_048


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("<|new_tool|>x", True),
        ("◁new▷x", True),
        ("<｜new｜>x", True),
        ("<|im_end|>x", False),
        ("a < b", False),
        ("◁", False),
        ("`<|new_tool|>` is a token", False),
        ("<my_think>x</my_think>", True),
        ("<my_think>x", False),
        (" " * 8 + "<call>x</call>", True),
        ("text <call>x</call>", False),
        ("x" * (FAR - 12) + "<|new_tool|>", True),
        ("x" * (FAR - 11) + "<|new_tool|>" + "x" * FAR, False),
        ("x" * FAR + "<|new_tool|>" + "x" * (FAR - 12), True),
        ("x" * FAR + "<|new_tool|>" + "x" * (FAR - 11), False),
        ("```" + "x" * FAR + "<|new_tool|>", True),
        ("```" + "x" * 1_500 + "<|new_tool|>" + "x" * 1_500, False),
    ],
)
def test_an_answer_with_markup_of_no_known_family_is_noted_at_its_ends(output: str, expected: bool) -> None:  # noqa: FBT001
    assert looks(output) is expected


def test_only_answers_are_looked_at_and_each_of_them() -> None:
    token = "<|new_tool|>"
    output = f"{token}plain{token}"
    first, plain, last = (answer(0, 12), answer(12, 17), answer(17, 29))
    assert looks(output, answer(0, 12, Kind.REASONING), plain, last)
    assert looks(output, answer(0, 12, blank=True), plain, last)
    assert not looks(output, answer(0, 12, Kind.REASONING), plain, answer(17, 29, Kind.TOOL_CALL))
    assert not looks(output, plain)
    assert looks(output, first)
    later = f"◁a{'x' * FAR}{token}"
    assert looks(later, answer(1, len(later)))
