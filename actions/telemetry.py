"""Sends finished operations as spans and audit rows as log records, over OTLP where the environment names a receiver.

Fails open, unlike the audit: a receiver that is down costs its own data and no action. What leaves is what the audit
holds: names, addresses, reasons, parameters, and a tool's arguments where their capture is on. Neither holds a prompt.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from actions.domain.command import Probe
from actions.store.audit import Entry
from actions.store.operations import Operation
from exporter.telemetry import otlp
from exporter.telemetry.batch_queue import BatchQueue, Delivered
from exporter.telemetry.partial_success import Rejections
from exporter.telemetry.spans import SCHEMA

SCOPE: Final = InstrumentationScope("daemonpulse", metadata.version("daemonpulse"), SCHEMA)
CLOSE_S: Final = 4.0
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_NS_PER_MS: Final = 1_000_000

_PHASES: Final = (
    ("load", ("model_load.start",), ("model_load.end",)),
    ("prefill", ("prompt_processing.start",), ("reasoning.delta", "message.delta")),
    ("reasoning", ("reasoning.start",), ("reasoning.end",)),
    ("answer", ("message.start",), ("message.end",)),
)
"""Phases of a probe: name, the event that begins it, the first of the events that end it."""

Attributes = dict[str, str | bool | int | float | Sequence[str]]


@dataclass(slots=True)
class Telemetry:
    """Queues to the receiver. Make it with `from_environment` and `close()` it."""

    resource: Resource
    spans: BatchQueue[ReadableSpan] | None
    logs: BatchQueue[Entry] | None

    def take_operation(self, operation: Operation) -> None:
        """Queue a finished operation."""
        if self.spans is not None:
            for span in build_spans(operation, self.resource):
                self.spans.put(span)

    def take_entry(self, entry: Entry) -> None:
        """Queue an audit row that is on disk."""
        if self.logs is not None:
            self.logs.put(entry, size_bytes=entry.size_bytes)

    @property
    def deliveries(self) -> dict[str, Delivered]:
        """What became of each signal's items."""
        queues: dict[str, BatchQueue[Any] | None] = {"spans": self.spans, "logs": self.logs}
        return {signal: queue.counts for signal, queue in queues.items() if queue is not None}

    def close(self) -> None:
        """Deliver what is left, within CLOSE_S. Blocks."""
        for queue in (self.spans, self.logs):
            if queue is not None:
                queue.close(within_s=CLOSE_S / 2)


def from_environment(environ: Mapping[str, str] = os.environ) -> Telemetry:
    """Make the queues for the signals that have a receiver."""
    not_taken = Rejections("spans"), Rejections("logs")
    spans = otlp.span_exporter(not_taken[0], environ)
    logs = otlp.log_exporter(not_taken[1], environ)
    resource = Resource.create({"service.name": "daemonpulse-actions"})

    def deliver_spans(batch: Sequence[ReadableSpan]) -> bool:
        return spans is not None and spans.export(batch) is SpanExportResult.SUCCESS

    def deliver_logs(batch: Sequence[Entry]) -> bool:
        built = [build_record(entry, resource) for entry in batch]
        return logs is not None and logs.export(built) is LogRecordExportResult.SUCCESS

    return Telemetry(
        resource,
        spans=BatchQueue("action spans", deliver_spans, rejected=not_taken[0].take) if spans else None,
        logs=BatchQueue("audit records", deliver_logs, rejected=not_taken[1].take) if logs else None,
    )


