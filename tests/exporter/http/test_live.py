import json
from collections import Counter

import pytest
from msgspec import structs

from exporter.collectors.client_metrics import ClientMetrics, Tap
from exporter.collectors.prediction_metrics import PredictionMetrics, Stream
from exporter.http import live
from exporter.pipeline.log_stream import EventFlow
from exporter.pipeline.predictions import PredictionBuilder
from exporter.pipeline.recent import RecentPredictions
from exporter.shared.live_token import LiveToken
from exporter.tap.claims import Claims
from exporter.tap.reader import TapReader
from exporter.tap.report import Batch, Live
from tests.exporter.pipeline.engine_lines import DECODE, LAUNCH, NOW, PROMPT, runtime
from tests.exporter.pipeline.predicting import END, given_input, given_output, one, predict


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


def ignore(*_: object) -> None:
    pass


def a_tap(*requests: Live, running: dict[str, int] | None = None, shows_text: bool = False) -> Tap:
    token = LiveToken("t" * 32) if shows_text else None
    reader = TapReader("local", "http://127.0.0.1:1", take=ignore, tick=ignore, clock=float, live_token=token)
    reader._boot, reader._fetched_at = "b", 0.0
    counted = Counter(one.client for one in requests) if running is None else running
    reader._latest = Batch(
        boot="b", next_id=1, missed=0, reports=(), live=requests, running=counted, counts={}
    )
    return Tap(
        "local",
        reader,
        Claims("local", emit=ignore, settled=ignore, estimate_error=ignore, clock=float),
        ClientMetrics("local"),
    )


def a_request(phase: str) -> Live:
    return Live(
        id=1, client="ci", route="/v1/chat/completions", model="m", phase=phase, tokens=0, tokens_per_s=None,
        elapsed_s=1.0, start_ns=0,
    )  # fmt: skip


def busy_slots() -> Stream:
    """Slot 0 is in its prompt, slot 1 has only begun."""
    flow = EventFlow(PredictionBuilder("local"), [])
    for line in (LAUNCH, PROMPT, LAUNCH.replace("id  0 | task 316", "id  1 | task 317")):
        flow.slots.add(runtime(line))
    return stream(flow)


def rows_of(tap: Tap) -> list[tuple[str | None, int | None]]:
    rows = live.document([busy_slots()], [tap], now_s=NOW / 1000 + 2)["in_flight"]
    return [(row.get("client"), row.get("slot")) for row in rows]


def test_a_request_past_the_tap_is_shown_by_its_slot() -> None:
    assert rows_of(a_tap(a_request("prefill"))) == [("ci", None), (None, 1)]
    assert rows_of(a_tap(a_request("answer"))) == [("ci", None), (None, 0)]


def test_no_request_of_the_tap_is_shown_again_by_a_slot() -> None:
    assert rows_of(a_tap(a_request("prefill"), a_request("answer"))) == [("ci", None), ("ci", None)]
    assert rows_of(a_tap(a_request("prefill"), running={"ci": 5})) == [("ci", None)], "the list was cut"


def test_all_requests_past_an_idle_tap_are_shown() -> None:
    assert rows_of(a_tap()) == [(None, 0), (None, 1)]


def test_every_member_of_a_row_is_named_as_documented() -> None:
    told = stream()
    told.recent.take_prediction(one("<think>a</think>b", predicted_tokens=8))
    tap = a_tap(a_request("answer"))
    (recent,) = live.document([told], [tap], now_s=0.0)["recent"]
    assert recent == {
        "daemon": "local",
        "model": "m",
        "client": None,
        "finished_reason": "stop",
        "finished_seconds_ago": 0.0,  # its clock is ahead of ours
        "elapsed_seconds": recent["elapsed_seconds"],
        "time_to_first_token_seconds": recent["time_to_first_token_seconds"],
        "tokens_per_second": recent["tokens_per_second"],
        "prompt_tokens": recent["prompt_tokens"],
        "output_tokens": 8,
        "reasoning_ratio": recent["reasoning_ratio"],
    }
    (row,) = live.document([], [tap], now_s=0.0)["in_flight"]
    assert row == {
        "daemon": "local",
        "request": "b-1",
        "has_text": False,
        "model": "m",
        "client": "ci",
        "phase": "answer",
        "elapsed_seconds": 1.0,
        "output_tokens": 0,
        "tokens_per_second": None,
    }
    slot = live.document([busy_slots()], (), now_s=0.0)["in_flight"][0]
    assert slot == {
        "daemon": "local",
        "model": "m",
        "instance_id": "m",
        "slot": 0,
        "phase": "prefill",
        "prompt_progress_ratio": 0.21,
        "tokens_per_second": slot["tokens_per_second"],
        "last_line_seconds_ago": 0.0,
    }


def test_a_request_has_text_where_its_tap_shows_texts_and_its_route_has_one() -> None:
    chat = a_request("answer")
    requests = (chat, structs.replace(chat, id=2, route="/v1/embeddings"))
    for shows_text, expected in ((False, [False, False]), (True, [True, False])):
        tap = a_tap(*requests, shows_text=shows_text)
        assert [row["has_text"] for row in live.document([], [tap], now_s=0.0)["in_flight"]] == expected


def test_the_latest_two_hundred_requests_of_all_daemons_are_shown_latest_first() -> None:
    told = [stream() for _ in range(5)]
    for number in range(50):
        for place, each in enumerate(told):
            at_ms = END + 5 * number + place
            (prediction,) = predict(given_input("hi", at_ms), given_output("x", at_ms))
            each.recent.take_prediction(prediction)
    rows = live.document(told, (), now_s=END / 1000)["recent"]
    assert len(rows) == 200
    ages = [row["finished_seconds_ago"] for row in live.document(told, (), now_s=END / 1000 + 9)["recent"]]
    assert ages == sorted(ages)
    assert max(ages) == pytest.approx(9 - 0.05), "the oldest fifty are left out"


def test_a_slot_is_running_until_its_engine_logs_progress_and_decoding_after_its_prompt() -> None:
    def phase(*lines: str) -> str:
        flow = EventFlow(PredictionBuilder("local"), [])
        for line in lines:
            flow.slots.add(runtime(line))
        (row,) = live.document([stream(flow)], (), now_s=NOW / 1000)["in_flight"]
        return str(row["phase"])

    assert phase(LAUNCH) == "running"
    assert phase(LAUNCH, PROMPT.replace("0.21", "1.00")) in {"running", "decode"}
    assert phase(LAUNCH, PROMPT) == "prefill"
    assert phase(LAUNCH, PROMPT.replace("0.21", "1.00"), DECODE) == "decode"


def test_of_two_slots_the_one_of_the_requests_model_is_left_out() -> None:
    flow = EventFlow(PredictionBuilder("local"), [])
    flow.slots.add(runtime(LAUNCH, model="other"))
    flow.slots.add(runtime(LAUNCH, model="m"))
    rows = live.document([stream(flow)], [a_tap(a_request("answer"))], now_s=NOW / 1000)["in_flight"]
    assert [(row.get("client"), row["model"]) for row in rows] == [("ci", "m"), (None, "other")]
