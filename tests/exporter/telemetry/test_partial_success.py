"""What a receiver rejects of what it accepted: counted once, told once, and never quoted."""

import logging
from collections.abc import Callable

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from exporter.telemetry.partial_success import Rejections
from tests.exporter.telemetry.answering import answering


def heard(rejections: Rejections, body: bytes, *, status: int = 200) -> None:
    """Let a session hear a receiver's answer."""
    session = rejections.session({})
    assert session is not None
    with answering(status, body) as receiver, session:
        session.post(receiver.url, data=b"", timeout=5)


def spans(count: int, why: str = "") -> bytes:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = count
    answer.partial_success.error_message = why
    return bytes(answer.SerializeToString())


def records(count: int) -> bytes:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = count
    return bytes(answer.SerializeToString())


@pytest.mark.parametrize(("signal", "answer"), [("spans", spans), ("logs", records)])
def test_what_was_rejected_is_taken_once(signal: str, answer: Callable[[int], bytes]) -> None:
    rejections = Rejections(signal)
    heard(rejections, answer(3))
    heard(rejections, answer(4))
    assert (rejections.take(), rejections.take()) == (7, 0)


@pytest.mark.parametrize(("body", "status"), [(b"", 200), (b"<html>", 200), (spans(3), 503)])
def test_other_answers_reject_nothing(body: bytes, status: int) -> None:
    rejections = Rejections("spans")
    heard(rejections, body, status=status)
    assert rejections.take() == 0


def test_it_is_told_once_and_without_the_receivers_words(caplog: pytest.LogCaptureFixture) -> None:
    rejections = Rejections("spans")
    for _ in range(2):
        heard(rejections, spans(1, "span 'my diary' is too long"))
    (told,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "my diary" not in str(told.__dict__)


def test_a_session_of_the_users_own_is_left_alone() -> None:
    assert Rejections("spans").session({"OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "mine"}) is None
