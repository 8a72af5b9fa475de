"""Constraints on arguments: no path that passes leads outside, no host is read in two ways, no value is told."""

import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.mcp.policy.constraints import (
    MAX_DEPTH,
    Constraints,
    check_schema,
    host_of,
    is_below,
    is_deeper,
    named,
)


def resolve(path: str) -> str:
    return os.path.realpath(path)


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
        ("{root}/ inside/x", "differently"),
        ("{root}/inside\t/x", "differently"),
        ('{root}/inside"/x', "differently"),
        ("{root}/.../x", "differently"),
        ("{root}/'/x", "differently"),
        ("{root}/a b/x.y.", None),
        ("{root}//inside/./deep/..", None),
        ("{root}/%41", None),
        ("{root}/%2E", "differently"),
        ("{root}/%2f", "differently"),
        ("{root}/%5C", "differently"),
        ("{root}/%00", "differently"),
        ("{root}/a\x7fb", "differently"),
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
    assert constraints.violation({"paths": {}}, resolve) == "none of paths is given"
    assert constraints.violation({"other": "/etc", "paths": str(tree)}, resolve) is None
    assert constraints.violation({"edits": {"paths": [str(tree), ["etc"]]}}, resolve) == (
        "paths: must be an absolute path"
    )
    assert constraints.violation({"paths": [str(tree)]}, resolve) is None
    both = Constraints(path_arguments=("from", "to"), path_roots=(str(tree),))
    assert both.violation({}, resolve) == "none of from, to is given"
    assert both.violation({"to": str(tree), "from": "/etc"}, resolve) == f"from: leads outside {tree}"
    assert both.violation({"to": str(tree)}, resolve) is None


def test_a_violation_names_what_would_have_been_right_and_never_the_value(tree: Path) -> None:
    def fault(path: str, *roots: str) -> str | None:
        return Constraints(path_arguments=("p",), path_roots=roots).violation({"p": path}, resolve)

    assert fault("/etc", str(tree), "/srv") == f"p: leads outside {tree}, /srv"
    assert fault("/srv/x", str(tree), "/srv") is None
    assert fault("/etc") == "p: leads outside every root"
    assert fault("/etc/..x\x00", "/") == "p: has characters that servers read differently"
    assert fault("/etc/ x", "/") == "p: has a part that servers read differently"
    assert fault("x", "/") == "p: must be an absolute path"
    assert fault("/etc", "/") is None


def test_a_path_that_cannot_be_resolved_is_refused() -> None:
    def fail(_: str) -> str:
        raise OSError("no such disk")

    constraints = Constraints(path_arguments=("p",), path_roots=("/srv",))
    assert constraints.violation({"p": "/srv/x"}, fail) == "p: cannot be resolved"


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
        ("http://example.org", "example.org"),
        ("EXAMPLE.ORG:80", "example.org"),
        ("//example.org/", None),
        ("https://example.org/ x", "example.org"),
        ("https://example.org ", None),
        ("https://exam\tple.org/", None),
        ("https://-example.org/", None),
        ("https://exam_ple.org/", None),
        ("https://example.org../", None),
        ("https://@example.org/", None),
        ("", None),
    ],
)
def test_hosts_are_read_in_one_way_or_not_at_all(text: str, host: str | None) -> None:
    assert host_of(text) == host


def test_hosts_must_be_on_the_list() -> None:
    constraints = Constraints(host_arguments=("url",), hosts=("*.example.org", "localhost"))
    assert constraints.violation({"url": "https://api.example.org/x"}, resolve) is None
    assert constraints.violation({"url": "localhost:8080"}, resolve) is None
    for url in ("https://example.org/", "https://api.example.org.evil.example/", "http://2130706433/"):
        assert (
            constraints.violation({"url": url}, resolve) == "url: is not at one of *.example.org, localhost"
        )
    assert constraints.violation({"url": "ftp://localhost/"}, resolve) == (
        "url: must be an http(s) URL or a host name, without a user name"
    )
    assert constraints.violation({}, resolve) == "none of url is given"
    nowhere = Constraints(host_arguments=("url",))
    assert nowhere.violation({"url": "localhost"}, resolve) == "url: is not at one of no hosts"
    shouted = Constraints(host_arguments=("url",), hosts=("Example.ORG",))
    assert shouted.violation({"url": "example.org"}, resolve) is None


def test_a_schema_is_applied_fetches_nothing_and_keeps_values_to_itself() -> None:
    schema = {"type": "object", "properties": {"n": {"maximum": 3}}, "required": ["n"]}
    constraints = Constraints(schema=schema)
    assert constraints.violation({"n": 3}, resolve) is None
    found = constraints.violation({"n": 12345}, resolve)
    assert found == "$.n breaks the rule's schema (maximum)"
    remote = Constraints(schema={"$ref": "https://example.org/schema.json"})
    assert (
        remote.violation({"n": 3}, resolve)
        == "the rule's schema cannot be applied (_WrappedReferencingError)"
    )


def test_a_schema_that_lies_elsewhere_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda *request, **_: asked.append(request))
    remote = Constraints(schema={"$ref": "http://127.0.0.1:9/schema.json"})
    assert remote.violation({"n": 3}, resolve) is not None
    assert asked == []


def test_everything_below_a_name_has_that_name() -> None:
    names = frozenset({"a", "b"})
    assert list(named({"a": {"x": 1}}, names)) == [("a", 1)]
    assert list(named([{"a": [{"b": 1}]}, {"c": {"b": 2}}], names)) == [("b", 2), ("a", 1)]


def test_a_schema_a_path_and_a_host_are_all_asked_for() -> None:
    constraints = Constraints(
        schema={"required": ["n"]},
        path_arguments=("p",),
        path_roots=("/",),
        host_arguments=("h",),
        hosts=("localhost",),
    )
    good = {"n": 1, "p": "/", "h": "localhost"}
    assert constraints.violation(good, resolve) is None
    for name in good:
        assert constraints.violation({k: v for k, v in good.items() if k != name}, resolve) is not None, name
    assert constraints.reads_files
    assert not Constraints(hosts=("x",), host_arguments=("h",)).reads_files


def test_a_schema_that_is_none_is_refused_where_it_is_wrong() -> None:
    assert check_schema({"type": "object"}) is None
    fault = check_schema({"properties": {"n": {"type": "numbr"}}}) or ""
    assert fault.startswith("$.properties.n.type: 'numbr' is not valid")


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/a", "/a", True),
        ("/a/b", "/a", True),
        ("/a/b", "/a/", True),
        ("/ab", "/a", False),
        ("/", "/a", False),
        ("/a", "/", True),
    ],
)
def test_below_is_the_root_itself_and_what_is_under_it(
    path: str,
    root: str,
    below: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    assert is_below(path, root) is below


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"properties": {"x": {"multipleOf": 0.1}}}, 10**400),
        ({"properties": {"x": {"pattern": "("}}}, "x"),
        ({"$ref": "https://example.org/x.json"}, "x"),
    ],
)
def test_a_schema_that_cannot_be_applied_lets_nothing_through(schema: dict[str, Any], value: Any) -> None:
    found = Constraints(schema=schema).violation({"x": value}, resolve)
    assert found is not None
    assert "cannot be applied" in found


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


def test_by_default_sixty_four_levels_are_deep_enough() -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for level in range(levels):
            value = [value] if level % 2 else {"a": value}
        return value

    assert not is_deeper(nested(MAX_DEPTH - 1))
    assert is_deeper(nested(MAX_DEPTH))
    assert MAX_DEPTH == 64
