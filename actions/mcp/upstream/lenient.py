"""Repairs results that violate the protocol: malformed tools, prompts and content blocks are dropped. Pure.

The rest of a list or result is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import mcp_types as types
from mcp_types import methods
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, TypeAdapter, ValidationError

Result = dict[str, Any]

_LISTS: Final[dict[str, tuple[str, type[BaseModel]]]] = {
    "tools/list": ("tools", types.Tool),
    "prompts/list": ("prompts", types.Prompt),
    "resources/list": ("resources", types.Resource),
    "resources/templates/list": ("resourceTemplates", types.ResourceTemplate),
}
_COMPLETE: Final[Result] = {"resultType": "complete"}
_CACHEABLE: Final[Result] = {**_COMPLETE, "ttlMs": 0, "cacheScope": "private"}
MAX_BLOCKS: Final = 1_000
"""Content blocks of one result."""
MAX_ITEMS: Final = 2_000
"""Items of one page of a list."""
_BLOCK: Final[TypeAdapter[Any]] = TypeAdapter(types.ContentBlock)


def repaired(method: str, version: str, result: Result) -> tuple[Result, int]:
    """Return the repaired result and the number of dropped items.

    `version` is the negotiated protocol version. A result that cannot be repaired is returned unchanged.
    """
    is_other_kind = method == "tools/call" and not result.keys().isdisjoint({"inputRequests", "task"})
    if version in MODERN_PROTOCOL_VERSIONS and not is_other_kind:
        result = {**_required(method), **result}
    if method == "tools/call":
        return (result, 0) if is_other_kind else _repaired_call(result)
    if method in _LISTS:
        cut, beyond = _cut_list(method, result)
        mended, dropped = _repaired_list(method, version, cut)
        return mended, beyond + dropped
    return result, 0


def _required(method: str) -> Result:
    """Return the fields that every result must have since 2026-07-28, with what their absence means."""
    return _CACHEABLE if method in _LISTS or method in {"server/discover", "resources/read"} else _COMPLETE


def _cut_list(method: str, result: Result) -> tuple[Result, int]:
    """Cut a page of a list to MAX_ITEMS; each item is looked at for the policy."""
    key = _LISTS[method][0]
    items = result.get(key)
    if not isinstance(items, list) or len(items) <= MAX_ITEMS:
        return result, 0
    return {**result, key: items[:MAX_ITEMS]}, len(items) - MAX_ITEMS


def _repaired_list(method: str, version: str, result: Result) -> tuple[Result, int]:
    if _is_valid(method, version, result):
        return result, 0
    key, kind = _LISTS[method]
    items = result.get(key)
    if items is not None and not isinstance(items, list):
        return result, 0
    if not isinstance(result.get("nextCursor"), str | None):
        result = {name: value for name, value in result.items() if name != "nextCursor"}
    if items is None:
        return {**result, key: []}, 1
    if not _is_valid(method, version, {**result, key: []}):
        return result, 0
    # Each by itself, without what else is in the result: that was valid, and may be large.
    bare = {**_required(method), key: []} if version in MODERN_PROTOCOL_VERSIONS else {}
    kept = [
        item
        for item in items
        if _fits(kind.model_validate, item) and _is_valid(method, version, {**bare, key: [item]})
    ]
    return {**result, key: kept}, len(items) - len(kept)


def _repaired_call(result: Result) -> tuple[Result, int]:
    content = result.get("content")
    if isinstance(content, list) and len(content) <= MAX_BLOCKS and all(_is_plain(one) for one in content):
        return result, 0
    if result.get("resultType", "complete") != "complete":
        return result, 0  # a result of another kind
    blocks = content[:MAX_BLOCKS] if isinstance(content, list) else []
    kept = [block for block in blocks if _is_plain(block) or _fits(_BLOCK.validate_python, block)]
    dropped = len(blocks) - len(kept) + (content is not None and not isinstance(content, list))
    if dropped:
        kept.append({"type": "text", "text": f"[{dropped} malformed content blocks were dropped.]"})
    if isinstance(content, list) and len(content) > MAX_BLOCKS:
        dropped += (beyond := len(content) - MAX_BLOCKS)
        kept.append({"type": "text", "text": f"[{beyond} content blocks beyond {MAX_BLOCKS} were dropped.]"})
    return {**result, "content": kept}, dropped


def _is_plain(block: Any) -> bool:
    """Tell whether a block is plain text, the common case, without validation by the SDK."""
    return (
        isinstance(block, dict)
        and block.get("type") == "text"
        and isinstance(block.get("text"), str)
        and block.keys() <= {"type", "text"}
    )


def _is_valid(method: str, version: str, result: Result) -> bool:
    return _fits(lambda value: methods.validate_server_result(method, version, value), result)


def _fits(validate: Callable[[Any], Any], value: Any) -> bool:
    try:
        validate(value)
    except ValidationError:
        return False
    except (KeyError, ValueError):  # no schema for this method or version
        return True
    return True
