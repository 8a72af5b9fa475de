"""Tags: what a set of them accepts, what a prompt opens, and what a tool call is called."""

import pytest

from exporter.pipeline.output import call_names, grammar, harmony
from exporter.pipeline.output.call_names import NameReader
from exporter.pipeline.output.families import FAMILIES, TOOL_FAMILIES, Family
from exporter.pipeline.output.segments import Kind
from exporter.pipeline.output.splitter import split
from exporter.pipeline.output.unrecognised import looks_unrecognised
from tests.exporter.pipeline.output.splitting import fed

ANY = call_names.any_shape


@pytest.mark.parametrize(
    "pair", [("", "</x>"), ("<x>", ""), ("<x>", "<x>"), (" ", "</x>"), ("<x>", "y" * 65)]
)
def test_a_custom_tag_that_cannot_work_is_refused_by_name(pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="reasoning tag") as caught:
        grammar.grammar((pair,))
    assert repr(pair) in str(caught.value)
    fix = "must differ" if pair[0] == pair[1] else "must have 1 to 64 characters"
    assert str(caught.value).endswith(fix)


def test_custom_tags_go_first_and_never_twice() -> None:
    known = grammar.grammar((("<r>", "</r>"), ("[THINK]", "x" * 64), ("<r>", "</s>")))
    assert [tag.open for tag in known.reasoning[:4]] == ["<r>", "[THINK]", "<r>", "<think>"]
    own = known.markers["[THINK]"].reasoning
    assert own is not None
    assert (own.close, own.control) == ("x" * 64, False)
    first = known.markers["<r>"].reasoning
    assert first is not None
    assert first.close == "</r>"
    assert known.markers["</think>"].closes
    assert not known.markers["<think>"].closes


def test_markers_are_found_by_their_first_characters() -> None:
    known = grammar.grammar((("(r)", "(/r)"),))
    assert known.first_chars == ("(", "<", "[", "◁")
    for family in FAMILIES:
        tag = family.reasoning or family.tool
        assert tag is not None
        assert known.opener.match(family.sample) is not None, family.name
        found = known.marker.search(family.sample)
        starts = known.starter.match(family.sample) is not None
        assert starts is tag.at_start, family.name
        assert starts or (found is not None and found.group() == tag.open), family.name
        assert len(tag.open) <= grammar.MAX_MARKER_CHARS // 2


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_sample_of_every_family_is_split(family: Family) -> None:
    for before, after in (("", ""), ("\n", "\n"), ("<think>x</think>\n\n", "")):
        output = before + family.sample + after
        segments = split(output)
        assert tuple(tool for segment in segments for tool in segment.tools) == family.calls
        thought = "".join(
            output[s.content_start : s.content_end] for s in segments if s.kind is Kind.REASONING
        )
        assert thought.removeprefix("x") == family.thought
        assert not looks_unrecognised(output, segments)
        assert fed(output, list(range(len(output))), "") == segments


@pytest.mark.parametrize("family", TOOL_FAMILIES, ids=lambda family: family.name)
def test_a_call_in_code_and_a_marker_that_is_quoted_are_no_call(family: Family) -> None:
    assert family.tool is not None
    for output in (f"Begin with `{family.tool.open}` then.", f"So:\n```\n{family.sample}\n```\n"):
        assert [tool for segment in split(output) for tool in segment.tools] == []


@pytest.mark.parametrize(
    "answer",
    ["[1, 2]", '{"name": "Bob", "age": 3}', "[f for f in x]", "function call of f", "[x](y)", "<function=f", "{",
     "Here is my response: 42", "<function_calls> are tags", "functools.wraps", "<tool_calls>", "[f(x)]"],
)  # fmt: skip
def test_an_answer_that_only_begins_alike_is_an_answer(answer: str) -> None:
    assert [(segment.kind, segment.tools) for segment in split(answer)] == [(Kind.ANSWER, ())]


def test_a_users_tool_tags_are_known_like_any_others() -> None:
    known = grammar.grammar((), (("<act>", "</act>"),))
    segments = split('ok <act>{"name": "f"}</act>', "", known)
    assert [segment.tools for segment in segments] == [(), ("f",)]
    with pytest.raises(ValueError, match="tool tag"):
        grammar.grammar((), (("<act>", "<act>"),))


