"""Reduces messages that are too large to be parsed on the event loop: only a prefix is parsed. Pure.

A thread would not help, because JSON parsers hold the interpreter's lock. The result of a tool is cut, a list loses its
end, and anything else becomes an error.
"""

from __future__ import annotations

import re
from typing import Any, Final

from mcp_types import INVALID_REQUEST
from pydantic_core import from_json, to_json

WHOLE_BYTES: Final = 4 * 1024 * 1024
"""Messages up to this size are parsed as a whole, as are requests of clients."""

MAX_BYTES: Final = 32 * 1024 * 1024
"""Of one message. A server that sends a longer one is stopped."""

_LISTS: Final = ("tools", "prompts", "resources", "resourceTemplates")
_TAIL_BYTES: Final = 4_096
_ID: Final = re.compile(rb'"id"[ \t]{0,8}:[ \t]{0,8}(-?[0-9]{1,18}|"[^"\\]{0,200}")[ \t]{0,8}[,}]')
_IS_ERROR: Final = re.compile(rb'"isError"[ \t]{0,8}:[ \t]{0,8}true')


def limit_of(output_cap_bytes: int) -> int:
    """Return the size up to which messages of a server are parsed as a whole: text may double when it is escaped."""
    return max(WHOLE_BYTES, 2 * output_cap_bytes + 65_536)


def reduced(message: bytes, limit: int, request_id: int | str | None = None) -> bytes | None:
    """Return a message of about `limit` bytes; None for one without an id, which is dropped.

    `request_id` is that of the request that it answers, if the transport knows.
    """
    if len(message) <= limit:
        return message
    prefix = message[:limit].decode("utf-8", "ignore")
    try:
        head = from_json(prefix, allow_partial="trailing-strings")
    except ValueError:
        return None
    answers = request_id if request_id is not None else id_of(head, message)
    if not isinstance(head, dict) or "method" in head or answers is None:
        return None
    return to_json({"jsonrpc": "2.0", "id": answers, **_outcome(head.get("result"), message)})


def _outcome(result: Any, message: bytes) -> dict[str, Any]:
    found = result if isinstance(result, dict) else {}
    tail = message[-_TAIL_BYTES:]
    # Results of 2026-07-28 have it, before or after what is long.
    complete = {"resultType": "complete"} if "resultType" in found or b'"resultType"' in tail else {}
    if isinstance(found.get("content"), list):
        is_error = (
            found.get("isError") is True
            or _IS_ERROR.search(tail) is not None
            or b'"structuredContent"' in message  # a result without what its schema promises
        )
        return {"result": {**complete, "content": _whole(found["content"]), "isError": is_error}}
    for key in _LISTS:
        if isinstance(found.get(key), list):
            return {"result": {**complete, key: found[key][:-1]}}
    text = f"the DaemonPulse gate refused this: the message has {len(message)} bytes"
    return {"error": {"code": INVALID_REQUEST, "message": text}}


def _whole(content: list[Any]) -> list[Any]:
    """Return the blocks without the last one, unless that is text, which may end anywhere."""
    last = content[-1] if content else None
    if (
        not isinstance(last, dict)
        or last.get("type", "text") != "text"
        or not isinstance(last.get("text"), str)
    ):
        return content[:-1]
    return [*content[:-1], {"type": "text", "text": last["text"]}]


def id_of(head: Any, message: bytes) -> int | str | None:
    """Find the id: some servers write it before the result, others after it."""
    known = head.get("id") if isinstance(head, dict) else None
    if isinstance(known, int | str) and not isinstance(known, bool):
        return known
    found = _ID.findall(message[-_TAIL_BYTES:])
    if not found:
        return None
    value: int | str = from_json(found[-1])
    return value
