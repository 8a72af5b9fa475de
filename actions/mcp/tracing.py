"""Exports spans of tool calls over OTLP.

Imported only when a receiver is configured, because the OTel SDK costs memory. Spans of the MCP SDK are not exported,
because they hold error texts of tool servers; the SDK propagates the trace context all the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer

from exporter.telemetry import otlp
from exporter.telemetry.batch_queue import BatchQueue
from exporter.telemetry.partial_success import Rejections

NAME: Final = "daemonpulse.actions.mcp"

CLOSE_S: Final = 2.0


class Tracing:
    """The span pipeline: a bounded queue that counts what it loses. Telemetry fails open."""

    def __init__(self, exporter: SpanExporter, rejections: Rejections) -> None:
        def deliver(batch: Sequence[ReadableSpan]) -> bool:
            return exporter.export(batch) is SpanExportResult.SUCCESS

        self._queue: BatchQueue[ReadableSpan] = BatchQueue(
            "tool call spans", deliver, rejected=rejections.take
        )
        resource = Resource.create({"service.name": "daemonpulse-actions"})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(_IntoQueue(self._queue))
        self.tracer: Tracer = provider.get_tracer(NAME)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Tracing | None:
        """Use the receiver of the standard OTEL_* variables; None if there is none."""
        rejections = Rejections("spans")
        exporter = otlp.span_exporter(rejections, environ)
        return cls(exporter, rejections) if exporter is not None else None

    def close(self) -> None:
        """Export the queue within CLOSE_S and count the rest as lost. Blocks: call it in a thread."""
        self._queue.close(within_s=CLOSE_S)


class _IntoQueue(SpanProcessor):
    """Replaces the SDK's batch processor, whose shutdown may take 30 s and whose losses are not counted."""

    def __init__(self, queue: BatchQueue[ReadableSpan]) -> None:
        self._queue = queue

    def on_end(self, span: ReadableSpan) -> None:
        self._queue.put(span)
