"""One prediction of two reports: counts stay the daemon's, and times, client and trace are the tap's."""

from typing import Any

import msgspec
import pytest

from exporter.pipeline.output.segments import Kind
from exporter.pipeline.phases import Phase
from exporter.pipeline.predictions import FinishedReason, Prediction, Timing
from exporter.tap.merge import alone, estimated_share, merged
from exporter.tap.report import PhaseMark, Report, Usage
from exporter.tap.routes import PREDICT
from tests.exporter.tap.test_claims import MODEL, NS, START_NS, logged, tapped

TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "parent_id": "b7ad6b7169203331"}
TRACE_ID, PARENT_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


def changed(prediction: Prediction, report: Report) -> dict[str, Any]:
    """List what the report changed."""
    before, after = msgspec.structs.asdict(prediction), msgspec.structs.asdict(merged(prediction, report))
    return {name: value for name, value in after.items() if value != before[name]}


def test_of_an_answer_in_one_piece_the_client_is_all_that_the_tap_adds() -> None:
    assert changed(logged(), tapped(ttft_s=None, phases=())) == {"client": "ci"}


def test_phases_are_the_taps_only_where_both_saw_the_same_ones() -> None:
    other = (PhaseMark(Kind.ANSWER, 0.6, 2.2, 30, 400),)
    assert changed(logged(), tapped(phases=other)) == {"client": "ci"}
    assert changed(logged(phases=()), tapped()) == {"client": "ci"}
    both = merged(logged(), tapped())
    assert both.timing is Timing.EXACT
    assert (both.start_ns, both.end_ns) == (START_NS - NS // 10, START_NS + 21 * NS // 10)
    assert both.first_token_ns == START_NS + NS // 2
    assert (both.time_to_first_token_s, both.decode_s, both.tokens_per_second) == (0.5, 1.5, 20.0)


def test_phases_of_the_tap_keep_where_their_text_lies_and_which_tools_it_names() -> None:
    marks = (PhaseMark(Kind.REASONING, 0.6, 1.1, 10, 100), PhaseMark(Kind.TOOL_CALL, 1.1, 2.1, 30, 300))
    phases = (
        Phase(Kind.REASONING, 0.5, 0.0, 0.4, 7, 107),
        Phase(Kind.TOOL_CALL, 0.5, 0.4, 1.1, 115, 415, ("f",)),
    )
    both = merged(logged(phases=phases), tapped(phases=marks))
    reasoning, call = both.phases
    assert (reasoning.kind, reasoning.share, reasoning.start_char, reasoning.end_char) == (
        "reasoning", 0.25, 7, 107,
    )  # fmt: skip
    assert (call.kind, call.share, call.start_char, call.end_char) == ("tool_call", 0.75, 115, 415)
    assert (reasoning.tools, call.tools) == ((), ("f",))
    assert [reasoning.offset_s, call.offset_s] == pytest.approx([0.0, 0.5])
    assert [reasoning.duration_s, call.duration_s] == pytest.approx([0.5, 1.0])
    assert both.reasoning_s == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("prompt", "predicted", "expected"),
    [(None, None, (3, 12)), (10, None, (10, None)), (None, 30, (None, 30)), (10, 30, (10, 30))],
)
def test_the_answers_counts_stand_in_only_where_the_log_has_none_at_all(
    prompt: int | None, predicted: int | None, expected: tuple[int | None, int | None]
) -> None:
    of_log = logged(prompt_tokens=prompt, predicted_tokens=predicted)
    both = merged(of_log, tapped(usage=Usage(input=3, output=12)))
    assert (both.prompt_tokens, both.predicted_tokens) == expected


def test_reasoning_is_shared_out_of_the_logs_count_where_the_answer_counts_it_apart() -> None:
    counted = tapped(usage=Usage(output=40, reasoning=10))
    assert merged(logged(), counted).reasoning_tokens_estimated == round(30 / 4)
    assert merged(logged(), tapped(route=PREDICT)).reasoning_tokens_estimated == 15
    assert merged(logged(), tapped()).reasoning_tokens_estimated == 8
    unknown = merged(logged(predicted_tokens=None), counted)
    assert (unknown.predicted_tokens, unknown.reasoning_tokens_estimated) == (None, 8)


def test_cached_tokens_are_the_answers_where_it_states_them_none_included() -> None:
    assert merged(logged(), tapped(usage=Usage(cached=0))).cached_tokens == 0
    assert merged(logged(), tapped()).cached_tokens == 4


@pytest.mark.parametrize(
    ("own", "changes", "joined"),
    [
        (1, TRACE, (TRACE_ID, PARENT_ID)),
        (0, TRACE, (0, None)),
        (1, {**TRACE, "is_sampled": False}, (1, None)),
        (1, {"trace_id": TRACE["trace_id"]}, (1, None)),
        (1, {"parent_id": TRACE["parent_id"]}, (1, None)),
    ],
)
def test_a_callers_trace_is_joined_where_there_are_traces_and_it_is_sampled(
    own: int, changes: dict[str, Any], joined: tuple[int, int | None]
) -> None:
    both = merged(logged(trace_id=own), tapped(**changes))
    assert (both.trace_id, both.parent_span_id) == joined


