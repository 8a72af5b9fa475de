"""What an event costs on its whole way: parsed, paired, split, counted, and sent as spans; and what memory it leaves.

Run as `python -m tests.benchmarks.bench_pulse`. CPU time of this process, beside two floors of the same run: msgspec
decoding alone, and the OpenTelemetry SDK emitting as many spans from a loop. Prints; judges nothing.
"""

import argparse
import itertools
import time
from collections.abc import Sequence

import msgspec
import psutil
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from exporter.collectors.tally import PredictionTally
from exporter.llmster.events import parse
from exporter.pipeline.predictions import Prediction, PredictionBuilder
from exporter.pipeline.tailer import EventFlow
from exporter.telemetry.content import Capture
from exporter.telemetry.pump import Pump
from exporter.telemetry.spans import SpanSink, build
from tests.benchmarks.bench_events import prediction_lines

RESOURCE = Resource({"service.name": "llmster"})


def flow(*, keep_content: bool = False, sinks: Sequence[object] = ()) -> EventFlow:
    builder = PredictionBuilder(
        "box", context_length=lambda _: 8192, keep_content=keep_content, identify=bool(sinks)
    )
    return EventFlow(builder, [PredictionTally("box", exemplars=bool(sinks)), *sinks])  # type: ignore[list-item]


def cpu_s(work: object) -> float:
    started = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - started


def metrics_only(lines: list[bytes]) -> None:
    taken = flow()
    for line in lines:
        taken.take(parse(line))


class Encoding(SpanExporter):
    """The receiver of the floor: encodes as the OTLP exporter does, and sends nowhere."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def with_spans(lines: list[bytes], capture: Capture) -> tuple[float, int]:
    """CPU seconds for metrics, spans with content, and their encoding; and the number of spans."""
    spans = 0

    def deliver(batch: Sequence[Prediction]) -> bool:
        nonlocal spans
        built = [span for prediction in batch for span in build(prediction, lambda _: RESOURCE, capture)]
        encode_spans(built).SerializeToString()
        spans += len(built)
        return True

    started = time.process_time()
    pump: Pump[Prediction] = Pump("spans", deliver, batch=128, max_items=10**9, max_bytes=10**12)
    taken = flow(keep_content=capture is not Capture.OFF, sinks=[SpanSink(pump)])
    for line in lines:
        taken.take(parse(line))
    pump.wait_until_empty(within_s=600)
    pump.close(within_s=1)
    return time.process_time() - started, spans


def sdk_floor(count: int) -> float:
    """CPU seconds of the SDK for as many spans with a handful of attributes, encoded in the same batches."""
    provider = TracerProvider(resource=RESOURCE)
    batch: list[ReadableSpan] = []

    class Batching(Encoding):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            batch.extend(spans)
            if len(batch) >= 512:
                super().export(batch)
                batch.clear()
            return SpanExportResult.SUCCESS

    provider.add_span_processor(SimpleSpanProcessor(Batching()))
    tracer = provider.get_tracer("floor")
    attributes = {f"attribute.{number}": f"value {number}" for number in range(12)} | {"content": "x" * 2000}
    started = time.process_time()
    for _ in range(count):
        tracer.start_span("chat", attributes=attributes).end()
    return time.process_time() - started


def memory(events: int) -> None:
    """RSS while many events go through; flat is what matters."""
    process = psutil.Process()
    lines = prediction_lines(1_000)  # few, because they stay in memory and are not what is measured
    taken = flow()
    before = process.memory_info().rss / 1e6
    print(f"memory, start                      {before:7.1f} MB (this benchmark and its libraries)")
    for number, line in enumerate(itertools.islice(itertools.cycle(lines), events), start=1):
        taken.take(parse(line))
        if number % (events // 5) == 0:
            rss = process.memory_info().rss / 1e6
            print(f"memory, {number:>9,} events          {rss:7.1f} MB (goal < 90 MB and flat)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--events", type=int, default=1_000_000, help="events of the memory run; 0 leaves it out"
    )
    chosen = parser.parse_args()
    if chosen.events:
        memory(chosen.events)
    lines = prediction_lines(10_000)
    floor, ours = float("inf"), float("inf")
    for _ in range(3):
        floor = min(floor, cpu_s(lambda: [msgspec.json.decode(line) for line in lines]))
        ours = min(ours, cpu_s(lambda: metrics_only(lines)))
    count = len(lines)
    print(f"floor: msgspec decode              {count / floor:10,.0f} events per CPU-second")
    print(
        f"metrics only, 4 KB outputs         {count / ours:10,.0f} events per CPU-second   "
        f"{ours / floor:.1f}x the floor (goal >= 20,000 per second)"
    )
    for capture in (Capture.OFF, Capture.FULL):
        spent, spans = with_spans(lines, capture)
        sdk = sdk_floor(spans)
        print(
            f"with spans, capture {capture.value:<5}          {count / 2 / spent:10,.0f} predictions per CPU-second   "
            f"{spans / (count / 2):.1f} spans each; SDK alone for those spans {count / 2 / sdk:,.0f} per CPU-second"
            f"{' (goal >= 3,000)' if capture is Capture.FULL else ''}"
        )


if __name__ == "__main__":
    main()
