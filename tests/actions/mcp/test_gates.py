"""The policy, as a pure function: which rule wins, and that nothing denied and no path outside gets through."""

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.mcp.constraints import Constraints, host_of, is_deeper
from actions.mcp.gates import Decision, Policy, Rule, Subject, Verdict, decide

GLOBS = st.sampled_from(["*", "read_*", "read_file", "write_*", "*_file", "r?ad_file", "[rw]*", "other"])
TOOLS = st.sampled_from(["read_file", "write_file", "read_dir", "delete", "other"])
RULES = st.lists(
    st.builds(
        Rule,
        name=st.text("abc", min_size=1, max_size=3),
        decision=st.sampled_from(Verdict),
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


def judge(policy: Policy, subject: Subject, *, changed: bool = False, **arguments: Any) -> Decision:
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
    verdict = expected.decision if expected else Verdict.ASK
    assert found.verdict is (Verdict.ASK if changed and verdict is Verdict.ALLOW else verdict)


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
    deny = Rule("no", Verdict.DENY, subject.server, "tool", subject.name)
    policy = Policy((*shuffled[:cut], deny, *shuffled[cut:], *rules))
    assert judge(policy, subject, changed=changed).verdict is Verdict.DENY
    assert policy.hides(subject)


@given(RULES, SUBJECTS, st.dictionaries(st.text(max_size=3), st.text(max_size=3)))
def test_arguments_never_turn_a_denial_into_anything_else(
    rules: list[Rule], subject: Subject, arguments: dict[str, str]
) -> None:
    policy = Policy(tuple(rules))
    if policy.hides(subject):
        assert decide(policy, subject, arguments, changed=False, resolve=resolve).verdict is Verdict.DENY


def test_a_tool_nobody_spoke_of_asks_and_prompts_and_resources_are_let_through() -> None:
    policy = Policy()
    assert judge(policy, Subject("s", "tool", "t", "x")) == Decision(Verdict.ASK, "default")
    assert judge(policy, Subject("s", "prompt", "t", "x")).verdict is Verdict.ALLOW
    assert judge(policy, Subject("s", "resource", "t", "x")).verdict is Verdict.ALLOW


def test_a_changed_tool_asks_again_and_says_why() -> None:
    policy = Policy((Rule("all", Verdict.ALLOW),))
    found = judge(policy, Subject("s", "tool", "t", "x"), changed=True)
    assert (found.verdict, found.rule) == (Verdict.ASK, "all")
    assert "approved" in found.reason


PARTS = st.sampled_from(
    ["..", ".", "", "inside", "link_out", "link_in", "..\\", "%2e%2e", " ..", "..'", "...", "a b"]
)


@pytest.fixture(name="tree", scope="module")
def _tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("paths").resolve()
    root = base / "root"
    (root / "inside" / "deep").mkdir(parents=True)
    (base / "root-but-longer").mkdir()
    (base / "secret").write_text("x", encoding="utf-8")
    (root / "link_out").symlink_to(base)
    (root / "link_in").symlink_to(root / "inside")
    (root / "loop").symlink_to(root / "loop")
    return root


@given(st.lists(PARTS, max_size=7), st.booleans())
def test_no_path_that_passes_leads_outside(tree: Path, parts: list[str], from_root: bool) -> None:  # noqa: FBT001
    path = "/".join([str(tree) if from_root else str(tree.parent), *parts])
    constraints = Constraints(path_arguments=("path",), path_roots=(str(tree),))
    if constraints.violation({"path": path}, resolve) is not None:
        return
    # What a server would reach that trims, unquotes or decodes first, as well as one that does not.
    for variant in (path, path.strip(), path.strip("'\""), path.replace("%2e", "."), path.replace("\\", "/")):
        real = Path(os.path.realpath(variant))
        assert real == tree or tree in real.parents


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("{root}/inside/deep/new.txt", None),
        ("{root}", None),
        ("{root}/link_in/x", None),
        ("{root}/../secret", "leads outside"),
        ("{root}/link_out/secret", "leads outside"),
        ("{root}-but-longer/x", "leads outside"),
        ("/etc/passwd", "leads outside"),
        ("inside/x", "absolute"),
        ("~/x", "absolute"),
        ("file:///etc/passwd", "absolute"),
        (" /etc/passwd", "absolute"),
        ("'/etc/passwd'", "absolute"),
        ("{root}/inside/..'", "differently"),
        ("{root}/..\u00a0", "differently"),
        ("{root}/inside\u3000", "differently"),
        ("{root}/..\ufeff", "differently"),
        ("{root}/%2e%2e/secret", "differently"),
        ("{root}/a\\..\\b", "differently"),
        ("{root}/a\x00b", "differently"),
    ],
)
def test_paths_are_judged_by_where_they_lead(tree: Path, path: str, fault: str | None) -> None:
    constraints = Constraints(path_arguments=("path",), path_roots=(str(tree),))
    found = constraints.violation({"path": path.format(root=tree)}, resolve)
    assert (found is None) if fault is None else (found is not None and fault in found)