def test_a_prediction_of_the_tap_alone_has_what_the_tap_saw_and_nothing_made_up() -> None:
    usage = Usage(input=3, output=12, reasoning=4, cached=2)
    found = alone("local", tapped(usage=usage, finish="length", tools=("f",), e2e_s=2.1))
    assert (found.daemon, found.model, found.client, found.paired) == ("local", MODEL, "ci", False)
    assert (found.start_ns, found.end_ns) == (START_NS - NS // 10, START_NS + 2 * NS)
    assert found.first_token_ns == START_NS + NS // 2
    assert (found.time_to_first_token_s, found.decode_s, found.duration_s) == (0.6, 1.5, 2.1)
    assert found.tokens_per_second == pytest.approx(8.0)
    assert (found.prompt_tokens, found.predicted_tokens, found.cached_tokens) == (3, 12, 2)
    assert found.reasoning_tokens_estimated == 4
    assert (found.finished_reason, found.stop_reason) == (FinishedReason.LENGTH, "length")
    assert [(one.kind.value, one.share) for one in found.phases] == [("reasoning", 0.5), ("answer", 0.5)]
    assert [one.offset_s for one in found.phases] == pytest.approx([0.0, 0.6])
    assert {(one.start_char, one.end_char) for one in found.phases} == {(0, 0)}
    assert found.reasoning_s == pytest.approx(0.6)
    assert found.tool_calls == ("f",)
    assert (found.turn, found.timing, found.parent_span_id) == (1, Timing.EXACT, None)
    of_the_log = (
        found.model_path, found.context_length, found.context_utilization, found.draft_model,
        found.draft_tokens, found.draft_tokens_accepted, found.conversation_id, found.previous,
    )  # fmt: skip
    assert of_the_log == (None,) * 8


def test_what_the_tap_did_not_see_is_absent() -> None:
    found = alone("local", tapped(ttft_s=None, phases=(), usage=Usage(output=12)))
    at_an_unknown_time = alone("local", tapped(ttft_s=None))
    assert [one.offset_s for one in at_an_unknown_time.phases] == [0.6, 1.2]
    assert (found.time_to_first_token_s, found.decode_s, found.first_token_ns) == (None, None, None)
    assert (found.tokens_per_second, found.reasoning_s, found.phases) == (None, None, ())
    assert (found.predicted_tokens, found.reasoning_tokens_estimated) == (12, None)
    uncounted = alone("local", tapped(route=PREDICT))
    assert (uncounted.predicted_tokens, uncounted.tokens_per_second) == (None, None)
    assert uncounted.reasoning_tokens_estimated is None
    assert uncounted.reasoning_s == pytest.approx(0.6)
    nothing = alone("local", tapped(phases=(PhaseMark(Kind.ANSWER, 0.6, 2.2, 0, 0),), usage=Usage(output=0)))
    assert (nothing.tokens_per_second, nothing.phases[0].share) == (None, 0.0)
    at_once = alone("local", tapped(ttft_s=2.2, usage=Usage(output=12)))
    assert (at_once.decode_s, at_once.tokens_per_second) == (0.0, None)


def test_ids_of_the_tap_alone_are_the_same_in_every_version_and_differ_by_request() -> None:
    found = alone("local", tapped())
    assert (found.trace_id, found.span_id) == (0x597B7E3C47CDB953E03CB9A3B3180AED, 0x4CD28DC19080A73B)
    for other in (
        alone("other", tapped()),
        *(
            alone("local", tapped(**change))
            for change in ({"id": 2}, {"start_ns": 1}, {"client": "x"}, {"model": "x"})
        ),
    ):
        assert (other.trace_id, other.span_id) != (found.trace_id, found.span_id)
    joined = alone("local", tapped(**TRACE))
    assert (joined.trace_id, joined.parent_span_id, joined.span_id) == (TRACE_ID, PARENT_ID, found.span_id)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"finish": "stop"}, "stop"),
        ({"finish": "tool_use"}, "tool_calls"),
        ({"finish": "a newer one"}, "unknown"),
        ({}, "unknown"),
        ({"finish": "stop", "error": "overloaded"}, "error"),
        ({"finish": "stop", "cancelled": True}, "abort"),
        ({"finish": "stop", "cut": True}, "abort"),
        ({"error": "overloaded", "cut": True}, "error"),
    ],
)
def test_an_error_counts_before_a_broken_connection_and_that_before_the_reason_given(
    changes: dict[str, Any], reason: str
) -> None:
    assert alone("local", tapped(**changes)).finished_reason == reason


def test_the_share_of_reasoning_by_the_logs_text_is_none_without_text() -> None:
    assert estimated_share(logged()) == 0.25
    assert estimated_share(logged(phases=())) is None
    assert estimated_share(logged(phases=(Phase(Kind.ANSWER, 1.0, None, None, 0, 9),))) == 0
