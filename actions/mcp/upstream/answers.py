"""Reads one message of a server, also where it breaks the protocol: an answer reaches its request in any case. Pure.

An answer that cannot be read would leave its request waiting for the timeout. Therefore it becomes an error that says
so, or what it plainly means: `result: null` an empty result, `error: "text"` an error of the server.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import mcp_types as types

from actions.mcp.upstream.large_messages import id_of
from actions.mcp.upstream.streams import Lost

MAX_BATCH: Final = 100
"""Messages in one array, which protocol 2025-03-26 had."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_HEAD: Final = re.compile(
    rb'\s{0,8}\{\s{0,8}"jsonrpc"\s{0,8}:\s{0,8}"2\.0"\s{0,8},\s{0,8}"id"\s{0,8}:\s{0,8}([0-9]{1,18})\b'
)
_WORDS: Final = 1_000

NOT_VALID: Final = "the response is not valid MCP"
Message = types.JSONRPCMessage


def messages_of(raw: bytes, request_id: types.RequestId | None = None) -> list[Message | Exception]:
    """Return the messages of a line or a body. `request_id` is that of its request, if the transport knows."""
    raw = raw.removeprefix(_BYTE_ORDER_MARK)
    try:
        return [_valid(raw)]
    except ValueError as error:
        return [*_mended(raw, request_id)] or [error]


def is_message(raw: bytes, answers: types.RequestId | None = None) -> bool:
    """Tell whether this is a valid message; with `answers` also the answer to that request, by its id."""
    try:
        message = _valid(raw)
    except ValueError:
        return False
    if answers is None:
        return True
    return isinstance(message, types.JSONRPCResponse | types.JSONRPCError) and message.id == answers


def _valid(raw: bytes) -> Message:
    return types.jsonrpc_message_adapter.validate_json(raw, by_name=False)


def _mended(raw: bytes, request_id: types.RequestId | None) -> list[Message]:
    try:
        value = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        found = request_id if request_id is not None else _id_in(raw)
        return [_unreadable(found)] if found is not None and b'"method"' not in raw[:_WORDS] else []
    items = value[:MAX_BATCH] if isinstance(value, list) else [value]
    mended = (_message(item, request_id) for item in items if isinstance(item, dict))
    return [message for message in mended if message is not None]


def _message(item: dict[str, Any], request_id: types.RequestId | None) -> Message | None:
    if "method" in item:
        return _revalidated(item)
    answers = _id(item.get("id"))
    answers = answers if answers is not None else request_id
    result, error = item.get("result"), item.get("error")
    if answers is None:
        is_answer = item.get("id") is None and ("result" in item or error is not None)
        return _without_id(error) if is_answer else None
    head = {"jsonrpc": "2.0", "id": answers}
    if isinstance(result, dict) or ("result" in item and result is None and error is None):
        return _revalidated({**head, "result": result or {}}) or _unreadable(answers)
    if error is not None:
        return _revalidated({**head, "error": _error(error)}) or _unreadable(answers)
    return _unreadable(answers)


def _without_id(error: Any) -> Message:
    """Return the error of an answer that names no request; a result without one is given to no request."""
    known = (
        _revalidated({"jsonrpc": "2.0", "id": None, "error": _error(error)}) if error is not None else None
    )
    return known or _unreadable(None)


def _revalidated(message: dict[str, Any]) -> Message | None:
    try:
        return _valid(
            json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
        )  # no lone surrogates
    except (ValueError, RecursionError):
        return None


def _error(given: Any) -> dict[str, Any]:
    """Return an error object of what a server wrote in its place."""
    fields = given if isinstance(given, dict) else {"message": given}
    code, words = fields.get("code"), fields.get("message")
    return {
        "code": code if isinstance(code, int) else types.INTERNAL_ERROR,
        "message": words if isinstance(words, str) else json.dumps(words)[:_WORDS],
    }


def _id(given: Any) -> types.RequestId | None:
    if isinstance(given, float) and given.is_integer():
        return int(given)
    return given if isinstance(given, int | str) and not isinstance(given, bool) else None


def _id_in(raw: bytes) -> types.RequestId | None:
    """Find the id of what is no JSON, or is nested too deep."""
    first = _HEAD.match(raw)
    return int(first[1]) if first is not None else id_of(None, raw)


def _unreadable(answers: types.RequestId | None) -> types.JSONRPCError:
    lost = Lost(NOT_VALID, is_malformed=True)
    error = types.ErrorData(code=types.INTERNAL_ERROR, message=NOT_VALID, data=lost)
    return types.JSONRPCError(jsonrpc="2.0", id=answers, error=error)