def test_every_path_below_a_named_argument_is_judged_and_none_may_be_missing(tree: Path) -> None:
    constraints = Constraints(path_arguments=("paths",), path_roots=(str(tree),))
    assert constraints.violation({"paths": [str(tree), "/etc"]}, resolve) is not None
    assert constraints.violation({"edits": [{"paths": {"to": "/etc"}}]}, resolve) is not None
    assert constraints.violation({"paths": [3]}, resolve) == "paths: must be text"
    assert constraints.violation({}, resolve) == "none of paths is given"
    assert constraints.violation({"paths": [str(tree)]}, resolve) is None


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://Example.org/x", "example.org"),
        ("example.org.", "example.org"),
        ("http://[::1]:8080/", "::1"),
        ("https://good.example@evil.example/", None),
        ("https://evil.example\\@good.example/", None),
        ("ftp://example.org/", None),
        ("javascript://example.org/", None),
        ("https://exämple.org/", None),
        (" https://example.org/", None),
        ("https://example.org:99999/", None),
        ("https:///x", None),
    ],
)
def test_hosts_are_read_in_one_way_or_not_at_all(text: str, host: str | None) -> None:
    assert host_of(text) == host


def test_hosts_must_be_on_the_list() -> None:
    constraints = Constraints(host_arguments=("url",), hosts=("*.example.org", "localhost"))
    assert constraints.violation({"url": "https://api.example.org/x"}, resolve) is None
    assert constraints.violation({"url": "localhost:8080"}, resolve) is None
    for url in ("https://example.org/", "https://api.example.org.evil.example/", "http://2130706433/"):
        assert constraints.violation({"url": url}, resolve) is not None, url


def test_a_schema_is_applied_fetches_nothing_and_keeps_values_to_itself() -> None:
    schema = {"type": "object", "properties": {"n": {"maximum": 3}}, "required": ["n"]}
    constraints = Constraints(schema=schema)
    assert constraints.violation({"n": 3}, resolve) is None
    found = constraints.violation({"n": 12345}, resolve)
    assert found == "$.n breaks the rule's schema (maximum)"
    remote = Constraints(schema={"$ref": "https://example.org/schema.json"})
    assert "cannot be applied" in (remote.violation({"n": 3}, resolve) or "")


@given(
    st.recursive(
        st.none(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=1), inner, max_size=2),
    )
)
def test_depth_is_measured_without_recursion(value: Any) -> None:
    def depth(one: Any) -> int:
        children = one.values() if isinstance(one, dict) else one if isinstance(one, list) else None
        return 0 if children is None else 1 + max((depth(child) for child in children), default=-1)

    for limit in range(1, 6):
        assert is_deeper(value, limit) == (depth(value) >= limit)
