"""The message headers of gpt-oss. Source: "OpenAI harmony response format", openai/harmony docs/format.md."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from exporter.pipeline.output.call_names import plain_name

START: Final = re.compile(
    r"<\|channel\|>|<\|start\|>assistant|to=[\w.:-]{1,64}\s{0,4}(?:<\|channel\|>|<\|constrain\|>|<\|message\|>)"
)
"""How an output of gpt-oss begins: the prompt ends in `<|start|>assistant`, so with the rest of a header."""
BODY: Final = "<|message|>"
END: Final = re.compile(
    r"<\|(?:(?P<stop>(?:end|return|call)\|>)|start\|>assistant|channel\|>(?:analysis|commentary|final))"
)
"""What ends a message. Observed: gpt-oss at times starts the next header without `<|end|>`."""
ASSISTANT: Final = "<|start|>assistant"
PROMPT: Final = re.compile(
    r"<\|start\|>assistant[^<]{0,80}(?:<\|channel\|>[^<]{0,80}(?:<\|message\|>\s{0,8})?)?\Z"
)
_CHANNEL: Final = re.compile(r"<\|channel\|>\s{0,4}(\w+)")
_RECIPIENT: Final = re.compile(r"\bto=([^\s<]+)")


class Header(msgspec.Struct, frozen=True):
    """What a message header says."""

    channel: str
    tool: str | None


def read_header(header: str) -> Header:
    """Read `<|start|>assistant<|channel|>commentary to=functions.x <|constrain|>json`, or any part of it.

    The recipient may stand after the role or after the channel: harmony's encoder writes the one, the model both.
    """
    channel = _CHANNEL.search(header)
    recipient = _RECIPIENT.search(header)
    tool = recipient.group(1).removeprefix("functions.") if recipient else None
    return Header(
        channel.group(1) if channel else "",
        plain_name(tool) if tool is not None and tool not in ("assistant", "user", "all") else None,
    )
