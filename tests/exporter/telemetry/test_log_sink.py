"""Log records wait for a slow receiver with what may leave, and with nothing else."""

import threading
import tracemalloc
from collections.abc import Callable

import pytest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource

from exporter.llmster.events import PredictionInput, PredictionOutput, PredictionStats, RuntimeLog, ServerLog
from exporter.pipeline.predictions import PredictionBuilder
from exporter.telemetry.batch_queue import BatchQueue
from exporter.telemetry.content import Capture
from exporter.telemetry.log_sink import LogSink

MEGABYTE = 1024 * 1024
BUILT = list[ReadableLogRecord]


def grown_by(take: Callable[[LogSink, int], None], capture: Capture) -> tuple[int, BUILT]:
    """Let a sink take 20 items while the receiver is slow; return how much memory they hold, and their records."""
    go_on = threading.Event()
    built: BUILT = []

    def deliver(items: object) -> bool:
        assert isinstance(items, list)
        go_on.wait(20)
        built.extend(make() for make in items)
        return True

    queue: BatchQueue[Callable[[], ReadableLogRecord]] = BatchQueue("logs", deliver)
    sink = LogSink("box", queue, lambda _: Resource({}), capture)
    tracemalloc.start()
    try:
        for number in range(20):
            take(sink, number)
        return tracemalloc.get_traced_memory()[0], built
    finally:
        tracemalloc.stop()
        go_on.set()
        assert queue.wait_until_empty(within_s=20)
        queue.close(within_s=0)


@pytest.mark.parametrize("kind", ["server", "runtime"])
def test_a_queue_of_log_lines_holds_none_of_what_is_withheld(kind: str) -> None:
    def take(sink: LogSink, number: int) -> None:
        text = f"{number} " + "x" * MEGABYTE
        sink.take_log(
            ServerLog(1000, "info", text)
            if kind == "server"
            else RuntimeLog(1000, "info", text, "llama.cpp", "2", "llama.cpp", "qwen", "ref", 7)
        )

    grown, built = grown_by(take, Capture.OFF)
    assert grown < MEGABYTE
    assert len(built) == 20
    assert {record.log_record.severity_text for record in built} == {"INFO"}
    assert all("withheld" in str(record.log_record.body) for record in built)


def test_a_queue_of_captured_outputs_holds_no_prompts_and_nothing_that_was_cut() -> None:
    builder = PredictionBuilder("box", keep_content=True)

    def take(sink: LogSink, number: int) -> None:
        builder.add(PredictionInput(1000 + number, "qwen", "path", f"{number} " + "p" * MEGABYTE))
        made = builder.add(PredictionOutput(1000 + number, "qwen", f"{number} " + "o" * MEGABYTE, None))
        assert made is not None
        assert made.prompt is not None
        sink.take_prediction(made)

    grown, built = grown_by(take, Capture.FULL)
    assert grown < 8 * MEGABYTE
    assert len(built) == 20
    assert all(record.log_record.trace_id for record in built)


def test_every_prediction_has_a_record_that_leads_to_its_trace_and_tells_no_content() -> None:
    builder = PredictionBuilder("box", keep_content=True)
    stats = PredictionStats(
        stop_reason="eosFound",
        tokens_per_second=50.0,
        time_to_first_token_s=0.25,
        prompt_tokens=90,
        predicted_tokens=100,
    )
    made = []

    def take(sink: LogSink, number: int) -> None:
        builder.add(PredictionInput(1000 + number, "qwen", "path", f"SECRET {number}"))
        prediction = builder.add(PredictionOutput(9000 + number, "qwen", f"SECRET {number}", stats))
        assert prediction is not None
        made.append(prediction)
        sink.take_prediction(prediction)

    _, built = grown_by(take, Capture.OFF)
    records = [one.log_record for one in built]
    assert [record.trace_id for record in records] == [prediction.trace_id for prediction in made]
    assert all(record.trace_id and record.span_id for record in records)
    assert [*{record.body for record in records}] == [
        "prediction finished finished_reason=stop prompt_tokens=90 generation_tokens=100 ttft_seconds=0.25 seconds=2.25"
    ]
