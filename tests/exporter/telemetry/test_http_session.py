"""The session that OTLP leaves by: redirects are failures, and answers are read up to a bound."""

import contextlib
import gzip
import itertools
import socket
import threading
from collections.abc import Iterator

import pytest
import requests
from opentelemetry.sdk.trace.export import SpanExportResult

from exporter.telemetry import http_session, otlp
from exporter.telemetry.http_session import MAX_ANSWER_BYTES, bounded_session
from exporter.telemetry.partial_success import Rejections
from tests.black_hole import first_address_dead
from tests.exporter.telemetry.answering import answering


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering() as elsewhere, answering(status, headers={"Location": elsewhere.url}) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        exporter = otlp.span_exporter(Rejections("spans"))
        assert exporter is not None
        assert exporter.export([]) is SpanExportResult.FAILURE
        exporter.shutdown()
    assert receiver.paths
    assert elsewhere.paths == []


def test_a_first_address_that_answers_nothing_does_not_use_up_the_time_of_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_session, "CONNECT_S", 0.05)
    with answering() as receiver, bounded_session(lambda _: None) as session:
        port = int(receiver.url.rsplit(":", 1)[1])
        with first_address_dead(port, monkeypatch) as host:
            assert session.post(f"http://{host}:{port}", data=b"", timeout=600).status_code == 200


@pytest.mark.parametrize("status", [101, 103, 199, 200, 202, 204, 304, 400, 418, 451, 600, 999])
def test_a_2xx_is_a_success_and_no_other_status(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(status) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        exporter = otlp.span_exporter(Rejections("spans"))
        assert exporter is not None
        told = exporter.export([])
        exporter.shutdown()
    assert told is (SpanExportResult.SUCCESS if 200 <= status < 300 else SpanExportResult.FAILURE)


def test_an_answer_without_end_is_read_up_to_its_bound() -> None:
    heard: list[requests.Response] = []
    with answering(body=b"x" * 2**20, endless=True) as receiver, bounded_session(heard.append) as session:
        answer = session.post(receiver.url, data=b"", timeout=5)
    assert len(answer.content) == MAX_ANSWER_BYTES
    assert heard == []
    assert receiver.sent_bytes < 2**26, "what the kernel buffers, and not all there is"


def test_a_packed_answer_is_unpacked_up_to_its_bound() -> None:
    bomb = gzip.compress(b"\0" * 2**25)
    with (
        answering(body=bomb, headers={"Content-Encoding": "gzip"}) as receiver,
        bounded_session(lambda _: None) as session,
    ):
        answer = session.post(receiver.url, data=b"", timeout=5)
    assert len(answer.content) == MAX_ANSWER_BYTES


@contextlib.contextmanager
def dribbling(start: bytes, again: bytes) -> Iterator[str]:
    """A receiver whose answer goes on for ever, a little at a time, until it is left."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as peer:
            peer.recv(65536)
            for part in itertools.chain([start], itertools.repeat(again)):
                peer.sendall(part)
                if over.wait(0.02):
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        thread.join()
        listener.close()


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", b";"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 99999\r\n\r\n", b"x"),
    ],
    ids=["a header", "headers", "continue", "a chunk's size", "a refusal"],
)
@pytest.mark.parametrize("through", ["", "http://receiver.test:4318", "https://receiver.test:4318"])
def test_a_receiver_that_answers_byte_by_byte_is_given_up(
    start: bytes, again: bytes, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout of a socket is per read: a byte now and then would hold the exporter for as long as it comes.

    `through` is the receiver behind a proxy, whose answer it then is.
    """
    monkeypatch.setattr(http_session, "_BODY_S", 0.3)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    given_up = threading.Event()

    def export(url: str) -> None:
        with bounded_session(lambda _: None) as session, contextlib.suppress(requests.RequestException):
            session.post(url, data=b"", timeout=0.3)
        given_up.set()

    with dribbling(start, again) as url:
        if through:
            monkeypatch.setenv("http_proxy", url)
            monkeypatch.setenv("https_proxy", url)
        thread = threading.Thread(target=export, args=(through or url,), daemon=True)
        thread.start()
        assert given_up.wait(20)
        thread.join()
