"""Internal errors: each is counted, each kind is logged once, and no message of theirs is."""

import logging

import pytest

from exporter.shared.internal_errors import MAX_KINDS, InternalErrors


def fail(error: BaseException) -> None:
    raise error


def test_every_stage_starts_at_zero() -> None:
    assert InternalErrors("parse", "slots").counts == {"parse": 0, "slots": 0}


def test_a_kind_is_logged_once_and_always_counted(caplog: pytest.LogCaptureFixture) -> None:
    errors = InternalErrors()
    for stage, error in [("slots", KeyError)] * 3 + [("slots", TypeError), ("split", TypeError)]:
        with errors.catch(stage):
            fail(error("my diary"))
    assert errors.counts == {"slots": 4, "split": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "internal error: KeyError",
        "internal error: TypeError",
        "internal error: TypeError",
    ]
    assert all("test_internal_errors.py" in record.__dict__["place"] for record in caplog.records)
    assert "diary" not in caplog.text


def test_kinds_that_are_logged_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    errors = InternalErrors()
    with caplog.at_level(logging.ERROR):
        for number in range(MAX_KINDS + 5):
            errors.note(f"stage{number}", ValueError())
    assert len(caplog.records) == MAX_KINDS
    assert caplog.records[0].__dict__["place"] == "unknown"


def test_cancellation_is_no_internal_error() -> None:
    errors = InternalErrors()
    with pytest.raises(KeyboardInterrupt), errors.catch("slots"):
        fail(KeyboardInterrupt())
    assert not errors.counts