def build_spans(operation: Operation, resource: Resource) -> list[ReadableSpan]:
    """Make the spans of a finished operation, the root first. Ids come from its own, so they can be looked up."""
    command = operation.command
    attributes: Attributes = {
        "daemonpulse.action": command.ACTION,
        "daemonpulse.operation": operation.id,
        "daemonpulse.outcome": operation.state,
        "daemonpulse.actor": operation.actor,
        "daemonpulse.subject": command.subject,
        "llmster.daemon": command.daemon,
    }
    model = getattr(command, "model", None)
    if model is not None:
        attributes["gen_ai.request.model"] = model
    if operation.person is not None:
        attributes["enduser.id"] = operation.person
    failed = operation.problem is not None
    if operation.problem is not None:
        attributes["error.type"] = str(operation.problem["type"]).rpartition(":")[2]
    end_ms = operation.finished_ms if operation.finished_ms is not None else operation.created_ms
    root = ReadableSpan(
        name=f"action {command.ACTION}",
        context=_context(operation, 0),
        resource=resource,
        attributes=attributes,
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR) if failed else Status(StatusCode.UNSET),
        start_time=operation.created_ms * _NS_PER_MS,
        end_time=max(operation.created_ms, end_ms) * _NS_PER_MS,
        instrumentation_scope=SCOPE,
    )
    if not isinstance(command, Probe) or operation.result is None:
        return [root]
    return [root, *_phases(operation, operation.result, root)]


def _phases(operation: Operation, result: Mapping[str, Any], root: ReadableSpan) -> list[ReadableSpan]:
    marks: Mapping[str, float] = result.get("marks_seconds", {})
    started_ns = int(result.get("started_ms", operation.created_ms)) * _NS_PER_MS
    spans: list[ReadableSpan] = []
    for index, (name, begins, ends) in enumerate(_PHASES, start=1):
        begin = min((marks[kind] for kind in begins if kind in marks), default=None)
        end = min((marks[kind] for kind in ends if kind in marks), default=None)
        if begin is None or end is None or end < begin:
            continue
        spans.append(
            ReadableSpan(
                name=name,
                context=_context(operation, index),
                parent=root.context,
                resource=root.resource,
                attributes={"daemonpulse.timing": "exact", "daemonpulse.phase": name},
                kind=SpanKind.INTERNAL,
                status=Status(StatusCode.UNSET),
                start_time=started_ns + round(begin * 1e9),
                end_time=started_ns + round(end * 1e9),
                instrumentation_scope=SCOPE,
            )
        )
    return spans


def build_record(entry: Entry, resource: Resource) -> ReadableLogRecord:
    """Make the log record of an audit row. Its hash leaves with it: a copy elsewhere proves the chain here."""
    denied = entry.kind == "denied"
    attributes: dict[str, str | int] = {
        "daemonpulse.audit.seq": entry.seq,
        "daemonpulse.audit.kind": entry.kind,
        "daemonpulse.audit.hash": entry.hash,
        "daemonpulse.action": entry.action,
        "daemonpulse.subject": entry.subject,
        "daemonpulse.actor": entry.actor,
    }
    optional = {
        "daemonpulse.operation": entry.operation,
        "enduser.id": entry.person,
        "client.address": entry.address,
    }
    attributes.update({key: value for key, value in optional.items() if value is not None})
    trace = _trace_id(entry.operation) if entry.operation is not None else None
    return ReadableLogRecord(
        LogRecord(
            timestamp=entry.at_ms * _NS_PER_MS,
            trace_id=trace,
            span_id=_span_id(entry.operation, 0) if entry.operation is not None else None,
            trace_flags=_SAMPLED if trace is not None else None,
            severity_text="WARN" if denied else "INFO",
            severity_number=SeverityNumber.WARN if denied else SeverityNumber.INFO,
            body=json.dumps(
                {"kind": entry.kind, "action": entry.action, "subject": entry.subject, **entry.detail}
            ),
            attributes=attributes,
        ),
        resource,
        SCOPE,
    )


def _context(operation: Operation, index: int) -> SpanContext:
    return SpanContext(
        _trace_id(operation.id), _span_id(operation.id, index), is_remote=False, trace_flags=_SAMPLED
    )


def _trace_id(operation_id: str) -> int:
    return _number(f"trace {operation_id}", 16)


def _span_id(operation_id: str, index: int) -> int:
    return _number(f"span {operation_id} {index}", 8)


def _number(text: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size], "big") or 1
