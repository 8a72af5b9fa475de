import json

from exporter.collectors.prediction_metrics import PredictionMetrics, Stream
from exporter.http import live
from exporter.pipeline.log_stream import EventFlow
from exporter.pipeline.predictions import PredictionBuilder
from exporter.pipeline.recent import RecentPredictions
from tests.exporter.pipeline.engine_lines import LAUNCH, NOW, PROMPT, runtime
from tests.exporter.pipeline.predicting import END, one


def stream(flow: EventFlow | None = None) -> Stream:
    flow = flow or EventFlow(PredictionBuilder("local"), [])
    flow.counts.up = True
    return Stream("local", flow, PredictionMetrics("local"), str, RecentPredictions(str))


def test_a_busy_slot_is_a_request_in_flight_with_its_phase_and_no_client() -> None:
    flow = EventFlow(PredictionBuilder("local"), [])
    flow.slots.add(runtime(LAUNCH))
    flow.slots.add(runtime(PROMPT))
    (row,) = live.document([stream(flow)], (), now_s=NOW / 1000 + 2)["in_flight"]
    assert (row["daemon"], row["model"], row["slot"], row["phase"]) == ("local", "m", 0, "prefill")
    assert row["prompt_progress_ratio"] == 0.21
    assert row["last_line_seconds_ago"] == 2
    assert "client" not in row


def test_a_closed_log_stream_says_nothing_of_slots() -> None:
    flow = EventFlow(PredictionBuilder("local"), [])
    flow.slots.add(runtime(LAUNCH))
    closed = stream(flow)
    flow.counts.up = False
    assert live.document([closed], (), now_s=NOW / 1000)["in_flight"] == []


def test_recent_requests_hold_numbers_and_never_content() -> None:
    told = stream()
    told.recent.take_prediction(one("<think>SECRET</think>answer SECRET", predicted_tokens=8))
    document = live.document([told], (), now_s=END / 1000 + 5)
    (row,) = document["recent"]
    assert (row["model"], row["finished_reason"], row["output_tokens"]) == ("m", "stop", 8)
    assert row["finished_seconds_ago"] == 5
    assert "SECRET" not in json.dumps(document)
