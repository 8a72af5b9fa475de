"""What an event costs on its whole way: parsed, paired, split, counted, and sent as spans; and what memory it leaves.

Run as `python -m tests.benchmarks ingest spans memory`. CPU time of this process, beside two floors of the same run:
msgspec decoding alone, and the OpenTelemetry SDK emitting as many spans from a loop. Judges nothing.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import psutil
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from exporter.collectors.prediction_metrics import PredictionMetrics
from exporter.llmster.events import parse
from exporter.pipeline.log_stream import EventFlow, Sink
from exporter.pipeline.predictions import Prediction, PredictionBuilder
from exporter.telemetry.batch_queue import BatchQueue
from exporter.telemetry.content import Capture
from exporter.telemetry.otlp import resource
from exporter.telemetry.spans import SpanSink, Style, build
from tests.benchmarks.bench_events import prediction_lines
from tests.benchmarks.processes import best_of
from tests.benchmarks.table import Row

RESOURCE = resource(daemon="box", version="0.4.24")
DECODING = "msgspec decodes the same"


def flow(*, keep_content: bool = False, sinks: Sequence[Sink] = ()) -> EventFlow:
    builder = PredictionBuilder(
        "box", context_length=lambda _: 8192, keep_content=keep_content, identify=bool(sinks)
    )
    return EventFlow(builder, [PredictionMetrics("box", exemplars=bool(sinks)), *sinks])


def rows(*, quick: bool) -> Iterator[Row]:
    """From a line of the log stream to counters, and its first step by itself. Inputs and outputs of 4 KB in turn."""
    lines = prediction_lines(100 if quick else 10_000)
    floor_s, parse_s, whole_s = best_of(
        1 if quick else 5,
        lambda: [msgspec.json.decode(line) for line in lines],
        lambda: [parse(line) for line in lines],
        lambda: count(lines),
    )
    for what, took_s, goal in (
        ("events parsed", parse_s, None),
        ("events parsed, paired, split, counted", whole_s, 20_000),
    ):
        yield Row(
            what=what,
            ours=len(lines) / took_s,
            unit="/CPU-s",
            against=DECODING,
            floor=len(lines) / floor_s,
            goal=goal,
        )


def count(lines: Sequence[bytes]) -> None:
    taken = flow()
    for line in lines:
        taken.take(parse(line))


def span_rows(*, quick: bool) -> Iterator[Row]:
    """The same with a span per request and phase, encoded; beside the SDK making and encoding as many."""
    lines = prediction_lines(100 if quick else 10_000)
    predictions = len(lines) / 2
    for capture, goal in ((Capture.OFF, None), (Capture.FULL, 3000)):
        spans = with_spans(lines[:100], capture) * len(lines) // 100
        floor_s, ours_s = best_of(
            1 if quick else 3,
            lambda spans=spans: sdk_floor(spans),  # type: ignore[misc]
            lambda capture=capture: with_spans(lines, capture),  # type: ignore[misc]
        )
        yield Row(
            what=f"predictions as spans, capture {capture.value}, encoded",
            ours=predictions / ours_s,
            unit="/CPU-s",
            against=f"OTel SDK, {spans / predictions:.1f} spans each",
            floor=predictions / floor_s,
            goal=goal,
        )


def with_spans(lines: Sequence[bytes], capture: Capture) -> int:
    """Take events to metrics, spans and their encoding; returns the number of spans."""
    spans = 0

    def deliver(batch: Sequence[Prediction]) -> bool:
        nonlocal spans
        built = [
            span for prediction in batch for span in build(prediction, lambda _: RESOURCE, Style(capture))
        ]
        encode_spans(built).SerializeToString()
        spans += len(built)
        return True

    queue: BatchQueue[Any] = BatchQueue("spans", deliver, batch=128, max_items=10**9, max_bytes=10**12)
    taken = flow(keep_content=capture is not Capture.OFF, sinks=[SpanSink(queue)])
    for line in lines:
        taken.take(parse(line))
    assert queue.wait_until_empty(within_s=600)
    queue.close(within_s=1)
    return spans


class Batching(SpanExporter):
    """The receiver of the floor: encodes as the OTLP exporter does, in batches of its size, and sends nowhere."""

    def __init__(self) -> None:
        self._batch: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._batch.extend(spans)
        if len(self._batch) >= 512:
            encode_spans(self._batch).SerializeToString()
            self._batch.clear()
        return SpanExportResult.SUCCESS


def sdk_floor(spans: int) -> None:
    """Let the SDK make as many spans, with a handful of attributes."""
    provider = TracerProvider(resource=Resource({"service.name": "llmster"}))  # its own, not ours
    provider.add_span_processor(SimpleSpanProcessor(Batching()))
    tracer = provider.get_tracer("floor")
    attributes = {f"attribute.{number}": f"value {number}" for number in range(12)} | {"content": "x" * 2000}
    for _ in range(spans):
        tracer.start_span("chat", attributes=attributes).end()


def memory_rows(*, quick: bool) -> Iterator[Row]:
    """What stays of many events: flat is what matters."""
    events = 5_000 if quick else 1_000_000
    process = psutil.Process()
    lines = prediction_lines(1_000)  # few, because they stay in memory and are not what is measured
    taken = flow()
    sizes: list[float] = []
    for number, line in enumerate(itertools.islice(itertools.cycle(lines), events), start=1):
        taken.take(parse(line))
        if number % (events // 5) == 0:
            sizes.append(process.memory_info().rss / 1e6)
    yield Row(
        what=f"memory after {events:,} events",
        ours=sizes[-1],
        unit="MB",
        against=f"after {events // 5:,}",
        floor=sizes[0],
        ratio_goal=1.05,
    )
