"""The splitter: every known family, any chunking, any text, in linear work."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.pipeline import tags
from exporter.pipeline.reasoning import MAX_SEGMENTS, Splitter, split
from exporter.pipeline.segments import Kind, Segment

R, A, T = Kind.REASONING, Kind.ANSWER, Kind.TOOL_CALL
Part = tuple[Kind, str] | tuple[Kind, str, tuple[str, ...]]


def parts(output: str, opened_by_prompt: str = "", custom: tuple[tuple[str, str], ...] = ()) -> list[Part]:
    """Return (kind, content) of what holds more than white space, with the tools of a tool call."""
    return [
        (s.kind, output[s.content_start : s.content_end], s.tools)
        if s.kind is T
        else (s.kind, output[s.content_start : s.content_end])
        for s in split(output, opened_by_prompt, custom)
        if not s.blank
    ]


def fed(output: str, cuts: list[int], opened_by_prompt: str = "") -> list[Segment]:
    splitter = Splitter(opened_by_prompt)
    segments: list[Segment] = []
    edges = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    for start, end in itertools.pairwise(edges):
        segments += splitter.feed(output[start:end])
    return segments + splitter.finish()


# What models really write. Sources: "template" is the model's own chat template as kept in llama.cpp
# models/templates; "llama.cpp" is its tests/test-chat.cpp, which runs those templates; "harmony" is openai/harmony
# docs/format.md; "vLLM" its tests of the Mistral tool parser; "LM Studio" its docs page on tool use.
REAL_OUTPUTS: dict[str, tuple[str, str, list[Part]]] = {
    "captured stream: Qwen3 thinks, then answers": (
        "",
        "<think>\nwhere reader time\n</think>\n\ncache drains in in goes one",
        [(R, "\nwhere reader time\n"), (A, "cache drains in in goes one")],
    ),
    "Qwen3 template: told not to think": ("", "<think>\n\n</think>\n\nParis.", [(A, "Paris.")]),
    "llama.cpp, DeepSeek-R1": (
        "",
        "<think>I'm\nthinking</think>Hello, world!\nWhat's up?",
        [(R, "I'm\nthinking"), (A, "Hello, world!\nWhat's up?")],
    ),
    "llama.cpp, QwQ: the prompt opened the tag": (
        "<think>\n",
        "Let me think about this...\n</think>\nThe answer is 42.",
        [(R, "Let me think about this...\n"), (A, "The answer is 42.")],
    ),
    "llama.cpp, QwQ: opened by the prompt, closed at once": ("<think>\n", "</think>Hello!", [(A, "Hello!")]),
    "llama.cpp, Qwen3-Coder: a call inside reasoning is not a call": (
        "<think>\n",
        (
            "Let's call a tool: <tool_call>\n<function=python>\n<parameter=code>\nnot real\n</parameter>\n</function>\n"
            "</tool_call>\n</think>\n<tool_call>\n<function=python>\n<parameter=code>\nprint(1)\n</parameter>\n"
            "</function>\n</tool_call>\n"
        ),
        [
            (
                R,
                (
                    "Let's call a tool: <tool_call>\n<function=python>\n<parameter=code>\nnot real\n</parameter>\n"
                    "</function>\n</tool_call>\n"
                ),
            ),
            (
                T,
                "\n<function=python>\n<parameter=code>\nprint(1)\n</parameter>\n</function>\n",
                ("python",),
            ),
        ],
    ),
    "llama.cpp, Hermes 2 Pro: a call right after text": (
        "",
        'Hello, world!\nWhat\'s up?<tool_call>\n{"name": "special_function", "arguments": {"arg1": 1}}</tool_call>',
        [
            (A, "Hello, world!\nWhat's up?"),
            (T, '\n{"name": "special_function", "arguments": {"arg1": 1}}', ("special_function",)),
        ],
    ),
    "Qwen3 template: two calls after reasoning": (
        "",
        (
            '<think>\nboth\n</think>\n\n<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>\n<tool_call>\n'
            '{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
        ),
        [
            (R, "\nboth\n"),
            (T, '\n{"name": "get_time", "arguments": {}}\n', ("get_time",)),
            (T, '\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n', ("get_weather",)),
        ],
    ),
    "GLM-4.5 template": (
        "",
        (
            "<think>x</think>\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Beijing</arg_value>\n"
            "</tool_call>"
        ),
        [
            (R, "x"),
            (
                T,
                "get_weather\n<arg_key>city</arg_key>\n<arg_value>Beijing</arg_value>\n",
                ("get_weather",),
            ),
        ],
    ),
    "harmony: analysis, then final": (
        "<|start|>assistant",
        (
            '<|channel|>analysis<|message|>User asks: "What is 2 + 2?" Simple arithmetic. Provide answer.<|end|>'
            "<|start|>assistant<|channel|>final<|message|>2 + 2 = 4.<|return|>"
        ),
        [(R, 'User asks: "What is 2 + 2?" Simple arithmetic. Provide answer.'), (A, "2 + 2 = 4.")],
    ),
    "harmony: a call": (
        "<|start|>assistant",
        (
            "<|channel|>analysis<|message|>Need to use function get_weather.<|end|><|start|>assistant"
            "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
            '{"location":"San Francisco"}<|call|>'
        ),
        [(R, "Need to use function get_weather."), (T, '{"location":"San Francisco"}', ("get_weather",))],
    ),
    "harmony: a plan told to the user before a call": (
        "<|start|>assistant",
        (
            "<|channel|>analysis<|message|>long<|end|><|start|>assistant<|channel|>commentary<|message|>"
            "**Action plan**:\n1. Generate<|end|><|start|>assistant<|channel|>commentary "
            'to=functions.generate_file<|constrain|>json<|message|>{"path": "index.html"}<|call|>'
        ),
        [
            (R, "long"),
            (A, "**Action plan**:\n1. Generate"),
            (T, '{"path": "index.html"}', ("generate_file",)),
        ],
    ),
    "llama.cpp, gpt-oss: recipient in the role": (
        "<|start|>assistant",
        ' to=functions.special_function<|channel|>commentary <|constrain|>json<|message|>{"arg1": 1}',
        [(T, '{"arg1": 1}', ("special_function",))],
    ),
    "llama.cpp, gpt-oss: a call on the analysis channel": (
        "<|start|>assistant",
        '<|channel|>analysis to=functions.special_function<|message|>{"arg1": 1}',
        [(T, '{"arg1": 1}', ("special_function",))],
    ),
    "llama.cpp, Gemma 4": (
        "",
        "<|channel>thought\nI'm\nthinking<channel|>Hello, world!\nWhat's up?",
        [(R, "\nI'm\nthinking"), (A, "Hello, world!\nWhat's up?")],
    ),
    "llama.cpp, Gemma 4: no budget to think": (
        "",
        "<|channel>thought<channel|>Hello, world!",
        [(A, "Hello, world!")],
    ),
    "llama.cpp, Gemma 4: an empty thought in mid answer": (
        "",
        "<|channel>thought\n<channel|>Hello, world!\nWhat's up?<|channel>thought\n<channel|>",
        [(A, "Hello, world!\nWhat's up?")],
    ),
    "llama.cpp, Gemma 4: text and a call": (
        "",
        'What\'s up?<|tool_call>call:get_time{city:<|"|>Paris<|"|>}<tool_call|>',
        [(A, "What's up?"), (T, 'call:get_time{city:<|"|>Paris<|"|>}', ("get_time",))],
    ),
    "llama.cpp, Ministral 3 Reasoning": (
        "",
        "[THINK]I'm\nthinking[/THINK]Hello, world!\nWhat's up?",
        [(R, "I'm\nthinking"), (A, "Hello, world!\nWhat's up?")],
    ),
    "llama.cpp, Ministral 3 Reasoning: parallel calls": (
        "",
        '[TOOL_CALLS]special_function[ARGS]{"arg1": 1}[TOOL_CALLS]special_function_with_opt[ARGS]{"arg1": 1}',
        [
            (T, 'special_function[ARGS]{"arg1": 1}', ("special_function",)),
            (T, 'special_function_with_opt[ARGS]{"arg1": 1}', ("special_function_with_opt",)),
        ],
    ),
    "llama.cpp, Mistral Small 3.2: with a call id": (
        "",
        '[TOOL_CALLS]special_function[CALL_ID]123456789[ARGS]{"arg1": 1}',
        [(T, 'special_function[CALL_ID]123456789[ARGS]{"arg1": 1}', ("special_function",))],
    ),
    "vLLM, Mistral: argument before name, and a name in the arguments": (
        "",
        '[TOOL_CALLS] [{"arguments":{"name": "no"}, "name": "add"}, {"name": "sub", "arguments":{}}]',
        [
            (
                T,
                ' [{"arguments":{"name": "no"}, "name": "add"}, {"name": "sub", "arguments":{}}]',
                ("add", "sub"),
            ),
        ],
    ),
    "llama.cpp, Seed-OSS: reasoning": (
        "",
        "<seed:think>I'm thinking about the answer</seed:think>\nHello, world!",
        [(R, "I'm thinking about the answer"), (A, "Hello, world!")],
    ),
    "llama.cpp, Seed-OSS: a call": (
        "",
        "<seed:tool_call>\n<function=special_function>\n<parameter=arg1>1</parameter>\n</function>\n</seed:tool_call>",
        [
            (
                T,
                "\n<function=special_function>\n<parameter=arg1>1</parameter>\n</function>\n",
                ("special_function",),
            )
        ],
    ),
    "Llama 3.1 prompt format: built-in tool": (
        "",
        '<|python_tag|>brave_search.call(query="Menlo Park California weather")',
        [(T, 'brave_search.call(query="Menlo Park California weather")', ("brave_search",))],
    ),
    "Llama 3.1 prompt format: code interpreter": (
        "",
        "<|python_tag|>def is_prime(n):\n    return n > 1",
        [(T, "def is_prime(n):\n    return n > 1", ("python",))],
    ),
    "LM Studio: default tool format": (
        "",
        '[TOOL_REQUEST]{"name": "get_delivery_date", "arguments": {"order_id": "123"}}[END_TOOL_REQUEST]',
        [(T, '{"name": "get_delivery_date", "arguments": {"order_id": "123"}}', ("get_delivery_date",))],
    ),
}


@pytest.mark.parametrize(("opened", "output", "expected"), REAL_OUTPUTS.values(), ids=REAL_OUTPUTS)
def test_real_outputs_are_split_as_their_models_meant(opened: str, output: str, expected: list[Part]) -> None:
    assert parts(output, opened) == expected


@pytest.mark.parametrize(("opened", "output", "expected"), REAL_OUTPUTS.values(), ids=REAL_OUTPUTS)
def test_real_outputs_split_alike_one_character_at_a_time(
    opened: str, output: str, expected: list[Part]
) -> None:
    del expected
    assert fed(output, list(range(len(output))), opened) == split(output, opened)


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
    opened = tags.prompt_opening("...<|assistant|>\n<reason>\n", tags.grammar(custom))
    assert parts("a</reason>b", opened, custom) == [(R, "a"), (A, "b")]


@pytest.mark.parametrize(
    "pair", [("", "</x>"), ("<x>", ""), ("<x>", "<x>"), (" ", "</x>"), ("<x>", "y" * 65)]
)
def test_a_custom_tag_that_cannot_work_is_refused_by_name(pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="reasoning tag"):
        tags.grammar((pair,))


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
        ("What does <think> do?<|im_end|>\n<|im_start|>assistant\n", ""),
        ("", ""),
    ],
)
def test_the_end_of_a_prompt_tells_what_it_opened(prompt: str, opening: str) -> None:
    assert tags.prompt_opening(prompt, tags.grammar()) == opening


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


@pytest.mark.parametrize("hostile", ["x\ny", "a b", "{}", "é", "-rf", "n" * 65])
def test_a_generated_tool_name_cannot_become_any_label(hostile: str) -> None:
    body = f'{{"name": "{hostile}", "arguments": {{}}}}'.replace("\n", "\\n")
    assert split(f"<tool_call>{body}</tool_call>")[0].tools == ("unknown",)
    assert tags.read_header(f"<|channel|>commentary to=functions.{hostile}").tool != hostile


PIECES = [
    *(text for tag in tags.REASONING_TAGS for text in (tag.open, tag.close)),
    *(text for tag in tags.TOOL_TAGS for text in (tag.open, tag.close or "")),
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
