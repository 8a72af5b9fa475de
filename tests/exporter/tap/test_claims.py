"""A request that the tap and the log stream both tell of counts once, whichever comes first."""

from collections.abc import Callable
from typing import Any

import pytest

from exporter.pipeline.output.segments import Kind
from exporter.pipeline.phases import Phase
from exporter.pipeline.predictions import FinishedReason, Prediction, Timing
from exporter.tap import claims
from exporter.tap.claims import CLOCK_SKEW_S, LOG_SPEAKS_S, LOG_WAITS_S, TAP_WAITS_S, Claims
from exporter.tap.report import PhaseMark, Report, Usage

NS = 1_000_000_000
START_NS = 1_700_000_000 * NS
MODEL = "qwen/qwen3-8b"


def logged(**changes: Any) -> Prediction:
    values: dict[str, Any] = {
        "daemon": "local",
        "model": MODEL,
        "model_path": None,
        "start_ns": START_NS,
        "end_ns": START_NS + 2 * NS,
        "time_to_first_token_s": 0.5,
        "decode_s": 1.5,
        "duration_s": 2.0,
        "tokens_per_second": 20.0,
        "prompt_tokens": 10,
        "predicted_tokens": 30,
        "context_length": 4096,
        "context_utilization": 0.01,
        "finished_reason": FinishedReason.STOP,
        "stop_reason": "eosFound",
        "phases": (
            Phase(Kind.REASONING, 0.25, 0.0, 0.4, 7, 107),
            Phase(Kind.ANSWER, 0.75, 0.4, 1.1, 115, 415),
        ),
        "reasoning_s": 0.4,
        "reasoning_tokens_estimated": 8,
        "tool_calls": (),
        "draft_model": None,
        "draft_tokens": None,
        "draft_tokens_accepted": None,
        "trace_id": 1,
        "span_id": 2,
        "conversation_id": None,
        "turn": 1,
        "previous": None,
        "paired": True,
        "cached_tokens": 4,
        "ending": 7,
    }
    return Prediction(**values | changes)


def tapped(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "id": 1,
        "client": "ci",
        "route": "/v1/chat/completions",
        "method": "POST",
        "model": MODEL,
        "status": 200,
        "is_prediction": True,
        "start_ns": START_NS - NS // 10,
        "e2e_s": 2.2,
        "ttft_s": 0.6,
        "phases": (
            PhaseMark(Kind.REASONING, 0.6, 1.2, 15, 100),
            PhaseMark(Kind.ANSWER, 1.2, 2.2, 15, 300),
        ),
        "ending": 7,
    }
    return Report(**values | changes)


class Matching:
    """Claims with what came out of them, and a clock to turn."""

    def __init__(self, model_key: Callable[[str], str] = lambda name: name) -> None:
        self.now_s = 100.0
        self.emitted: list[Prediction] = []
        self.settled: list[tuple[Report, Prediction | None]] = []
        self.errors: list[tuple[str, float]] = []
        self.claims = Claims(
            "local",
            emit=self.emitted.append,
            settled=lambda report, prediction: self.settled.append((report, prediction)),
            estimate_error=lambda model, error: self.errors.append((model, error)),
            clock=lambda: self.now_s,
            model_key=model_key,
        )

    def log(self, prediction: Prediction, *, tap_is_up: bool = True) -> None:
        self.claims.take_logged(prediction, tap_is_up=tap_is_up)

    def later(self, seconds: float) -> None:
        self.now_s += seconds
        self.claims.expire()


@pytest.mark.parametrize("log_first", [True, False])
def test_a_pair_becomes_one_prediction_with_the_daemons_counts_and_the_taps_times(*, log_first: bool) -> None:
    matching = Matching()
    report = tapped(trace_id="0af7651916cd43dd8448eb211c80319c", parent_id="b7ad6b7169203331")
    if log_first:
        matching.log(logged())
        matching.claims.take_report(report)
    else:
        matching.claims.take_report(report)
        matching.log(logged())
    (both,) = matching.emitted
    assert matching.settled == [(report, both)]
    assert (both.prompt_tokens, both.predicted_tokens, both.time_to_first_token_s) == (10, 30, 0.5)
    assert both.cached_tokens == 4
    assert (both.client, both.timing) == ("ci", Timing.EXACT)
    assert (both.start_ns, both.end_ns) == (report.start_ns, report.end_ns)
    assert both.first_token_ns == report.start_ns + 6 * NS // 10
    assert both.reasoning_tokens_estimated == 8  # deltas are not taken for tokens
    assert both.reasoning_s == pytest.approx(0.6)
    assert [(phase.start_char, phase.end_char) for phase in both.phases] == [(7, 107), (115, 415)]
    assert [phase.offset_s for phase in both.phases] == pytest.approx([0.0, 0.6])
    assert both.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert both.parent_span_id == 0xB7AD6B7169203331
    assert both.span_id == 2
    assert matching.errors == []
    matching.later(1000)
    assert len(matching.emitted) == 1
    assert matching.claims.outcomes == {"matched": 1}


