"""Tags: what a set of them accepts, what a prompt opens, and what a tool call is called."""

import pytest

from exporter.pipeline import tags
from exporter.pipeline.reasoning import split


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


@pytest.mark.parametrize("hostile", ["x\ny", "a b", "{}", "é", "-rf", "n" * 65])
def test_a_generated_tool_name_cannot_become_any_label(hostile: str) -> None:
    body = f'{{"name": "{hostile}", "arguments": {{}}}}'.replace("\n", "\\n")
    assert split(f"<tool_call>{body}</tool_call>")[0].tools == ("unknown",)
    assert tags.read_header(f"<|channel|>commentary to=functions.{hostile}").tool != hostile
