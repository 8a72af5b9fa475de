"""The policy, as a pure function: which rule wins, and that nothing denied gets through."""

import os
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.mcp.policy.constraints import Constraints
from actions.mcp.policy.rules import Decision, Policy, PolicyResult, Rule, Subject, decide

GLOBS = st.sampled_from(["*", "read_*", "read_file", "write_*", "*_file", "r?ad_file", "[rw]*", "other"])

TOOLS = st.sampled_from(["read_file", "write_file", "read_dir", "delete", "other"])

RULES = st.lists(
    st.builds(
        Rule,
        name=st.text("abc", min_size=1, max_size=3),
        decision=st.sampled_from(Decision),
        server=st.sampled_from(["*", "files", "f*", "web"]),
        target=GLOBS,
        token=st.sampled_from(["*", "llmster", "other"]),
    ),
    max_size=8,
)

SUBJECTS = st.builds(
    Subject,
    server=st.sampled_from(["files", "web"]),
    kind=st.just("tool"),
    name=TOOLS,
    token=st.sampled_from(["llmster", "stranger"]),
)


def resolve(path: str) -> str:
    return os.path.realpath(path)


def judge(policy: Policy, subject: Subject, *, changed: bool = False, **arguments: Any) -> PolicyResult:
    return decide(policy, subject, arguments, changed=changed, resolve=resolve)


@given(RULES, SUBJECTS, st.booleans())
def test_the_first_rule_that_matches_decides(rules: list[Rule], subject: Subject, changed: bool) -> None:  # noqa: FBT001
    expected = next(
        (
            one
            for one in rules
            if fnmatchcase(subject.server, one.server)
            and fnmatchcase(subject.name, one.target)
            and fnmatchcase(subject.token, one.token)
        ),
        None,
    )
    found = judge(Policy(tuple(rules)), subject, changed=changed)
    assert found.rule == (expected.name if expected else "default")
    verdict = expected.decision if expected else Decision.ASK
    assert found.decision is (Decision.ASK if changed and verdict is Decision.ALLOW else verdict)


@given(RULES, SUBJECTS, st.booleans(), st.data())
def test_no_order_of_other_rules_lets_a_denied_tool_through(
    rules: list[Rule],
    subject: Subject,
    changed: bool,  # noqa: FBT001
    data: st.DataObject,
) -> None:
    """A deny that comes first, and rules that speak of others in any order around it: always denied and hidden."""
    others = [one for one in rules if not one.matches(subject)]
    shuffled = data.draw(st.permutations(others))
    cut = data.draw(st.integers(0, len(shuffled)))
    deny = Rule("no", Decision.DENY, subject.server, "tool", subject.name)
    policy = Policy((*shuffled[:cut], deny, *shuffled[cut:], *rules))
    assert judge(policy, subject, changed=changed).decision is Decision.DENY
    assert policy.hides(subject)


@given(RULES, SUBJECTS, st.dictionaries(st.text(max_size=3), st.text(max_size=3)))
def test_arguments_never_turn_a_denial_into_anything_else(
    rules: list[Rule], subject: Subject, arguments: dict[str, str]
) -> None:
    policy = Policy(tuple(rules))
    if policy.hides(subject):
        assert decide(policy, subject, arguments, changed=False, resolve=resolve).decision is Decision.DENY


def test_a_tool_nobody_spoke_of_asks_and_prompts_and_resources_are_let_through() -> None:
    policy = Policy()
    assert judge(policy, Subject("s", "tool", "t", "x")) == PolicyResult(Decision.ASK, "default")
    assert judge(policy, Subject("s", "prompt", "t", "x")).decision is Decision.ALLOW
    assert judge(policy, Subject("s", "resource", "t", "x")).decision is Decision.ALLOW


def test_a_rule_speaks_of_one_kind_only() -> None:
    policy = Policy((Rule("no-prompts", Decision.DENY, kind="prompt"), Rule("no-tools", Decision.DENY)))
    assert judge(policy, Subject("s", "prompt", "t", "x")).rule == "no-prompts"
    assert judge(policy, Subject("s", "tool", "t", "x")).rule == "no-tools"
    assert judge(policy, Subject("s", "resource", "t", "x")) == PolicyResult(Decision.ALLOW, "default")
    assert policy.winner(Subject("s", "resource", "t", "x")).kind == "resource"


def test_arguments_that_break_a_rule_are_refused_by_it_and_those_that_keep_it_pass() -> None:
    constraints = Constraints(schema={"required": ["n"]})
    for verdict in (Decision.ALLOW, Decision.ASK):
        policy = Policy((Rule("n", verdict, constraints=constraints), Rule("all", Decision.ALLOW)))
        assert judge(policy, Subject("s", "tool", "t", "x"), n=1) == PolicyResult(verdict, "n")
        refused = judge(policy, Subject("s", "tool", "t", "x"))
        assert refused == PolicyResult(Decision.DENY, "n", "$ breaks the rule's schema (required)")
    denied = Policy((Rule("no", Decision.DENY, constraints=constraints),))
    assert judge(denied, Subject("s", "tool", "t", "x")) == PolicyResult(Decision.DENY, "no")


def test_what_the_tools_own_schema_declares_need_not_be_named_by_the_rule() -> None:
    policy = Policy((Rule("n", Decision.ALLOW, constraints=Constraints(schema={"required": ["n"]})),))
    subject = Subject("s", "tool", "t", "x")
    arguments: dict[str, Any] = {"n": 1, "limit": 5}
    assert judge(policy, subject, **arguments).decision is Decision.DENY
    declared = {"n": {}, "limit": {"type": "integer"}}
    found = decide(policy, subject, arguments, changed=False, resolve=resolve, declared=declared)
    assert found == PolicyResult(Decision.ALLOW, "n")


def test_a_changed_tool_asks_again_and_says_why() -> None:
    policy = Policy((Rule("all", Decision.ALLOW),))
    found = judge(policy, Subject("s", "tool", "t", "x"), changed=True)
    assert (found.decision, found.rule) == (Decision.ASK, "all")
    assert found.reason == "the tool definition changed"


def test_a_gate_set_through_the_api_decides_first_and_lifts_no_constraint() -> None:
    constraints = Constraints(path_arguments=("path",), path_roots=("/srv",))
    written = Rule("in the project", Decision.ASK, target="read_*", constraints=constraints)
    for verdict in (Decision.ALLOW, Decision.ASK):
        policy = Policy((written,), overrides=(Rule("override:s/read_file", verdict, target="read_file"),))
        subject = Subject("s", "tool", "read_file", "x")
        assert judge(policy, subject, path="/srv/a") == PolicyResult(verdict, "override:s/read_file")
        outside = judge(policy, subject, path="/etc/passwd")
        assert (outside.decision, outside.rule) == (Decision.DENY, "in the project")
        assert "leads outside" in outside.reason


@pytest.mark.parametrize("decision", list(Decision))
def test_a_rule_that_restricts_a_host_means_every_user_and_port_of_it(decision: Decision) -> None:
    policy = Policy(
        (Rule("docs", decision, kind="resource", target="docs://secret/*"),), {"resource": Decision.ALLOW}
    )
    for uri in ("docs://me@secret/x", "docs://secret:1/x", "docs://a@secret:1/x"):
        rule = policy.winner(Subject("s", "resource", uri, "t"))
        assert rule.name == ("default" if decision is Decision.ALLOW else "docs")
