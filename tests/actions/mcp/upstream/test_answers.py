"""One line or body as messages, whatever a server made of it, and the requests that they answer."""

from typing import Any

import mcp_types as types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.message import SessionMessage

from actions.mcp.upstream import streams
from actions.mcp.upstream.answers import MAX_BATCH, is_message, messages_of
from actions.mcp.upstream.streams import MAX_ASKED, Exchange, Health, Lost


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_messages_or_one_error(raw: bytes) -> None:
    for found in (messages_of(raw), messages_of(raw, 1)):
        assert found
        assert all(not isinstance(one, Exception) for one in found) or len(found) == 1


def test_a_batch_has_a_length_and_its_parts_are_read_one_by_one() -> None:
    parts = [
        '{"jsonrpc": "2.0", "id": 1, "result": {}}',
        "3",
        '{"id": 2}',
        '{"jsonrpc": "2.0", "method": "x"}',
    ]
    first, second, third = messages_of(f"[{', '.join(parts)}]".encode())
    assert isinstance(first, types.JSONRPCResponse)
    assert isinstance(second, types.JSONRPCError)
    assert isinstance(second.error.data, Lost)
    assert isinstance(third, types.JSONRPCNotification)
    assert len(messages_of(f"[{', '.join([parts[0]] * (MAX_BATCH + 5))}]".encode())) == MAX_BATCH


@pytest.mark.parametrize(
    ("raw", "answers", "is_one"),
    [
        (b'{"jsonrpc": "2.0", "id": 1, "result": {}}', 1, True),
        (b'{"jsonrpc": "2.0", "id": 1, "result": {}}', 2, False),
        (b'{"jsonrpc": "2.0", "id": null, "error": {"code": 1, "message": "x"}}', 2, False),
        (b'{"jsonrpc": "2.0", "method": "x"}', None, True),
        (b'{"jsonrpc": "2.0", "method": "x"}', 1, False),
        (b"[]", None, False),
    ],
)
def test_a_valid_message_is_told_from_others(raw: bytes, answers: int | None, is_one: bool) -> None:  # noqa: FBT001
    assert is_message(raw, answers) == is_one


def sent(exchange: Exchange, request_id: int) -> None:
    exchange.sent(SessionMessage(types.JSONRPCRequest(jsonrpc="2.0", id=request_id, method="tools/call")))


def answered(exchange: Exchange, request_id: int | str) -> dict[str, Any]:
    response = types.JSONRPCResponse(jsonrpc="2.0", id=request_id, result={})
    received = exchange.received(SessionMessage(response))
    assert received is not None
    assert isinstance(received.message, types.JSONRPCResponse)
    return received.message.result


def test_requests_that_are_never_answered_do_not_keep_later_answers_from_being_mended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "MAX_OPEN", 3)
    exchange = Exchange(Health(), lambda *_: None, lambda _: None)
    for request_id in range(6):
        sent(exchange, request_id)
    assert answered(exchange, "5") == answered(exchange, 4) == {"content": []}
    assert answered(exchange, 0) == {}  # forgotten


def test_requests_of_a_server_that_does_not_read_its_responses_are_dropped_beyond_a_number() -> None:
    exchange = Exchange(Health(), lambda *_: None, lambda _: None)

    def asks(request_id: int | str) -> bool:
        request = types.JSONRPCRequest(jsonrpc="2.0", id=request_id, method="ping")
        return exchange.received(SessionMessage(request)) is not None

    assert [asks(number) for number in range(100)] == [True] * MAX_ASKED + [False] * (100 - MAX_ASKED)
    exchange.delivered(SessionMessage(types.JSONRPCResponse(jsonrpc="2.0", id=3, result={})))
    assert asks("new")
    assert not asks("another")
    error = types.ErrorData(code=types.METHOD_NOT_FOUND, message="")
    exchange.delivered(SessionMessage(types.JSONRPCError(jsonrpc="2.0", id="new", error=error)))
    assert asks("another")
    assert not asks("another"), "its id is in use"
    given_up: Any
    for given_up in (["another"], {}, None, "another"):
        cancelled = types.JSONRPCNotification(
            jsonrpc="2.0", method="notifications/cancelled", params={"requestId": given_up}
        )
        assert not asks("more")
        assert exchange.received(SessionMessage(cancelled)) is not None
    assert asks("more")
