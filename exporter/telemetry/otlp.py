"""OTLP exporters for spans and log records, configured by the standard OTEL_* variables.

Imported only when a receiver is configured, because the SDK costs memory.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from exporter.pipeline.operations import Operation
from exporter.pipeline.predictions import Prediction
from exporter.telemetry.batch_queue import BatchQueue
from exporter.telemetry.otel_env import wanted
from exporter.telemetry.partial_success import Rejections
from exporter.telemetry.spans import Style, build, operation_span

PREDICTIONS_PER_BATCH: Final = 128
"""A prediction is about four spans, so that a request carries about the usual 512."""

CLOSE_S: Final = 4.0
"""Seconds both signals have left at the end."""

_NAMESPACE: Final = uuid.UUID("6c1f3b0e-5a3f-5d0b-9a55-2f6d0c1a7e11")


@dataclass(slots=True)
class Otlp:
    """Bounded queues to the receiver, one per signal; None for a signal without a receiver."""

    spans: BatchQueue[Prediction | Operation] | None
    logs: BatchQueue[Callable[[], ReadableLogRecord]] | None

    def close(self) -> None:
        """Deliver what is left, within CLOSE_S, and count the rest as lost."""
        for queue in (self.spans, self.logs):
            if queue is not None:
                queue.close(within_s=CLOSE_S / 2)


def from_environment(
    resource_of: Callable[[str], Resource], style: Style, environ: Mapping[str, str] = os.environ
) -> Otlp:
    """Make the queues for the signals that have a receiver; `resource_of` describes a daemon by name.

    Headers, TLS, compression and timeouts are read by the SDK's exporters themselves. The protocol is http/protobuf
    unless OTEL_EXPORTER_OTLP_PROTOCOL says grpc.
    """
    not_taken = Rejections("spans"), Rejections("logs")
    spans, logs = span_exporter(not_taken[0], environ), log_exporter(not_taken[1], environ)

    def spans_of(item: Prediction | Operation) -> list[ReadableSpan]:
        if isinstance(item, Operation):
            return [operation_span(item, resource_of, style)]
        return build(item, resource_of, style)

    def deliver_spans(batch: Sequence[Prediction | Operation]) -> bool:
        built = [span for item in batch for span in spans_of(item)]
        return spans is not None and spans.export(built) is SpanExportResult.SUCCESS

    def deliver_logs(batch: Sequence[Callable[[], ReadableLogRecord]]) -> bool:
        return logs is not None and logs.export([make() for make in batch]) is LogRecordExportResult.SUCCESS

    return Otlp(
        spans=BatchQueue("spans", deliver_spans, batch=PREDICTIONS_PER_BATCH, rejected=not_taken[0].take)
        if spans
        else None,
        logs=BatchQueue("logs", deliver_logs, rejected=not_taken[1].take) if logs else None,
    )


class DaemonResource(Resource):
    """A resource that is hashed once: the SDK's encoder asks for the hash at every span, and gets it from JSON."""

    @cached_property
    def _hash(self) -> int:
        return super().__hash__()

    def __hash__(self) -> int:
        return self._hash

    __eq__ = Resource.__eq__


def resource(*, daemon: str, version: str | None) -> Resource:
    """Describe a daemon as the source of its telemetry; the instance id is the same for ever."""
    attributes = {
        "service.name": "llmster",
        "service.instance.id": str(uuid.uuid5(_NAMESPACE, f"{socket.gethostname()}/{daemon}")),
        "host.name": socket.gethostname(),
        "llmster.daemon": daemon,
    }
    if version is not None:
        attributes["service.version"] = version
    described = Resource.create(attributes)
    return DaemonResource(described.attributes, described.schema_url)


def span_exporter(rejections: Rejections, environ: Mapping[str, str] = os.environ) -> SpanExporter | None:
    """Make the exporter of spans the environment describes; None without a receiver."""
    is_wanted, protocol = wanted("TRACES", environ)
    if not is_wanted:
        return None
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter

        return GrpcSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(session=rejections.session(environ))


def log_exporter(rejections: Rejections, environ: Mapping[str, str] = os.environ) -> LogRecordExporter | None:
    """Make the exporter of log records the environment describes; None without a receiver."""
    is_wanted, protocol = wanted("LOGS", environ)
    if not is_wanted:
        return None
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter

        return GrpcLogExporter()
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    return OTLPLogExporter(session=rejections.session(environ))
