"""Ids: the same on every replay, different for everything that differs."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.events import (
    LogEvent,
    parse_message,
)
from exporter.pipeline.output.segments import Kind
from exporter.pipeline.predictions import (
    PredictionBuilder,
    child_span_id,
)
from tests.exporter.pipeline.predicting import END, given_input, given_output, predict

FIXTURES = Path(__file__).parents[2] / "fixtures" / "protocol"

GOLDEN = [
    (0x8D5B05D90BB9CAA96150BB7BBDB18EE0, 0xC337412EB731692F, 0xD5586D180C20C835),
    (0xDE66FC1C5287CE5CA2112432D354BCEA, 0x44025C975FAFB9A8, 0x53EE141585859ACE),
    (0xD06E743A029DB4F90D590A48133DE8C6, 0x3F960AEF3607A5F1, 0x3CDB0BEC78441461),
]


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


def test_another_prompt_gives_other_ids() -> None:
    (mine,), (theirs,) = (predict(given_input(prompt), given_output("x")) for prompt in ("p", "q"))
    assert mine.trace_id != theirs.trace_id


def test_ids_are_the_same_in_every_version() -> None:
    """Who replays a recording into a store of traces again must not double them."""
    events: list[LogEvent] = [given_input("p"), given_output("x"), given_output("x"), given_output("x")]
    assert [(p.trace_id, p.span_id, child_span_id(p, 1)) for p in predict(*events)] == GOLDEN


def test_only_twins_of_the_same_millisecond_are_remembered() -> None:
    builder = PredictionBuilder("local")
    for number in range(100):
        builder.add(given_output("x", END + number))
        builder.add(given_output("y", END + number))
    assert len(builder._same) == 2


def test_half_a_character_is_hashed_as_well() -> None:
    half = "\ud83d"
    paired, alone = predict(
        given_input(half, model=half), given_output(half, model=half), given_output(half, model=half)
    )
    assert paired.trace_id != alone.trace_id


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
