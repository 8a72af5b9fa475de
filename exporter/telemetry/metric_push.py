"""Pushes what a scrape would show to an OTLP receiver, at the interval of OTEL_METRIC_EXPORT_INTERVAL.

Cumulative values need no queue: the push after a failed one contains its values. The data points of a failed push are
counted as lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib import metadata
from typing import Final

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from prometheus_client.metrics_core import Metric as Family

from exporter.telemetry.batch_queue import Delivered
from exporter.telemetry.metric_data import metrics_data, points_of
from exporter.telemetry.otel_env import metrics_wanted, milliseconds
from exporter.telemetry.partial_success import Rejections

log = logging.getLogger(__name__)

INTERVAL_MS: Final = 60_000
TIMEOUT_MS: Final = 30_000
"""Defaults of OpenTelemetry's environment variable specification."""
Collect = Callable[[], Awaitable[Iterable[Family]]]


class MetricPush:
    """Pushes metrics until it is cancelled."""

    def __init__(
        self,
        collect: Collect,
        exporter: MetricExporter,
        resource: Resource,
        *,
        rejected: Callable[[], int] = lambda: 0,
        version: str,
        interval_s: float = INTERVAL_MS / 1000,
        timeout_s: float = TIMEOUT_MS / 1000,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.counts = Delivered()
        self._collect = collect
        self._exporter = exporter
        self._rejected = rejected
        self._resource = resource
        self._version = version
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._wall_clock = wall_clock
        self._start_ns = round(wall_clock() * 1e9)
        self._has_failed = False

    async def run(self) -> None:
        """Push at each interval, and once more at the end."""
        try:
            while True:
                await asyncio.sleep(self._interval_s)
                await self.push()
        finally:
            self._exporter.shutdown()

    async def push(self) -> None:
        """Push once. Never raises: telemetry fails open."""
        data = metrics_data(
            await self._collect(),
            resource=self._resource,
            version=self._version,
            start_ns=self._start_ns,
            now_ns=round(self._wall_clock() * 1e9),
        )
        try:
            result = await asyncio.to_thread(self._exporter.export, data, self._timeout_s * 1000)
        except Exception as error:  # noqa: BLE001 - an exporter of the user's choice may raise anything
            self._failed(points_of(data), type(error).__name__)
            return
        if result is MetricExportResult.SUCCESS:
            rejected = self._rejected()
            self.counts.failed += rejected
            self.counts.exported += points_of(data) - rejected
            if self._has_failed:
                self._has_failed = False
                log.info("OTLP export recovered", extra={"signal": "metrics"})
        else:
            self._failed(points_of(data), "export failed")

    def _failed(self, points: int, reason: str) -> None:
        self.counts.failed += points
        if not self._has_failed:
            self._has_failed = True
            log.warning("OTLP export failed, retrying", extra={"signal": "metrics", "reason": reason})


def from_environment(
    collect: Collect, *, service: str = "daemonpulse-exporter", environ: Mapping[str, str] = os.environ
) -> MetricPush | None:
    """Make the push that OTEL_* variables describe; None without a receiver for metrics.

    `service` is the service's name where OTEL_SERVICE_NAME gives none.
    """
    is_wanted, protocol = metrics_wanted(environ)
    if not is_wanted:
        return None
    rejections = Rejections("metrics")
    return MetricPush(
        collect,
        _exporter(protocol, rejections, environ),
        resource(service),
        rejected=rejections.take,
        version=metadata.version("daemonpulse"),
        interval_s=milliseconds("OTEL_METRIC_EXPORT_INTERVAL", INTERVAL_MS, environ) / 1000,
        timeout_s=milliseconds("OTEL_METRIC_EXPORT_TIMEOUT", TIMEOUT_MS, environ) / 1000,
    )


def resource(service: str) -> Resource:
    """Describe this service. OTEL_RESOURCE_ATTRIBUTES adds to it, `site=berlin` for a fleet, and wins.

    Prometheus makes `instance` of `service.instance.id`, and boards show that as the host: it is the host's name.
    """
    host = socket.gethostname()
    own = {
        "service.name": service,
        "service.instance.id": host,
        "service.version": metadata.version("daemonpulse"),
        "host.name": host,
    }
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _exporter(protocol: str, rejections: Rejections, environ: Mapping[str, str]) -> MetricExporter:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc

        return Grpc()
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter(session=rejections.session(environ))
