"""The way out: the standard variables are honoured, over HTTP and gRPC, and an end never waits for a receiver."""

import socket
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.resources import Resource

from exporter import settings
from exporter.llmster.events import PredictionInput, PredictionOutput, PredictionStats, ServerLog
from exporter.log_pipeline import captures
from exporter.pipeline.predictions import Prediction, PredictionBuilder
from exporter.telemetry import otel_env, otlp
from exporter.telemetry.content import Capture
from exporter.telemetry.log_sink import LogSink
from exporter.telemetry.otlp import Otlp
from exporter.telemetry.spans import SpanSink, Style, span_count
from tests.otlp_sink import otlp_sink


def prediction() -> Prediction:
    builder = PredictionBuilder("box")
    builder.add(PredictionInput(1000, "qwen", "path", "a prompt that is long enough"))
    stats = PredictionStats(
        stop_reason="eosFound", tokens_per_second=10, time_to_first_token_s=0.1, predicted_tokens=20
    )
    made = builder.add(PredictionOutput(5000, "qwen", "<think>a</think>b", stats))
    assert made is not None
    return made


def resource_of(_daemon: str) -> Resource:
    return Resource({"service.name": "llmster"})


@contextmanager
def opened(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Iterator[Otlp]:
    """Open the way out that these OTEL_ variables describe, and nothing else from outside."""
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_{name}", value)
    way = otlp.from_environment(resource_of, Style())
    try:
        yield way
    finally:
        way.close()


def test_spans_and_records_arrive_over_http_with_the_headers_the_user_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = prediction()
    with (
        otlp_sink() as received,
        opened(
            monkeypatch,
            EXPORTER_OTLP_ENDPOINT=received.url,
            EXPORTER_OTLP_HEADERS="x-scope-orgid=tenant-7",
            EXPORTER_OTLP_COMPRESSION="gzip",
        ) as way,
    ):
        assert way.spans is not None
        assert way.logs is not None
        SpanSink(way.spans).take_prediction(made)
        LogSink("box", way.logs, resource_of, Capture.OFF).take_log(ServerLog(1000, "info", "[INFO] hello"))
        assert way.spans.wait_until_empty(within_s=10)
        assert way.logs.wait_until_empty(within_s=10)
        assert way.spans.counts.exported == span_count(made) == len(received.spans)
        assert way.logs.counts.exported == len(received.records) == 1
    assert all(b"tenant-7" in body for body in received.bodies)


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what arrives over gRPC."""

    def __init__(self) -> None:
        self.requests: list[trace_service_pb2.ExportTraceServiceRequest] = []

    def Export(  # noqa: N802 - gRPC's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        del context
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


def test_spans_arrive_over_grpc_when_the_user_chose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with opened(
            monkeypatch,
            EXPORTER_OTLP_TRACES_ENDPOINT=f"http://127.0.0.1:{port}",
            EXPORTER_OTLP_PROTOCOL="grpc",
        ) as way:
            assert way.spans is not None
            assert way.logs is None
            SpanSink(way.spans).take_prediction(prediction())
            assert way.spans.wait_until_empty(within_s=20)
            assert way.spans.counts.failed == 0
    finally:
        server.stop(grace=None).wait()
    [request] = receiver.requests
    names = [
        span.name for spans in request.resource_spans for scope in spans.scope_spans for span in scope.spans
    ]
    assert names == ["chat qwen", "prefill", "reasoning", "answer"]


@pytest.mark.slow
def test_the_end_comes_within_five_seconds_although_the_receiver_never_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        way = otlp.from_environment(resource_of, Style())
        assert way.spans is not None
        made = prediction()
        for _ in range(1000):
            SpanSink(way.spans).take_prediction(made)
        started = time.monotonic()
        way.close()
        assert time.monotonic() - started < 5, "the promise of DESIGN.md"
        counts = way.spans.counts
    assert counts.exported == 0
    assert counts.failed + counts.dropped == 1000 * span_count(made)


@pytest.mark.parametrize(
    ("ours", "standard", "expected"),
    [
        (None, "", ("off", "off")),
        (None, "SPAN_ONLY", ("full", "off")),
        (None, "EVENT_ONLY", ("off", "full")),
        ("off", "SPAN_AND_EVENT", ("off", "off")),
        ("redacted", "SPAN_AND_EVENT", ("redacted", "redacted")),
        ("full", "NO_CONTENT", ("full", "full")),
    ],
)
def test_our_setting_wins_over_the_standard_variable_off_included(
    monkeypatch: pytest.MonkeyPatch, ours: str | None, standard: str, expected: tuple[str, str]
) -> None:
    monkeypatch.setenv(otel_env.CONTENT_VARIABLE, standard)
    chosen = settings.load({"capture": ours}, {})
    assert captures(chosen) == expected
