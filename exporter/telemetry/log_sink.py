"""Log events as OTLP log records, and one record per prediction that leads to its trace.

content.py decides what a body may contain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import TraceFlags

from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.pipeline.predictions import Prediction
from exporter.telemetry import content
from exporter.telemetry.batch_queue import BatchQueue
from exporter.telemetry.content import Capture
from exporter.telemetry.spans import SCOPE

_SEVERITY: Final[Mapping[str, SeverityNumber]] = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warn": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
}
_NS_PER_MS: Final = 1_000_000


class LogSink:
    """Hands log events of one daemon, and captured content, to the queue; records are built by its worker."""

    name = "logs"

    def __init__(
        self,
        daemon: str,
        queue: BatchQueue[Callable[[], ReadableLogRecord]],
        resource: Callable[[str], Resource],
        capture: Capture,
        *,
        of_predictions: Capture | None = None,
    ) -> None:
        """`capture` is for log lines, `of_predictions` for what models wrote; None: the same."""
        self._daemon = daemon
        self._queue = queue
        self._resource = resource
        self._capture = capture
        self._of_predictions = capture if of_predictions is None else of_predictions

    def take_log(self, event: ServerLog | RuntimeLog) -> None:
        """Queue a log line: of its text, only what may leave is kept in the queue."""
        body = content.log_body(event, self._capture)
        rest = replace(event, **{"content" if isinstance(event, ServerLog) else "message": ""})
        self._queue.put(lambda: self._record(rest, body), size_bytes=len(body))

    def take_prediction(self, prediction: Prediction) -> None:
        """Queue how a prediction ended or, where capture is on, its whole output: spans only carry the beginning."""
        capture = self._of_predictions
        if capture is not Capture.OFF and prediction.output is not None:
            body = content.cut(content.prepared(prediction.output, capture), content.BODY_BYTES)
        else:
            body = summary(prediction)
        # The body is all that is counted, so the queue must not hold the prompt and the output as well.
        rest = replace(prediction, prompt=None, output=None)
        self._queue.put(lambda: self._prediction_record(rest, body), size_bytes=len(body))

    def _record(self, event: ServerLog | RuntimeLog, body: str) -> ReadableLogRecord:
        attributes: dict[str, str | int] = {"llmster.daemon": self._daemon}
        if isinstance(event, RuntimeLog):
            attributes["llmster.log"] = "runtime"
            attributes["llmster.engine"] = event.engine_name
            attributes["llmster.engine.version"] = event.engine_version
            if event.model is not None:
                attributes["llmster.instance_id"] = event.model
            if event.pid is not None:
                attributes["process.pid"] = event.pid
        else:
            attributes["llmster.log"] = "server"
        return ReadableLogRecord(
            LogRecord(
                timestamp=event.timestamp_ms * _NS_PER_MS,
                severity_text=event.level.upper(),
                severity_number=_SEVERITY.get(event.level, SeverityNumber.UNSPECIFIED),
                body=body,
                attributes=attributes,
            ),
            self._resource(self._daemon),
            SCOPE,
        )

    def _prediction_record(self, prediction: Prediction, body: str) -> ReadableLogRecord:
        return ReadableLogRecord(
            LogRecord(
                timestamp=prediction.end_ns,
                trace_id=prediction.trace_id,
                span_id=prediction.span_id,
                trace_flags=TraceFlags(TraceFlags.SAMPLED if prediction.trace_id else TraceFlags.DEFAULT),
                severity_text="INFO",
                severity_number=SeverityNumber.INFO,
                body=body,
                attributes={
                    "llmster.daemon": self._daemon,
                    "llmster.instance_id": prediction.model,
                    "llmster.log": "prediction",
                },
            ),
            self._resource(self._daemon),
            SCOPE,
        )


def summary(prediction: Prediction) -> str:
    """Tell of a prediction by counts and times: nothing of what was asked or answered."""
    told = {
        "finished_reason": prediction.finished_reason.value,
        "prompt_tokens": prediction.prompt_tokens,
        "generation_tokens": prediction.predicted_tokens,
        "ttft_seconds": _rounded(prediction.time_to_first_token_s),
        "reasoning_seconds": _rounded(prediction.reasoning_s),
        "seconds": _rounded(prediction.duration_s),
    }
    return " ".join(
        ["prediction finished", *(f"{key}={value}" for key, value in told.items() if value is not None)]
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
