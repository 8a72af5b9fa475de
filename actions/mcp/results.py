"""Results for the client: size limits, `_meta` with the rule, and refusals as errors that a model can read.

Does not depend on the policy. A cut result ends with a text block that says so.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

import mcp_types as types
from mcp.shared.exceptions import MCPError

from actions.mcp.proxy_request import Grant, Refused, decision_meta
from actions.mcp.upstream.streams import GATE_KEY

R = TypeVar("R", bound=types.Result)

_LOST: Final = frozenset({"timeout", "unavailable", "malformed"})
"""Outcomes of calls that the policy did not refuse."""


def refusal(refused: Refused) -> types.CallToolResult:
    """Return the result of a refused tool call: a tool error, because models read it, and not a protocol error."""
    did = "has no result for" if refused.outcome in _LOST else "refused"
    return types.CallToolResult(
        content=[types.TextContent(text=f"The DaemonPulse gate {did} this call. {refused}")],
        is_error=True,
        _meta={
            GATE_KEY: {
                **decision_meta(refused.policy_result, refused.approval)[GATE_KEY],
                "outcome": refused.outcome,
            }
        },
    )


def refusal_error(refused: Refused) -> MCPError:
    """Return the protocol error of a refused prompt or resource."""
    return MCPError(
        types.INVALID_REQUEST,
        f"The DaemonPulse gate refused this. {refused}",
        decision_meta(refused.policy_result, refused.approval),
    )


def marked(result: R, passed: Grant) -> R:
    """Write decision and rule into the result's `_meta`, over whatever the server wrote there."""
    return result.model_copy(update={"meta": {**(result.meta or {}), **passed.to_meta()}})


class ToolResultLimit:
    """Cuts a tool's result to a number of bytes."""

    def __init__(self, cap_bytes: int) -> None:
        self._cap = cap_bytes

    def __call__(self, result: types.CallToolResult, /) -> tuple[types.CallToolResult, str, bool]:
        """Return the result, cut if need be; `done` or `tool_error`; and whether it was cut."""
        outcome = "tool_error" if result.is_error else "done"
        sizes = [_size(block) for block in result.content]
        structured = (
            len(json.dumps(result.structured_content)) if result.structured_content is not None else 0
        )
        total = sum(sizes) + structured
        if total <= self._cap:
            return result, outcome, False
        left = self._cap
        kept: list[Any] = []
        for block, size in zip(result.content, sizes, strict=True):
            if size <= left:
                kept.append(block)
                left -= size
            elif isinstance(block, types.TextContent) and left > 0:
                text = block.text.encode()[:left].decode("utf-8", "ignore")
                kept.append(block.model_copy(update={"text": text}))
                left = 0
        fits = structured <= left
        note = f"[Cut by the DaemonPulse gate: the result has more than {self._cap} bytes, its output_cap_bytes.]"
        kept.append(types.TextContent(text=note))
        cut = result.model_copy(
            update={
                "content": kept,
                "structured_content": result.structured_content if fits else None,
                # A result without the structured content of its schema is an error.
                "is_error": result.is_error or not fits,
            }
        )
        return cut, outcome, True


class SizeLimit:
    """Refuses prompts and resources above a number of bytes; they are not cut."""

    def __init__(self, cap_bytes: int) -> None:
        self._cap = cap_bytes

    def __call__(self, result: Any, /) -> tuple[Any, str, bool]:
        """Return the result. Raises MCPError when it is too large."""
        parts = getattr(result, "contents", None) or getattr(result, "messages", None) or []
        total = sum(_size(getattr(part, "content", part)) for part in parts)
        if total > self._cap:
            raise MCPError(
                types.INVALID_REQUEST,
                f"The DaemonPulse gate refused this: it has {total} bytes; output_cap_bytes is {self._cap}.",
            )
        return result, "done", False


def _size(block: Any) -> int:
    """Return the size of a content block, bytes."""
    for name in ("text", "data", "blob"):
        value = getattr(block, name, None)
        if isinstance(value, str):
            return len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
    resource = getattr(block, "resource", None)
    return _size(resource) if resource is not None else len(block.model_dump_json())
