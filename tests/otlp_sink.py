"""A receiver of OTLP over HTTP for tests: decodes what arrives with OpenTelemetry's own protobuf messages."""

import gzip
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(slots=True)
class Received:
    """What arrived, in order; `status`, `headers` and `rejected` are what the receiver answers."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    rejected: int = 0
    """How many items of each request it takes and then says that it rejected."""
    answers: threading.Event = field(default_factory=threading.Event)
    """Cleared, the receiver takes requests and leaves them waiting."""
    spans: list[Span] = field(default_factory=list)
    records: list[LogRecord] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    resources: list[dict[str, object]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """Every request as it came, headers' values included: what a canary must not be in."""

    def environment(self) -> dict[str, str]:
        """Give the variables that point an exporter here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url}


def attributes(pairs: Iterable[KeyValue]) -> dict[str, object]:
    """Read a list of key-value pairs into a dict of plain values."""
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


@contextmanager
def otlp_sink(*, port: int = 0) -> Iterator[Received]:
    """Run a receiver, on a free port if none is named, until the end of the block."""
    received = Received()
    received.answers.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            received.bodies.append(str(self.headers).encode() + body)
            received.answers.wait()
            answer = b""
            if received.status == 200:
                _take(received, self.path, body)
                answer = _partial_success(self.path, received.rejected)
            self.send_response(received.status)
            for name, value in received.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    received.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield received
    finally:
        received.answers.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _partial_success(path: str, rejected: int) -> bytes:
    if not rejected:
        return b""
    if path == "/v1/traces":
        spans = ExportTracePartialSuccess(rejected_spans=rejected, error_message="too old")
        return bytes(ExportTraceServiceResponse(partial_success=spans).SerializeToString())
    logs = ExportLogsPartialSuccess(rejected_log_records=rejected, error_message="too old")
    return bytes(ExportLogsServiceResponse(partial_success=logs).SerializeToString())


def _take(received: Received, path: str, body: bytes) -> None:
    if path == "/v1/traces":
        traces = ExportTraceServiceRequest.FromString(body)
        for resource_spans in traces.resource_spans:
            received.resources.append(attributes(resource_spans.resource.attributes))
            for scope in resource_spans.scope_spans:
                received.spans.extend(scope.spans)
    elif path == "/v1/logs":
        logs = ExportLogsServiceRequest.FromString(body)
        for resource_logs in logs.resource_logs:
            received.resources.append(attributes(resource_logs.resource.attributes))
            for scope_logs in resource_logs.scope_logs:
                received.records.extend(scope_logs.log_records)
    elif path == "/v1/metrics":
        pushed = ExportMetricsServiceRequest.FromString(body)
        for resource_metrics in pushed.resource_metrics:
            received.resources.append(attributes(resource_metrics.resource.attributes))
            for scope_metrics in resource_metrics.scope_metrics:
                received.metrics.extend(scope_metrics.metrics)
