"""Reads `partial_success` of an OTLP receiver's answers: how many items of an accepted request it rejected.

Over HTTP only: the SDK returns no responses, but accepts an HTTP session.
Source: OTLP specification, "Partial Success"; a client must not send such items again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import requests
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from exporter.telemetry.http_session import bounded_session

log = logging.getLogger(__name__)

_CREDENTIALS: Final = "HTTP_CREDENTIAL_PROVIDER"


class Rejections:
    """Counts the rejected items of one signal, in the thread that exports."""

    def __init__(self, signal: str) -> None:
        self._signal = signal
        self._rejected = 0
        self._told = False

    def session(self, environ: Mapping[str, str]) -> requests.Session | None:
        """Make the session to export with; None where a credential provider of the user makes it, unbounded."""
        if any(_CREDENTIALS in name for name in environ):
            return None
        return bounded_session(self._hear)

    def take(self) -> int:
        """Return how many items were rejected since the last time."""
        rejected, self._rejected = self._rejected, 0
        return rejected

    def _hear(self, response: requests.Response) -> None:
        try:
            self._rejected += _rejected(self._signal, response.content)
        except DecodeError:
            return  # not an OTLP answer
        # Why is left out: a receiver's message can quote what it rejected.
        if self._rejected and not self._told:
            self._told = True
            log.warning("OTLP receiver rejected a part of a request", extra={"signal": self._signal})


def _rejected(signal: str, body: bytes) -> int:
    if signal == "spans":
        return int(ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans)
    if signal == "metrics":
        return int(ExportMetricsServiceResponse.FromString(body).partial_success.rejected_data_points)
    return int(ExportLogsServiceResponse.FromString(body).partial_success.rejected_log_records)