@pytest.mark.parametrize(
    "changes",
    [{"route": "ws predict"}, {"usage": Usage(output=30, reasoning=15)}],
    ids=["fragments", "usage"],
)
def test_where_reasoning_is_counted_apart_the_estimate_gives_way_and_its_error_is_told(
    changes: dict[str, Any],
) -> None:
    matching = Matching()
    matching.claims.take_report(tapped(**changes))
    matching.log(logged())
    assert matching.emitted[0].reasoning_tokens_estimated == 15
    assert matching.errors == [(MODEL, 0.25)]


def test_counts_that_the_log_lacks_are_the_answers() -> None:
    matching = Matching()
    matching.log(logged(prompt_tokens=None, predicted_tokens=None, stop_reason=None))
    matching.claims.take_report(tapped(usage=Usage(input=10, output=30, reasoning=10, cached=6)))
    (both,) = matching.emitted
    assert both.cached_tokens == 6
    assert (both.prompt_tokens, both.predicted_tokens, both.reasoning_tokens_estimated) == (10, 30, 10)


def test_a_trace_that_the_caller_does_not_sample_is_not_joined() -> None:
    matching = Matching()
    matching.log(logged())
    matching.claims.take_report(tapped(trace_id="1" * 32, parent_id="2" * 16, is_sampled=False))
    assert (matching.emitted[0].trace_id, matching.emitted[0].parent_span_id) == (1, None)


def test_a_prediction_past_the_tap_is_let_go_after_a_while_and_at_once_without_a_tap() -> None:
    matching = Matching()
    matching.log(logged())
    assert matching.emitted == []
    matching.later(LOG_WAITS_S)
    assert matching.emitted == [logged()]
    matching.log(logged(), tap_is_up=False)
    assert len(matching.emitted) == 2
    assert matching.claims.outcomes == {"log_only": 2}


def test_where_the_log_tells_of_no_predictions_the_taps_count_alone() -> None:
    matching = Matching()
    report = tapped(usage=Usage(input=3, output=12, reasoning=4), finish="length")
    matching.claims.take_report(report)
    matching.later(TAP_WAITS_S)
    (alone,) = matching.emitted
    assert (alone.prompt_tokens, alone.predicted_tokens, alone.reasoning_tokens_estimated) == (3, 12, 4)
    assert (alone.finished_reason, alone.timing, alone.client) == (FinishedReason.LENGTH, Timing.EXACT, "ci")
    assert matching.settled == [(report, None)]
    assert matching.claims.outcomes == {"tap_only": 1}


def test_where_the_log_does_tell_of_predictions_one_that_it_lacks_is_counted_and_not_made_up() -> None:
    matching = Matching()
    matching.log(logged(model="other/model"), tap_is_up=False)
    matching.claims.take_report(tapped())
    matching.later(TAP_WAITS_S)
    assert [prediction.model for prediction in matching.emitted] == ["other/model"]
    assert matching.claims.outcomes == {"log_only": 1, "unmatched": 1}
    assert matching.settled == [(tapped(), None)]
    matching.later(LOG_SPEAKS_S)
    matching.claims.take_report(tapped())
    matching.later(TAP_WAITS_S)
    assert matching.claims.outcomes["tap_only"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other/model"},
        {"usage": Usage(input=11)},
        {"usage": Usage(output=31)},
        {"start_ns": START_NS + 60 * NS},
        {"phases": (PhaseMark(Kind.ANSWER, 0.6, 2.2, 90, 900),)},
        {"phases": (PhaseMark(Kind.ANSWER, 0.6, 2.2, 5, 50),)},
    ],
    ids=["model", "prompt tokens", "tokens", "time", "longer", "shorter"],
)
def test_what_differs_is_not_one_request(changes: dict[str, Any]) -> None:
    matching = Matching()
    matching.log(logged())
    matching.claims.take_report(tapped(**changes))
    assert matching.emitted == []
    assert matching.claims.waiting == 2