@pytest.mark.parametrize(
    ("output", "suspicious"),
    [
        ("<ponder_thought>x</ponder_thought>42", True),
        ("a <|new_tool_begin|>{}", True),
        ("<｜new▁tool｜>x", True),
        ("x" * 5000 + "<|new_tool|>", True),
        ("x" * 2100 + "<|new_tool|>" + "x" * 2100, False),
        ("<html><think_tank></think_tank>", False),
        ("hi<|im_end|>", False),
        ("`<|new_tool|>` is a token", False),
        ("```\n<|new_tool|>\n```", False),
        ("plain", False),
        ("<think><|new_tool|></think>42", False),
    ],
)
def test_markup_of_an_unknown_family_is_noticed(output: str, suspicious: bool) -> None:  # noqa: FBT001
    assert looks_unrecognised(output, split(output)) is suspicious


def test_markers_are_found_in_order_up_to_a_limit_and_not_beyond() -> None:
    search = grammar.MarkerSearch(grammar.grammar())
    text = "a <think>b</think> [THINK]"
    search.restart(text)
    found = search.next(0, len(text))
    assert found is not None
    assert (found.start(), found.group()) == (2, "<think>")
    assert search.next(3, 10) is None
    again = search.next(3, 11)
    assert again is not None
    assert again.group() == "</think>"
    last = search.next(11, len(text))
    assert last is not None
    assert last.start() == 19
    assert search.next(20, len(text)) is None
    search.restart("[THINK]")
    assert search.next(0, 7) is not None
    search.restart("<x <think>")
    assert search.next(0, 3) is None
    assert search.next(0, 4) is not None


def test_the_work_of_a_search_is_counted() -> None:
    search = grammar.MarkerSearch(grammar.grammar())
    text = "x" * 100 + "<think>"
    search.restart(text)
    search.next(0, len(text))
    # To the first "<", to no "[" and no "◁" at all, and through the marker.
    assert search.scanned == 100 + 107 + 107 + 7
    search.next(107, len(text))
    assert search.scanned == 321
    search.restart("a<b")
    search.next(0, 3)
    assert search.scanned == 321 + 1 + 3 + 3 + 2


