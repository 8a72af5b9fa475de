"""Tags: what a set of them accepts, what a prompt opens, and what a tool call is called."""

import pytest

from exporter.pipeline.output import families
from exporter.pipeline.output.splitter import split


@pytest.mark.parametrize(
    "pair", [("", "</x>"), ("<x>", ""), ("<x>", "<x>"), (" ", "</x>"), ("<x>", "y" * 65)]
)
def test_a_custom_tag_that_cannot_work_is_refused_by_name(pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="reasoning tag") as caught:
        families.grammar((pair,))
    assert repr(pair) in str(caught.value)
    fix = "must differ" if pair[0] == pair[1] else "must have 1 to 64 characters"
    assert str(caught.value).endswith(fix)


def test_custom_tags_go_first_and_never_twice() -> None:
    known = families.grammar((("<r>", "</r>"), ("[THINK]", "x" * 64), ("<r>", "</s>")))
    assert [tag.open for tag in known.reasoning[:4]] == ["<r>", "[THINK]", "<r>", "<think>"]
    own = known.markers["[THINK]"].reasoning
    assert own is not None
    assert (own.close, own.control) == ("x" * 64, False)
    first = known.markers["<r>"].reasoning
    assert first is not None
    assert first.close == "</r>"
    assert known.markers["</think>"].closes
    assert not known.markers["<think>"].closes


def test_every_marker_is_found_by_its_first_character() -> None:
    known = families.grammar((("(r)", "(/r)"),))
    assert known.first_chars == ("(", "<", "[")
    for text, marker in known.markers.items():
        follows = {"<tool_call>": "{", "<seed:tool_call>": "<function=", "<|tool_call>": "call:"}
        more = follows.get(text, '[{"' if text == "[TOOL_CALLS]" else "{")
        found = known.marker.search(f"text {text}{more}")
        assert found is not None
        assert found.group() == text
        assert (known.opener.match(text + more) is None) is marker.closes


def test_markers_are_found_in_order_up_to_a_limit_and_not_beyond() -> None:
    search = families.MarkerSearch(families.grammar())
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
    search = families.MarkerSearch(families.grammar())
    text = "x" * 100 + "<think>"
    search.restart(text)
    search.next(0, len(text))
    assert search.scanned == 100 + 107 + 7  # to the first "<", to no "[" at all, and through the marker
    search.next(107, len(text))
    assert search.scanned == 214
    search.restart("a<b")
    search.next(0, 3)
    assert search.scanned == 214 + 1 + 3 + 2


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
    assert families.prompt_opening(prompt, families.grammar()) == opening


@pytest.mark.parametrize("hostile", ["x\ny", "a b", "{}", "é", "-rf", "n" * 65])
def test_a_generated_tool_name_cannot_become_any_label(hostile: str) -> None:
    body = f'{{"name": "{hostile}", "arguments": {{}}}}'.replace("\n", "\\n")
    assert split(f"<tool_call>{body}</tool_call>")[0].tools == ("unknown",)
    assert families.read_header(f"<|channel|>commentary to=functions.{hostile}").tool != hostile


@pytest.mark.parametrize(
    ("tag", "head", "names"),
    [
        ("<tool_call>", '{"name": "a", "arguments": {}}', ("a",)),
        ("<tool_call>", '\n [{"name": "a"}, {"name": "b"}] \n', ("a", "b")),
        ("<tool_call>", '{"function": {"name": "a"}}', ("a",)),
        ("<tool_call>", '[{"function": {"name": "a"}}, {"function": {"name": "b"}}]', ("a", "b")),
        ("<tool_call>", '{"arguments": {"x": 1}, "name" : "cut", "more": [', ("cut",)),
        ("<tool_call>", '{"name": "a"} {"name": "b"}', ("a",)),
        ("<tool_call>", '{"nothing": 1}', ("unknown",)),
        ("<tool_call>", "", ("unknown",)),
        ("<tool_call>", "<function=a>1</function><function=b>", ("a", "b")),
        ("<tool_call>", "get.the:weather-now <arg_key>", ("get.the:weather-now",)),
        ("<tool_call>", "(no name)", ("unknown",)),
        ("<|python_tag|>", "a.call(x=1); b.call(y)", ("a", "b")),
        ("<|python_tag|>", "print(1)", ("python",)),
        ("<|tool_call>", "call:a{x:1} call:b{", ("a",)),
        ("<|tool_call>", "a{x:1}", ("unknown",)),
        ("[TOOL_CALLS]", str([{"name": "a"}] * 70).replace("'", '"'), ("a",) * 64),
    ],
)
def test_calls_are_named_in_every_way_of_writing_them(tag: str, head: str, names: tuple[str, ...]) -> None:
    assert families.call_names(tag, head) == names


@pytest.mark.parametrize("deep", ["[" * 5000, '{"a":' * 5000])
def test_a_call_nested_without_end_is_unknown(deep: str) -> None:
    assert families.call_names("<tool_call>", deep) == ("unknown",)


def test_only_the_head_of_a_long_call_is_kept_however_it_arrives() -> None:
    text = '{"arguments": {"text": "' + "x" * 6000
    for step in (1000, 7, 9000):
        head = families.CallHead()
        for at in range(0, len(text), step):
            head.add(text, at, min(at + step, len(text)))
        assert sum(map(len, head._pieces)) == families.HEAD_CHARS
        assert "".join(head._pieces) == text[: families.HEAD_CHARS]
    head = families.CallHead()
    head.add('xx{"name": "a"}yy', 2, 15)
    assert head.names("<tool_call>") == ("a",)


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
    assert families.mentions(text, "<think>", at, stop) is mentioned


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
    assert families.read_header(header) == families.Header(channel, tool)
