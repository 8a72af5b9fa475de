"""Spans of tool calls, sent over OTLP where the environment names a receiver.

Knows no call. Imported only when a receiver is configured, as the SDK costs memory. Only our own spans leave: those of
the MCP SDK would carry error texts of tool servers. The trace context still passes through it, so a call's span is the
child of the client's and the parent of the tool server's.
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
from exporter.telemetry.batch_queue import Pump
from exporter.telemetry.partial_success import Rejections

NAME: Final = "daemonpulse.actions.mcp"

CLOSE_S: Final = 2.0


class Tracing:
    """Where spans of calls go. Queued, bounded, and counted as lost when nobody takes them: telemetry fails open."""

    def __init__(self, exporter: SpanExporter, rejections: Rejections) -> None:
        def deliver(batch: Sequence[ReadableSpan]) -> bool:
            return exporter.export(batch) is SpanExportResult.SUCCESS

        self._pump: Pump[ReadableSpan] = Pump("tool call spans", deliver, rejected=rejections.take)
        resource = Resource.create({"service.name": "daemonpulse-actions"})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(_IntoPump(self._pump))
        self.tracer: Tracer = provider.get_tracer(NAME)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Tracing | None:
        """Use the receiver that the standard OTEL_* variables name, if any."""
        rejections = Rejections("spans")
        exporter = otlp.span_exporter(rejections, environ)
        return cls(exporter, rejections) if exporter is not None else None

    def close(self) -> None:
        """Deliver what is left, within CLOSE_S, and count the rest as lost. Blocks: call it in a thread."""
        self._pump.close(within_s=CLOSE_S)


class _IntoPump(SpanProcessor):
    """Instead of the SDK's batches, whose end may take 30 s and whose losses nobody counts."""

    def __init__(self, pump: Pump[ReadableSpan]) -> None:
        self._pump = pump

    def on_end(self, span: ReadableSpan) -> None:
        self._pump.put(span)
