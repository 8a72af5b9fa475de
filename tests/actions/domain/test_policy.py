"""Decisions are pure: the first rule that objects decides, and says how to get what was wanted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.domain.actor import Actor, Scope
from actions.domain.command import COMMANDS, Download, Eject, EjectAll, Load, Probe, from_json
from actions.domain.errors import TITLES, TYPE_PREFIX, Param, Problem
from actions.domain.load_options import normal
from actions.domain.policy import Facts, busy, decide
from actions.domain.preflight import Need, Preflight, SplitPlan, Verdict, judge

OPERATOR = Actor("token:ops", Scope.OPERATE)
READER = Actor("token:eyes", Scope.READ)


def judged(verdict: Verdict) -> Preflight:
    preflight = judge(Need(1, 1, passes_guardrails=True), "unknown", learned=None, split=SplitPlan())
    return Preflight(
        **{**{name: getattr(preflight, name) for name in preflight.__slots__}, "verdict": verdict}
    )


@pytest.mark.parametrize(
    "command", [Load(daemon="d", model="m"), EjectAll(daemon="d"), Probe(daemon="d", model="m")]
)
def test_every_command_needs_operate(command: Load | EjectAll | Probe) -> None:
    assert decide(READER, command, Facts()).rule == "scope"
    assert decide(OPERATOR, command, Facts()).allowed


@pytest.mark.parametrize(
    ("verdict", "force", "rule"),
    [
        (Verdict.FITS, False, "allowed"),
        (Verdict.TIGHT, False, "allowed"),
        (Verdict.UNKNOWN, False, "allowed"),
        (Verdict.DOES_NOT_FIT, False, "fits"),
        (Verdict.DOES_NOT_FIT, True, "forced"),
    ],
)
def test_only_what_is_known_not_to_fit_is_refused(verdict: Verdict, force: bool, rule: str) -> None:  # noqa: FBT001
    for command in (
        Load(daemon="d", model="m", force=force, reason="because"),
        Probe(daemon="d", model="m", force=force, reason="because"),
    ):
        assert decide(OPERATOR, command, Facts(judged(verdict))).rule == rule


def objection(command: Load | Eject | EjectAll, facts: Facts, actor: Actor = OPERATOR) -> Problem:
    problem = decide(actor, command, facts).problem
    assert problem is not None
    return problem


def test_who_lacks_the_scope_is_told_which_and_how_to_get_it() -> None:
    problem = objection(EjectAll(daemon="d"), Facts(), READER)
    assert problem.detail == (
        "eject_all needs scope operate, and token:eyes has read; make a token with: "
        "daemonpulse actions token new --scope operate"
    )
    assert problem.extra == {"needs": "operate", "has": "read"}


def test_a_command_that_cannot_be_forced_is_simply_allowed() -> None:
    assert decide(OPERATOR, EjectAll(daemon="d"), Facts()).rule == "allowed"
    assert decide(OPERATOR, EjectAll(daemon="d"), Facts()).reason == ""


def test_what_does_not_fit_is_refused_with_the_numbers_and_the_ways_out() -> None:
    preflight = judge(Need(10, 10, passes_guardrails=False), "no driver", learned=None, split=SplitPlan())
    problem = objection(Load(daemon="d", model="m"), Facts(preflight))
    assert problem.detail == (
        f"m: {'; '.join(preflight.reasons)}. Eject something first, name it in replace, choose other GPUs or a "
        "smaller context_length, or use force=true with a reason"
    )
    assert len(preflight.reasons) > 1
    assert problem.extra == {"preflight": preflight.to_json()}
    assert decide(OPERATOR, Load(daemon="d", model="m"), Facts(preflight)).reason == problem.detail


@pytest.mark.parametrize("reason", [None, "", "  "])
def test_force_needs_a_reason_that_says_something(reason: str | None) -> None:
    decision = decide(OPERATOR, Load(daemon="d", model="m", force=True, reason=reason), Facts())
    assert decision.rule == "force-says-why"
    assert decision.problem is not None
    assert decision.problem.detail == "reason: required by force=true; it goes into the audit"
    assert decision.problem.extra == {"parameter": "reason"}


def test_a_busy_instance_is_not_replaced_unless_forced() -> None:
    command = Load(daemon="d", model="m", replace=("old",))
    assert decide(OPERATOR, command, Facts(queued={"old": 2})).rule == "replaced-is-idle"
    problem = objection(command, Facts(queued={"old": 2}))
    assert problem.detail == (
        "old has 2 requests in flight, which an eject ends; wait, use drain_seconds, or use force=true"
    )
    assert problem.extra == {"instance_id": "old", "queued": 2}
    assert decide(OPERATOR, command, Facts(queued={"old": 0})).allowed
    assert decide(OPERATOR, command, Facts(queued={"old": None})).allowed
    forced = Load(daemon="d", model="m", replace=("old",), force=True, reason="x")
    assert decide(OPERATOR, forced, Facts(queued={"old": 2})).rule == "forced"


def test_requests_of_an_unknown_number_are_said_to_be_so() -> None:
    assert busy("a", None).detail.startswith("a has an unknown number of requests in flight, which")
    assert busy("a", 1).detail.startswith("a has 1 request in flight, which")


texts = st.text(min_size=1, max_size=20)
loads = st.builds(
    Load,
    daemon=texts,
    model=texts,
    instance_id=st.none() | texts,
    options=st.fixed_dictionaries(
        {},
        optional={
            "context_length": st.integers(1, 10**6),
            "gpu_offload": st.sampled_from(["max", "off", 0.5]),
            "disabled_gpus": st.lists(st.integers(0, 7), min_size=1),
            "gpu_ratio": st.lists(st.floats(0, 9), min_size=1),
            "kv_cache_type": st.sampled_from(["q8", "f16", "off"]),
            "draft_mtp": st.booleans(),
        },
    ).map(normal),
    replace=st.lists(texts).map(tuple),
    force=st.booleans(),
)
ejects = st.builds(Eject, daemon=texts, instance_id=texts, drain_seconds=st.floats(0, 60))


@given(
    st.one_of(
        loads, ejects, st.builds(EjectAll, daemon=texts), st.builds(Download, daemon=texts, model=texts)
    )
)
def test_a_command_survives_a_restart_as_json(command: Load | Eject | EjectAll | Download) -> None:
    assert from_json(json.loads(json.dumps(command.to_json()))) == command
    assert COMMANDS[command.ACTION] is type(command)


@pytest.mark.parametrize("slug", TITLES)
def test_a_problem_survives_being_stored(slug: str) -> None:
    body = Problem(
        slug, "why: use ", Param("replace", "x"), " or ", Param("force", value=True), number=7
    ).body()
    assert body["detail"] == "why: use replace=x or force=true"
    assert body["type"] == TYPE_PREFIX + slug
    assert Problem.from_body(json.loads(json.dumps(body))).body() == body


def test_a_busy_instance_is_not_ejected_unless_drained_or_forced() -> None:
    facts = Facts(queued={"a": 1})
    refused = decide(OPERATOR, Eject(daemon="d", instance_id="a"), facts)
    assert refused.rule == "ejected-is-idle"
    assert refused.reason.startswith("a has 1 request in flight")
    for idle in ({"a": 0}, {"a": None}):
        assert decide(OPERATOR, Eject(daemon="d", instance_id="a"), Facts(queued=idle)).allowed
    assert decide(OPERATOR, Eject(daemon="d", instance_id="a", drain_seconds=1), facts).allowed
    assert decide(OPERATOR, Eject(daemon="d", instance_id="a", force=True), facts).allowed
    assert not decide(OPERATOR, Eject(daemon="d", instance_id="a", only_if_idle=True), facts).allowed