def test_a_cancelled_stream_is_the_request_whose_beginning_it_is() -> None:
    matching = Matching()
    matching.log(logged(finished_reason=FinishedReason.ABORT))
    cut_short = (PhaseMark(Kind.REASONING, 0.6, 0.9, 4, 40),)
    matching.claims.take_report(tapped(phases=cut_short, cancelled=True, e2e_s=1.5))
    matching.later(LOG_WAITS_S)
    assert matching.claims.outcomes == {"matched": 1}
    assert matching.errors == []  # of half an answer nothing can be said
    assert matching.emitted[0].timing is Timing.ESTIMATED  # and its phases are the log's


def test_of_several_the_one_that_ends_alike_is_taken() -> None:
    matching = Matching()
    lengths = (398, 400, 402)  # each with an end of its own
    for chars in lengths:
        phase = Phase(Kind.ANSWER, 1.0, 0.0, 1.5, 0, chars)
        matching.log(logged(phases=(phase,), span_id=chars, ending=chars))
    for chars in reversed(lengths):
        mark = PhaseMark(Kind.ANSWER, 0.6, 2.2, 30, chars)
        matching.claims.take_report(tapped(phases=(mark,), ending=chars))
    assert [prediction.span_id for prediction in matching.emitted] == list(reversed(lengths))


def test_what_is_only_alike_waits_for_what_is_more_so() -> None:
    matching = Matching()
    matching.log(logged(span_id=1, ending=8))
    matching.claims.take_report(tapped(ending=9))
    assert matching.emitted == []
    matching.log(logged(span_id=2, ending=9))
    assert [prediction.span_id for prediction in matching.emitted] == [2]
    matching.claims.take_report(tapped(ending=0))
    matching.later(LOG_WAITS_S)
    assert [prediction.span_id for prediction in matching.emitted] == [2, 1]
    assert matching.claims.outcomes == {"matched": 2}


def test_an_instance_is_found_by_the_key_of_its_model() -> None:
    matching = Matching(lambda name: name.removesuffix(":2"))
    matching.log(logged(model=f"{MODEL}:2"))
    matching.claims.take_report(tapped())
    assert matching.claims.outcomes == {"matched": 1}


def test_a_request_that_names_no_model_is_found_by_the_rest() -> None:
    matching = Matching()
    matching.claims.take_report(tapped(model=""))
    matching.log(logged())
    assert matching.claims.outcomes == {"matched": 1}


def test_a_request_in_which_the_daemon_ran_tools_leaves_its_predictions_alone() -> None:
    matching = Matching()
    report = tapped(route="/api/v1/chat", tools=("search",))
    matching.claims.take_report(report)
    matching.log(logged())
    matching.later(LOG_WAITS_S)
    assert matching.emitted == [logged()]
    assert matching.settled == [(report, None)]
    assert matching.claims.outcomes == {"compound": 1, "log_only": 1}


def test_at_the_end_everything_is_let_go() -> None:
    matching = Matching()
    matching.log(logged())
    matching.claims.take_report(tapped(model="other/model"))
    matching.claims.expire(everything=True)
    assert matching.claims.waiting == 0
    assert matching.claims.outcomes == {"log_only": 1, "unmatched": 1}


def marks(reasoning: int, answer: int) -> tuple[PhaseMark, ...]:
    return (PhaseMark(Kind.REASONING, 0.6, 1.2, 15, reasoning), PhaseMark(Kind.ANSWER, 1.2, 2.2, 15, answer))


def distance(prediction: Prediction, report: Report) -> float | None:
    """Say how far apart two are, rounded."""
    one = claims._Entry(0.0, claims._chars_of_prediction(prediction), prediction)
    other = claims._Entry(0.0, claims._chars_of_report(report), report=report)
    found = claims._distance(one, other)
    return found if found is None else round(found, 3)


UNSURE = claims._UNSURE


