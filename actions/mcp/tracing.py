"""Spans of tool calls, sent over OTLP where the environment names a receiver.

Knows no call. Only our own spans leave: the SDK's would carry error texts of tool servers. The trace context still
passes through the SDK, so a call's span is the child of the client's and the parent of the tool server's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Tracer

from exporter.telemetry import otlp
from exporter.telemetry.rejections import Rejections

NAME: Final = "daemonpulse.actions.mcp"

CLOSE_MS: Final = 2_000


class Tracing:
    """Where spans of calls go. Queued, bounded, and dropped when nobody takes them: telemetry fails open."""

    def __init__(self, exporter: SpanExporter | None) -> None:
        self._provider: TracerProvider | None = None
        if exporter is not None:
            resource = Resource.create({"service.name": "daemonpulse-actions"})
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer: Tracer = (
            self._provider.get_tracer(NAME) if self._provider is not None else trace.NoOpTracer()
        )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Tracing:
        """Use the receiver that the standard OTEL_* variables name, if any."""
        return cls(otlp.span_exporter(Rejections("spans"), environ))

    def close(self) -> None:
        """Deliver what is left, for a moment, and stop. Blocks: call it in a thread."""
        if self._provider is not None:
            self._provider.force_flush(CLOSE_MS)
            self._provider.shutdown()
