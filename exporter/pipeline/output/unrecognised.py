"""Detects an answer that looks like markup of a family that is not in families.py.

A hint: it shows a new family of models when it is first used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from exporter.pipeline.output.segments import Kind, Segment

_LOOKED_AT: Final = 2_048
"""Characters at either end of an answer."""
_TOKEN: Final = re.compile(r"<(?:\|[A-Za-z_][\w:/.-]{1,40}\||｜[\w▁:/.-]{1,40}｜)>|◁/?\w{2,20}▷")
"""A control token of a model, which prose does not contain."""
_BEGINNINGS: Final = ("<|", "<｜", "◁")
_HARMLESS: Final = re.compile(
    r"<[|｜](?:im_start|im_end|endoftext|eot_id|eom_id|end|start|return|call|channel|message|constrain|user|assistant"
    r"|system|START_RESPONSE|END_RESPONSE|END_OF_TURN_TOKEN|begin_of_solution|end_of_solution|end▁of▁sentence"
    r"|begin▁of▁sentence|begin_of_box|end_of_box|action_end|plugin|observation|role_sep|message_sep)[|｜]>"
)
"""Tokens that end turns or fence off answers."""
_TAG: Final = re.compile(
    r"\s{0,8}<((?:[\w.-]{1,20}:)?[\w.-]{0,20}(?:think|thought|reason|tool|call|function|invoke|action|plan|reflect)"
    r"[\w.-]{0,20})>",
    re.IGNORECASE,
)
"""A tag with which an answer begins, and whose name speaks of reasoning or tools."""
_FENCED: Final = re.compile(r"```|`<")


def looks_unrecognised(output: str, segments: Sequence[Segment]) -> bool:
    """Whether an answer begins with, or holds, markup that no known family writes."""
    for segment in segments:
        if segment.kind is not Kind.ANSWER or segment.blank:
            continue
        start, end = segment.content_start, segment.content_end
        if output.find("<", start, end) < 0 and output.find("◁", start, end) < 0:
            continue
        head = output[start : min(end, start + _LOOKED_AT)]
        tag = _TAG.match(head)
        if tag is not None and f"</{tag[1]}>" in output[start:end]:
            return True
        tail = output[max(start + _LOOKED_AT, end - _LOOKED_AT) : end]
        for part in (head, tail):
            if (
                any(begin in part for begin in _BEGINNINGS)
                and _FENCED.search(part) is None
                and any(_HARMLESS.fullmatch(token) is None for token in _TOKEN.findall(part))
            ):
                return True
    return False