@pytest.mark.parametrize(
    ("of_log", "of_tap", "expected"),
    [
        ({}, {}, 0.1),
        ({}, {"ending": 8}, UNSURE + 0.1 + 3200),
        ({}, {"ending": 0}, UNSURE + 0.1),
        ({"ending": 0}, {}, UNSURE + 0.1),
        ({}, {"ending": 0, "usage": Usage(input=10, output=30)}, 0.1),
        ({}, {"ending": 0, "usage": Usage(input=10)}, UNSURE + 0.1),
        ({"prompt_tokens": None}, {"ending": 0, "usage": Usage(input=10, output=30)}, UNSURE + 0.1),
        ({}, {"usage": Usage(input=11)}, None),
        ({}, {"usage": Usage(output=31)}, None),
        ({}, {"usage": Usage(output=31), "cancelled": True}, UNSURE + 0.1),
        ({}, {"usage": Usage(output=31), "cut": True}, UNSURE + 0.1),
        ({}, {"cancelled": True, "ending": 8}, UNSURE + 0.1),
        ({"finished_reason": FinishedReason.ABORT}, {}, UNSURE + 0.1),
        ({}, {"phases": marks(100, 352)}, 0.1),
        ({}, {"phases": marks(100, 353)}, None),
        ({}, {"phases": marks(100, 248)}, 0.1),
        ({}, {"phases": marks(100, 247)}, None),
        ({}, {"phases": marks(0, 0), "cut": True}, UNSURE + 0.1),
        ({}, {"phases": marks(100, 353), "cut": True}, None),
        ({}, {"phases": marks(100, 310), "ending": 0}, UNSURE + 0.1 + 10),
        ({}, {"phases": marks(100, 290), "ending": 0}, UNSURE + 0.1 + 10),
        ({}, {"phases": ()}, 0.1),
        ({"end_ns": START_NS + int(2.1 * NS) + int(CLOCK_SKEW_S * NS)}, {}, CLOCK_SKEW_S),
        ({"end_ns": START_NS + int(2.1 * NS) + int(CLOCK_SKEW_S * NS) + NS}, {}, None),
        ({"end_ns": START_NS + 500 * NS}, {"e2e_s": 1000.1}, 500.0),
        (
            {"end_ns": START_NS - int(0.1 * NS) - int(CLOCK_SKEW_S * NS) + 1},
            {"e2e_s": 1000.0},
            1000.0 + CLOCK_SKEW_S,
        ),
        ({"end_ns": START_NS - int(0.1 * NS) - int(CLOCK_SKEW_S * NS)}, {"e2e_s": 1000.0}, None),
    ],
)
def test_two_reports_are_as_far_apart_as_their_times_counts_texts_and_ends(
    of_log: dict[str, Any], of_tap: dict[str, Any], expected: float | None
) -> None:
    assert distance(logged(**of_log), tapped(**of_tap)) == pytest.approx(expected, abs=0.002)


def test_every_outcome_is_counted_each_time() -> None:
    matching = Matching()
    for _ in range(2):
        matching.claims.take_report(tapped(route="/v1/responses", tools=("f",)))
        matching.claims.take_report(tapped(start_ns=START_NS - 900 * NS))
    assert matching.claims.outcomes == {"compound": 2}
    matching.later(TAP_WAITS_S)
    assert matching.claims.outcomes == {"compound": 2, "tap_only": 2}
    assert [one.daemon for one in matching.emitted] == ["local", "local"]
    matching.log(logged())
    for _ in range(2):
        matching.claims.take_report(tapped(start_ns=START_NS - 900 * NS))
    matching.later(TAP_WAITS_S)
    assert matching.claims.outcomes["unmatched"] == 2
    assert matching.claims.waiting == 0
    assert len(matching.settled) == 6
    for route, tools in (("/v1/responses", ()), ("/v1/chat/completions", ("f",))):
        matching.claims.take_report(tapped(route=route, tools=tools))
    assert matching.claims.outcomes["compound"] == 2


def test_beyond_the_limit_nothing_waits_and_what_is_alike_is_joined_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "MAX_WAITING", 1)
    matching = Matching()
    other = tapped(ending=8)
    matching.claims.take_report(other)
    matching.claims.take_report(tapped(id=2, start_ns=START_NS - 900 * NS))
    assert matching.claims.waiting == 1
    assert [one[0].id for one in matching.settled] == [2]
    matching.log(logged(model="another", ending=3))
    matching.log(logged())
    assert matching.claims.outcomes["matched"] == 1
    assert matching.settled[-1][0] is other


def test_each_waits_as_long_as_it_may_and_no_longer() -> None:
    matching = Matching()
    matching.claims.take_report(tapped())
    matching.later(TAP_WAITS_S - 0.5)
    assert matching.claims.waiting == 1
    matching.later(0.5)
    assert matching.claims.waiting == 0
    matching.log(logged())
    matching.later(LOG_WAITS_S - 0.5)
    assert matching.claims.waiting == 1
    matching.later(0.5)
    assert matching.claims.waiting == 0
