"""Answers that name no request: taken for a request's only where they can be no other's."""

import mcp_types as types
from hypothesis import given
from hypothesis import strategies as st

from actions.mcp.upstream.orphans import Orphan, Orphans

ERROR = types.ErrorData(code=-32700, message="Parse error")


def sent(*ids: int) -> Orphans:
    orphans = Orphans()
    for request_id in ids:
        orphans.sent(types.JSONRPCRequest(jsonrpc="2.0", id=request_id, method="tools/call"))
    return orphans


def notify(orphans: Orphans, method: str = "notifications/initialized", **params: object) -> None:
    orphans.sent(types.JSONRPCNotification(jsonrpc="2.0", method=method, params=params or None))


def ids(found: list[Orphan]) -> list[object]:
    return [request_id for request_id, _ in found]


def test_the_only_request_that_is_open_has_it() -> None:
    assert ids(sent(1).take(ERROR)) == [1]
    assert sent().take(ERROR) == []


def test_of_several_it_is_the_one_that_is_left() -> None:
    orphans = sent(1, 2, 3)
    assert orphans.take(ERROR) == []
    assert orphans.answered(2) == []
    assert ids(orphans.answered(1)) == [3]
    assert orphans.answered(3) == []


def test_a_request_that_was_sent_later_is_not_suspected() -> None:
    orphans = sent(1, 2)
    assert orphans.take(ERROR) == []
    orphans.sent(types.JSONRPCRequest(jsonrpc="2.0", id=3, method="tools/call"))
    assert ids(orphans.answered(2)) == [1]
    assert orphans.answered(3) == []


def test_as_many_as_are_open_are_all_of_them() -> None:
    orphans = sent(1, 2)
    assert orphans.take(ERROR) == []
    assert ids(orphans.take(ERROR)) == [1, 2]


def test_one_after_a_notification_is_about_that_until_a_later_request_is_answered() -> None:
    orphans = sent()
    notify(orphans)
    orphans.sent(types.JSONRPCRequest(jsonrpc="2.0", id=1, method="tools/list"))
    assert orphans.take(ERROR) == []
    assert ids(orphans.take(ERROR)) == [1], "a second one is not"
    orphans = sent(1)
    notify(orphans)
    orphans.sent(types.JSONRPCRequest(jsonrpc="2.0", id=2, method="tools/list"))
    orphans.answered(1)  # says nothing: it was sent before
    orphans.answered(2)
    orphans.sent(types.JSONRPCRequest(jsonrpc="2.0", id=3, method="tools/call"))
    assert ids(orphans.take(ERROR)) == [3]


def test_a_request_that_was_given_up_is_neither_answered_nor_takes_others_along() -> None:
    orphans = sent(1, 2)
    assert orphans.take(ERROR) == []
    notify(orphans, "notifications/cancelled", requestId=1)
    assert orphans.answered(1) == [], "2 is not failed: it may have been the answer to 1"
    orphans.sent(types.JSONRPCRequest(jsonrpc="2.0", id=3, method="tools/call"))
    orphans.answered(3)
    assert ids(orphans.take(ERROR)) == [2]


@given(st.lists(st.tuples(st.sampled_from(["send", "answer", "null", "cancel", "note"]), st.integers(0, 5))))
def test_no_order_of_messages_ends_a_request_that_is_not_open_or_ends_one_twice(
    steps: list[tuple[str, int]],
) -> None:
    orphans, open_, number = sent(), set[int](), 0
    for step, which in steps:
        found: list[Orphan] = []
        if step == "send":
            number += 1
            open_.add(number)
            orphans.sent(types.JSONRPCRequest(jsonrpc="2.0", id=number, method="x"))
        elif step == "null":
            found = orphans.take(ERROR)
        elif step == "note":
            notify(orphans)
        elif step == "cancel":
            notify(orphans, "notifications/cancelled", requestId=which)
            open_.discard(which)
        else:
            found = orphans.answered(which)
            open_.discard(which)
        assert open_.issuperset(ids(found))
        open_ -= set(ids(found))
