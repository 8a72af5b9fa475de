"""Composes what reads the taps: per daemon that has one a reader, the claims on the log stream, and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

from exporter.collectors.client_metrics import ClientMetrics, Tap
from exporter.collectors.prediction_metrics import Stream
from exporter.pipeline.operations import Operation, ids_of
from exporter.pipeline.predictions import Prediction
from exporter.settings import DaemonSettings
from exporter.shared.live_token import LiveToken
from exporter.tap.claims import Claims
from exporter.tap.reader import TapReader
from exporter.tap.report import Report
from exporter.tap.routes import OPERATIONS


def taps_of(
    daemons: Sequence[DaemonSettings],
    streams: Sequence[Stream],
    *,
    live_token: LiveToken | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Tap, ...]:
    """Make the readers of all taps; their run() is the owner's to start."""
    by_daemon = {stream.daemon: stream for stream in streams}
    return tuple(
        _tap(daemon.name, daemon.tap_url, by_daemon.get(daemon.name), live_token, clock)
        for daemon in daemons
        if daemon.tap_url is not None
    )


def _tap(
    daemon: str, url: str, stream: Stream | None, live_token: LiveToken | None, clock: Callable[[], float]
) -> Tap:
    """Join one tap with its daemon's log stream, if that is read."""
    model_key = stream.model_key if stream is not None else _itself
    metrics = ClientMetrics(daemon, model_key=model_key)
    claims = Claims(
        daemon,
        emit=stream.flow.hand_out if stream is not None else _nowhere,
        settled=metrics.settle,
        estimate_error=metrics.estimate_error,
        clock=clock,
        model_key=model_key,
    )

    def take(report: Report) -> None:
        metrics.take_report(report)
        if stream is not None and stream.take_operation is not None and report.is_sampled:
            operation = _operation(daemon, report)
            if operation is not None:
                stream.take_operation(operation)
        if report.is_prediction:
            claims.take_report(report)

    reader = TapReader(daemon, url, take=take, tick=claims.expire, live_token=live_token, clock=clock)
    if stream is not None:
        stream.flow.claim = lambda prediction: claims.take_logged(prediction, tap_is_up=reader.is_up)
    return Tap(daemon, reader, claims, metrics)


def _operation(daemon: str, report: Report) -> Operation | None:
    """Describe a request that wrote no text, if it is one."""
    name = OPERATIONS.get(report.route)
    if name is None or report.method != "POST":
        return None
    trace_id, span_id = ids_of(daemon, report.id, report.start_ns)
    failed = report.status is None or report.status >= HTTPStatus.BAD_REQUEST
    return Operation(
        daemon=daemon,
        name=name,
        model=report.model,
        start_ns=report.start_ns,
        end_ns=report.end_ns,
        trace_id=int(report.trace_id, 16) if report.trace_id else trace_id,
        span_id=span_id,
        parent_span_id=int(report.parent_id, 16) if report.parent_id else None,
        input_tokens=report.usage.input,
        error=report.error or (str(report.status or "no_answer") if failed else None),
        client=report.client,
    )


def _itself(identifier: str) -> str:
    return identifier


def _nowhere(_prediction: Prediction) -> None:
    """Without log streams nothing takes predictions."""
