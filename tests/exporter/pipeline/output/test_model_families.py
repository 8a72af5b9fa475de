"""The splitter: outputs of every known family, whole and one character at a time."""

import pytest

from exporter.pipeline.output.splitter import split
from tests.exporter.pipeline.output.splitting import A, Part, R, T, fed, parts

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
