"""Format conversations the way each model family's chat template does.

Text in, text out; generation.py makes the answers.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmster_sim.models.catalogue import Family

Role = Literal["system", "user", "assistant", "tool"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation, already flattened to text."""

    role: Role
    text: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Style:
    """`turn` wraps one message, `opening` lets the model begin, `closing` ends what it wrote."""

    turn: str
    opening: str
    closing: str


_CHATML = _Style(
    turn="<|im_start|>{role}\n{text}<|im_end|>\n",
    opening="<|im_start|>assistant\n",
    closing="<|im_end|>\n",
)
# Assumed: short forms of the public templates; only the published samples' ChatML is known to the letter.
_STYLES: dict[Family, _Style] = {
    "think": _CHATML,
    "think_open": dataclasses.replace(_CHATML, opening="<|im_start|>assistant\n<think>\n"),
    "plain": _CHATML,
    "harmony": _Style(
        turn="<|start|>{role}<|message|>{text}<|end|>", opening="<|start|>assistant", closing="<|end|>"
    ),
    "gemma": _Style(
        turn="<start_of_turn>{role}\n{text}<end_of_turn>\n",
        opening="<start_of_turn>model\n",
        closing="<end_of_turn>\n",
    ),
    "gemma_thought": _Style(
        turn="<|turn>{role}\n{text}<turn|>\n", opening="<|turn>model\n", closing="<turn|>\n"
    ),
    "mistral": _Style(turn="[INST]{text}[/INST]", opening="", closing="</s>"),
}


def format_messages(*, family: Family, messages: Sequence[Message], thinking: bool = True) -> str:
    """Give the full templated prompt, ending where the model starts to write.

    With `thinking` off on a <think> family the prompt closes an empty block itself, as published.
    """
    style = _STYLES[family]
    body = "".join(style.turn.format(role=message.role, text=message.text) for message in messages)
    skip = "<think>\n\n</think>\n\n" if family == "think" and not thinking else ""
    return f"{body}{style.opening}{skip}"


def continue_prompt(*, family: Family, prompt: str, output: str, messages: Sequence[Message]) -> str:
    """Give the next turn's prompt: the former prompt and raw output, then the new messages."""
    return prompt + output + _STYLES[family].closing + format_messages(family=family, messages=messages)
