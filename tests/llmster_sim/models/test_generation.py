import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmster_sim.models.catalogue import Family
from llmster_sim.models.generation import Kind, ToolCall, generate, tokenize
from llmster_sim.models.prompts import Message, continue_prompt, format_messages

_CALL = ToolCall(name="add", arguments={"a": 1}, call_id="call_1")


def _text(family: Family, *, calls: tuple[ToolCall, ...] = ()) -> str:
    return generate(
        rng=random.Random(1), family=family, reasoning_words=4, answer_words=0 if calls else 3, calls=calls
    ).text


@given(st.text())
def test_tokens_join_to_the_text_they_came_from(text: str) -> None:
    assert "".join(tokenize(text)) == text


@pytest.mark.parametrize(
    ("family", "start", "end"),
    [
        ("think", "<think>\n", "\n</think>\n\n"),
        ("harmony", "<|channel|>analysis<|message|>", "<|end|>"),
        ("gemma_thought", "<|channel>thought\n", "<channel|>"),
        ("mistral", "[THINK]", "[/THINK]"),
    ],
)
def test_reasoning_stands_between_the_tags_of_its_family(family: Family, start: str, end: str) -> None:
    text = _text(family)
    assert text.startswith(start)
    assert end in text
    assert len(text.partition(end)[0].removeprefix(start).split()) == 4


def test_family_whose_prompt_opens_the_reasoning_only_closes_it() -> None:
    text = _text("think_open")
    assert "<think>" not in text
    assert "\n</think>\n\n" in text
    assert format_messages(family="think_open", messages=[]).endswith("<think>\n")


def test_family_without_reasoning_writes_no_tags() -> None:
    assert "<" not in _text("gemma")


@pytest.mark.parametrize(
    ("family", "form"),
    [
        ("think", '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'),
        ("harmony", 'commentary to=functions.add <|constrain|>json<|message|>{"a": 1}<|call|>'),
        ("gemma_thought", '<|tool_call>call:add{"a": 1}<tool_call|>'),
        ("mistral", '[TOOL_CALLS]add[ARGS]{"a": 1}'),
    ],
)
def test_tool_call_has_the_form_of_its_family(family: Family, form: str) -> None:
    assert _text(family, calls=(_CALL,)).endswith(form)


def test_token_counts_by_kind_add_up_to_the_whole() -> None:
    made = generate(rng=random.Random(1), family="think", reasoning_words=9, answer_words=7, calls=(_CALL,))
    kinds: tuple[Kind, ...] = ("reasoning", "message", "tool_call", "tag", "call_tag")
    assert sum(made.count(kind) for kind in kinds) == made.token_count == len(tokenize(made.text))


def test_cut_keeps_the_first_tokens_and_drops_a_half_written_call() -> None:
    made = generate(rng=random.Random(1), family="think", reasoning_words=9, answer_words=7, calls=(_CALL,))
    cut = made.cut(made.token_count - 3)
    assert cut.token_count == made.token_count - 3
    assert made.text.startswith(cut.text)
    assert made.calls == (_CALL,)
    assert cut.calls == ()


def test_prompt_with_reasoning_off_closes_an_empty_block_as_published() -> None:
    prompt = format_messages(family="think", messages=[Message(role="user", text="ping")], thinking=False)
    assert prompt == "<|im_start|>user\nping<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def test_next_turn_begins_with_the_former_prompt_and_output() -> None:
    prompt = continue_prompt(
        family="think", prompt="P", output="O", messages=[Message(role="tool", text=json.dumps([1]))]
    )
    assert prompt.startswith("PO<|im_end|>\n<|im_start|>tool\n[1]")
