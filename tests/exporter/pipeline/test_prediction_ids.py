"""Ids: the same on every replay, different for everything that differs."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.events import (
    LogEvent,
    parse_message,
)
from exporter.pipeline.predictions import (
    PredictionBuilder,
    child_span_id,
)
from exporter.pipeline.segments import Kind
from tests.exporter.pipeline.predicting import END, given_input, given_output, predict

FIXTURES = Path(__file__).parents[2] / "fixtures" / "protocol"


def captured_events() -> list[LogEvent]:
    events: list[LogEvent] = []
    for name in ("10-streamLogs.jsonl", "27-lms-log-stream.jsonl"):
        for line in (FIXTURES / name).read_text().splitlines():
            record = json.loads(line)
            frame = json.loads(record["data"]) if record["dir"] == "s2c" and record["op"] == "text" else {}
            if frame.get("type") == "channelSend":
                events.append(parse_message(json.dumps(frame["message"])))
    return events


def test_captured_stream_yields_its_two_predictions() -> None:
    first, second = predict(*captured_events())
    assert (first.model, first.prompt_tokens, first.predicted_tokens) == ("qwen/qwen3-8b", 13, 12)
    assert [phase.kind for phase in first.phases] == [Kind.REASONING, Kind.ANSWER]
    assert first.paired
    assert second.paired
    assert first.conversation_id != second.conversation_id


def test_replay_gives_the_same_predictions_and_ids() -> None:
    assert predict(*captured_events()) == predict(*captured_events())


def test_another_daemon_gives_other_ids() -> None:
    here = PredictionBuilder("a").add(given_output("x"))
    there = PredictionBuilder("b").add(given_output("x"))
    assert here is not None
    assert there is not None
    assert here.trace_id != there.trace_id


def test_twins_within_one_millisecond_have_their_own_ids() -> None:
    events: list[LogEvent] = [given_input("p"), given_input("p"), given_output("x"), given_output("x")]
    first, second = predict(*events)
    assert first.trace_id != second.trace_id
    assert [p.trace_id for p in predict(*events)] == [first.trace_id, second.trace_id]


any_events = st.lists(
    st.builds(given_input, st.text(max_size=40), st.integers(END, END + 3))
    | st.builds(given_output, st.text(max_size=40), st.integers(END, END + 3)),
    max_size=20,
)


@given(any_events)
def test_ids_are_deterministic_valid_and_distinct(events: list[LogEvent]) -> None:
    predictions = predict(*events)
    assert predictions == predict(*events)
    spans = [p.span_id for p in predictions]
    spans += [child_span_id(p, index) for p in predictions for index in range(3)]
    assert all(0 < span < 2**64 for span in spans)
    assert all(0 < p.trace_id < 2**128 for p in predictions)
    by_ms = {(p.end_ns, p.trace_id) for p in predictions}
    assert len(by_ms) == len({p.trace_id for p in predictions})
