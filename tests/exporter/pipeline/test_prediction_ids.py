"""Ids: the same on every replay, another for every prediction, and nothing of its text in them."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

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
    (0x62CCFACD47213C6ACB3F1FD14B8762A2, 0x9B3F86E6238F3643, 0x4DCE35147B010509),
    (0x6B0A79494787AF3061C52178FB01CA9D, 0x842D551F71D68BAC, 0x1DE75503307CDF05),
    (0x164BC2DA05F3A7485C17EB85260155A2, 0x52E8AC9CFF7F4679, 0x97D76673914D2F25),
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


def test_text_has_no_part_in_ids() -> None:
    """An id made of text would confirm a guess of it to everyone who reads the trace."""
    (mine,), (theirs,) = (predict(given_input(p), given_output(o)) for p, o in (("p", "yes"), ("q", "no!")))
    assert (mine.trace_id, mine.span_id, mine.conversation_id) == (
        theirs.trace_id,
        theirs.span_id,
        theirs.conversation_id,
    )


def test_other_measurements_give_other_ids() -> None:
    """Two boxes whose daemons have one name may end a prediction in the same millisecond."""
    here, there = given_output("x"), given_output("x")
    assert here.stats is not None
    there = replace(there, stats=replace(here.stats, tokens_per_second=12.5000001))
    (mine,), (theirs,) = predict(here), predict(there)
    assert mine.trace_id != theirs.trace_id


def test_ids_are_the_same_in_every_version() -> None:
    """Who replays a recording into a store of traces again must not double them."""
    events: list[LogEvent] = [given_input("p"), given_output("x"), given_output("x"), given_output("x")]
    found = predict(*events)
    assert [(p.trace_id, p.span_id, child_span_id(p, 1)) for p in found] == GOLDEN
    assert [p.conversation_id for p in found] == ["671d071d586ae5f0", None, None]


def test_only_twins_of_the_same_millisecond_are_remembered() -> None:
    builder = PredictionBuilder("local")
    for number in range(100):
        builder.add(given_output("x", END + number))
        builder.add(given_output("y", END + number))
    assert len(builder._same) == 1


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