@pytest.mark.parametrize(
    ("prompt", "opening"),
    [
        ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", ""),
        ("<|im_start|>assistant\n<think>\n", "<think>\n"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
        (
            "<seed:bos>assistant\n<seed:think><seed:cot_budget_reflect>",
            "<seed:think><seed:cot_budget_reflect>",
        ),
        ("<|turn>model\n<|channel>thought\n<channel|>", "<|channel>thought\n<channel|>"),
        ("<|end|><|start|>assistant", "<|start|>assistant"),
        (
            "<|start|>assistant<|channel|>final<|message|>",
            "<|start|>assistant<|channel|>final<|message|>",
        ),
        ("<think>\n" + " " * 8, ""),
        ("<think>" + " " * 8, "<think>" + " " * 8),
        ("x" * 500 + "<think>", "<think>"),
        ("<|start|>assistant<|channel|>analysis", "<|start|>assistant<|channel|>analysis"),
        ("<|start|>assistant<|message|>", ""),
        ("[THINK]", "[THINK]"),
        ("What does <think> do?<|im_end|>\n<|im_start|>assistant\n", ""),
        ("", ""),
    ],
)
def test_the_end_of_a_prompt_tells_what_it_opened(prompt: str, opening: str) -> None:
    assert grammar.prompt_opening(prompt, grammar.grammar()) == opening


@pytest.mark.parametrize("hostile", ["x\ny", " ", "{}", "é", "-rf", "n" * 65])
def test_a_generated_tool_name_cannot_become_any_label(hostile: str) -> None:
    body = f'{{"name": "{hostile}", "arguments": {{}}}}'.replace("\n", "\\n")
    assert split(f"<tool_call>{body}</tool_call>")[0].tools == ("unknown",)
    assert harmony.read_header(f"<|channel|>commentary to=functions.{hostile}").tool != hostile


@pytest.mark.parametrize(
    ("read", "head", "names"),
    [
        (ANY, '{"name": "a", "arguments": {}}', ("a",)),
        (ANY, '\n [{"name": "a"}, {"name": "b"}] \n', ("a", "b")),
        (ANY, '{"function": {"name": "a"}}', ("a",)),
        (ANY, '[{"function": {"name": "a"}}, {"function": {"name": "b"}}]', ("a", "b")),
        (ANY, '{"arguments": {"x": 1}, "name" : "cut", "more": [', ("cut",)),
        (ANY, '{"name": "a", "arguments": {"name": "x"}}\n{"name": "b"}, [{"name": "c"}]', ("a", "b", "c")),
        (ANY, '{"name": "a"} {"name": "b", "cut": [{"name": "x"', ("a", "b")),
        (ANY, '{"nothing": 1}', ("unknown",)),
        (ANY, '{"name": 1}', ("unknown",)),
        (ANY, "", ("unknown",)),
        (ANY, "<function=a>1</function><function=b b>", ("a", "b b")),
        (ANY, "get.the:weather-now <arg_key>", ("get.the:weather-now",)),
        (ANY, "(no name)", ("unknown",)),
        (call_names.python_tag_names, "a.call(x=1); b.call(y)", ("a", "b")),
        (call_names.python_tag_names, "print(1)", ("python",)),
        (call_names.gemma_names, "call:a{x:1} call:b{", ("a",)),
        (call_names.gemma_names, "a{x:1}", ("unknown",)),
        (call_names.pythonic_names, "[f(a='x\\'), g(', b=[h(1)], c={'k': i()}), j.k()]", ("f", "j.k")),
        (call_names.pythonic_names, "f(1)\ng(2)", ("f", "g")),
        (call_names.pythonic_names, "[f(a=", ("f",)),
        (call_names.key_names, '[{"a": {"b": 1}}, {"c": {}}]', ("a", "c")),
        (call_names.key_names, '[{"a": {"b": 1', ("a",)),
        (call_names.kimi_names, "f:12<|tool_call_argument_begin|>{}", ("f",)),
        (call_names.deepseek_names, "function<｜tool▁sep｜>f\n```json", ("f",)),
        (call_names.step_names, "function<｜tool_sep｜>f\n", ("f",)),
        (ANY, str([{"name": "a"}] * 70).replace("'", '"'), ("a",) * 64),
    ],
)
def test_calls_are_named_in_every_way_of_writing_them(
    read: NameReader, head: str, names: tuple[str, ...]
) -> None:
    assert call_names.call_names(read, head) == names


@pytest.mark.parametrize("deep", ["[" * 5000, '{"a":' * 5000])
def test_a_call_nested_without_end_is_unknown(deep: str) -> None:
    assert call_names.call_names(ANY, deep) == ("unknown",)


def test_only_the_head_of_a_long_call_is_kept_however_it_arrives() -> None:
    text = '{"arguments": {"text": "' + "x" * 2 * call_names.HEAD_CHARS
    for step in (1000, 7, 9000):
        head = call_names.CallHead()
        for at in range(0, len(text), step):
            head.add(text, at, min(at + step, len(text)))
        assert "".join(head._pieces) == text[: call_names.HEAD_CHARS]
    head = call_names.CallHead("{")
    head.add('xx"name": "a"}yy', 2, 14)
    assert head.names(ANY) == ("a",)


@pytest.mark.parametrize(
    ("text", "at", "stop", "mentioned"),
    [
        ("<think>", 0, 1, True),
        (" <think>", 0, 1, False),
        ("a <think>", 2, 9, True),
        ("a <think>", 3, 9, False),
        ("`<think>`", 0, 9, False),
        ("`<think>` <think>", 0, 17, True),
        ("'<think>' \"<think>", 0, 18, False),
        ("`<think><think>", 0, 9, True),
        ("`<think><think>", 0, 8, False),
    ],
)
def test_a_quoted_tag_is_not_a_mention(
    text: str,
    at: int,
    stop: int,
    mentioned: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    assert grammar.mentions(text, "<think>", at, stop) is mentioned


@pytest.mark.parametrize(
    ("header", "channel", "tool"),
    [
        ("<|start|>assistant<|channel|>analysis", "analysis", None),
        ("<|channel|>commentary to=functions.f <|constrain|>json", "commentary", "f"),
        (" to=browser.open<|channel|>commentary", "commentary", "browser.open"),
        ("<|start|>assistant to=user<|channel|>final", "final", None),
        ("to=all", "", None),
        ("to=assistant", "", None),
        ("", "", None),
    ],
)
def test_a_header_says_its_channel_and_whom_it_calls(header: str, channel: str, tool: str | None) -> None:
    assert harmony.read_header(header) == harmony.Header(channel, tool)
