"""Constraints on arguments: no path that passes leads outside, no host is read in two ways, no value is told."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.mcp.policy.constraints import (
    MAX_DEPTH,
    MAX_NODES,
    MAX_VALUES,
    Constraints,
    host_of,
    is_below,
    measure,
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


def test_everything_below_a_named_argument_is_judged_keys_too(tree: Path) -> None:
    constraints = Constraints(
        path_arguments=("paths",), path_roots=(str(tree),), other_arguments=("edits", "other")
    )

    def found(**arguments: Any) -> str | None:
        return constraints.violation(arguments, resolve)

    outside = f"paths: leads outside {tree}"
    assert found(paths=[str(tree), "/etc"]) == outside
    assert found(edits=[{"paths": {str(tree): "/etc"}}]) == outside
    assert found(paths={"/etc/passwd": str(tree)}) == outside
    assert found(paths=[3]) == "paths: must be text"
    assert found(edits={"paths": [str(tree), ["etc"]]}) == "paths: must be an absolute path"
    assert found(other="/etc", paths=str(tree)) is None
    assert found(paths=[str(tree)]) is None
    assert found(paths=[str(tree)] * MAX_VALUES) is None
    assert found(paths=[str(tree)] * (MAX_VALUES + 1)) == f"paths: has more than {MAX_VALUES} values"


def test_each_named_argument_must_be_given_if_the_tool_has_it(tree: Path) -> None:
    both = Constraints(path_arguments=("from", "to"), path_roots=(str(tree),))
    inside = str(tree)
    assert both.violation({}, resolve) == "from: is not given"
    assert both.violation({"from": {}, "to": inside}, resolve) == "from: is not given"
    assert both.violation({"to": inside}, resolve) == "from: is not given"
    assert both.violation({"to": inside, "from": "/etc"}, resolve) == f"from: leads outside {tree}"
    assert both.violation({"to": inside, "from": inside}, resolve) is None
    # A rule for several tools names the arguments of all of them.
    assert both.violation({"to": inside}, resolve, {"to": {}, "mode": {}}) is None
    assert both.violation({}, resolve, {"to": {}}) == "to: is not given"
    assert both.violation({"to": inside}, resolve, {"mode": {}}) == "from: is not given"


@pytest.mark.parametrize("beside", [{}, {"path": []}, {"path": {}}, {"path": [[]]}])
def test_a_named_argument_below_another_one_does_not_stand_in_for_one_that_is_left_out(
    tree: Path, beside: dict[str, Any]
) -> None:
    constraints = Constraints(path_arguments=("path",), path_roots=(str(tree),))
    declared: dict[str, Any] = {"path": {"type": "string"}, "edits": {"type": "array"}}
    below = {**beside, "edits": [{"path": str(tree)}]}
    assert constraints.violation(below, resolve, declared) == "path: is not given"
    assert constraints.violation({**below, "path": str(tree)}, resolve, declared) is None


def test_json_in_a_text_is_not_read_as_an_object_that_nobody_judged(tree: Path) -> None:
    constraints = Constraints(path_arguments=("path",), path_roots=(str(tree),))

    def found(options: Any, kind: Any) -> str | None:
        given = {"path": str(tree), "options": options}
        return constraints.violation(given, resolve, {"path": {"type": "string"}, "options": kind})

    hidden = '{"path": "/etc/passwd"}'
    either = {"anyOf": [{"type": "array"}, {"type": "null"}]}
    for kind in ({"type": "object"}, {}, True, either, {"type": ["object", "null"]}):
        for text in (hidden, f" \n{hidden}", f"[{hidden}]"):
            assert found(text, kind) == "options: is a text in place of an object or a list"
        assert found("plain", kind) is None
    for kind in (
        {"type": "string"},
        {"type": ["string", "null"]},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        {"oneOf": [{"type": "null"}, {"type": "string"}]},
    ):
        assert found(hidden, kind) is None
    assert found({"path": "/etc/passwd"}, {"type": "object"}) == f"path: leads outside {tree}"


@pytest.mark.parametrize("key", ["Path", "PATH", "pa_th", "path ", "pa-th", "p\u200bath", "\uff50ath"])
def test_keys_that_a_server_could_take_for_a_named_one_are_refused_at_any_depth(tree: Path, key: str) -> None:
    constraints = Constraints(path_arguments=("path",), path_roots=(str(tree),), other_arguments=("options",))
    found = constraints.violation({"path": str(tree), "options": [{key: "/etc/passwd"}]}, resolve)
    assert found is not None
    assert found.endswith("is spelt path in the rule")
    either: tuple[dict[str, Any], ...] = ({}, {key: {}, "path": {}})
    for declared in either:
        assert constraints.violation({"path": str(tree), key: "/etc/passwd"}, resolve, declared) is not None


def test_a_long_key_and_one_that_a_line_cannot_hold_are_shown_short_and_safe() -> None:
    constraints = Constraints(
        host_arguments=("url",), hosts=("*",), other_arguments=("k" * 1_000, "k" * 1_001)
    )

    def found(key: str) -> str | None:
        return constraints.violation({"url": "localhost", key: 1}, resolve)

    assert found("k" * 1_000) is None
    assert found("k" * 1_001) == f"{'k' * 60}: is a key of more than 1000 characters"
    assert found("a\nb" + "c" * 58) == f"a?b{'c' * 57}: is neither in the rule nor in the tool's schema"


def test_a_schema_names_arguments_at_any_depth_and_says_whether_there_may_be_others() -> None:
    options = {"properties": {"options": {"properties": {"path": {"type": "string"}}}}}
    closed = Constraints(schema=options)
    assert closed.violation({"options": {"path": "x"}}, resolve) is None
    assert closed.violation({"options": {"Path": "x"}}, resolve) == "Path: is spelt path in the rule"
    unknown = "file: is neither in the rule nor in the tool's schema"
    assert closed.violation({"options": {}, "file": "x"}, resolve) == unknown
    for keyword in ("additionalProperties", "patternProperties"):
        is_open = Constraints(schema={**options, keyword: {}})
        assert is_open.violation({"options": {}, "file": "x"}, resolve) is None


def test_keys_that_neither_rule_nor_tool_knows_are_refused(tree: Path) -> None:
    constraints = Constraints(path_arguments=("path",), path_roots=(str(tree),))
    given = {"path": str(tree), "file": "/etc/passwd"}
    assert constraints.violation(given, resolve) == "file: is neither in the rule nor in the tool's schema"
    assert constraints.violation(given, resolve, {"path": {}, "file": {}}) is None
    listed = Constraints(path_arguments=("path",), path_roots=(str(tree),), other_arguments=("file",))
    assert listed.violation(given, resolve) is None
    by_schema = Constraints(schema={"properties": {"n": {"type": "integer"}}})
    assert by_schema.violation({"n": 1}, resolve) is None
    assert by_schema.violation({"n": 1, "N": 2}, resolve) is not None
    assert Constraints(schema={"additionalProperties": True}).violation({"n": 1}, resolve) is None
    assert Constraints().violation({"anything": 1}, resolve) is None


def test_paths_are_written_without_dots_before_they_are_judged_and_sent_on() -> None:
    constraints = Constraints(path_arguments=("paths",), path_roots=("/srv",))
    given = {"paths": ["/srv/a/../b", {"/srv//c": "/srv/./d"}], "text": "/a/../b", "n": 1}
    assert constraints.normal(given) == {"paths": ["/srv/b", {"/srv/c": "/srv/d"}], "text": "/a/../b", "n": 1}
    nested = {"/a/../b": [{"paths": "/a/../b"}, "/a/../b"]}
    assert constraints.normal(nested) == {"/a/../b": [{"paths": "/b"}, "/a/../b"]}
    deeper = {"edits": {"/a/../b": {"x": {"paths": "/a/../b"}}}}
    assert constraints.normal(deeper) == {"edits": {"/a/../b": {"x": {"paths": "/b"}}}}
    assert constraints.normal({"paths": {"a/../b": 1}}) == {"paths": {"a/../b": 1}}
    assert constraints.normal({"paths": "a/../b"}) == {"paths": "a/../b"}  # refused as it is
    assert Constraints().normal(given) == given


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
        ("https://example.org/a\\b", None),
        ("https://example.org/a\x7fb", None),
        ("http://a/" + "x" * (8_192 - 9), "a"),
        ("http://a/" + "x" * (8_192 - 8), None),
        ("a" * 253, "a" * 253),
        ("a" * 254, None),
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
    assert constraints.violation({}, resolve) == "url: is not given"
    nowhere = Constraints(host_arguments=("url",))
    assert nowhere.violation({"url": "localhost"}, resolve) == "url: is not at one of no hosts"
    address = Constraints(host_arguments=("url",), hosts=("::1",))
    assert address.violation({"url": "[::1]:8080"}, resolve) is None
    shouted = Constraints(host_arguments=("url",), hosts=("Example.ORG",))
    assert shouted.violation({"url": "example.org"}, resolve) is None


def test_everything_below_a_name_has_that_name() -> None:
    names = frozenset({"a", "b"})
    assert list(named({"a": {"x": 1}}, names)) == [("a", "a", "x"), ("a", "a", 1)]
    below = {"l": [{"a": [{"b": 1}]}, {"c": {"b": 2}}]}
    assert list(named(below, names)) == [("l", "b", 2), ("l", "a", "b"), ("l", "a", 1)]


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


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/a", "/a", True),
        ("/a/b", "/a", True),
        ("/a/b", "/a/", True),
        ("/ab", "/a", False),
        ("/a/b", "/aX", False),
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


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def test_depth_number_and_size_of_values_are_bounded_before_anything_else_looks_at_them() -> None:
    assert MAX_DEPTH == 64
    assert measure({"a": nested(MAX_DEPTH - 2)})[1] is None
    assert measure({"a": nested(MAX_DEPTH)})[1] == "the arguments are nested deeper than 64"
    assert measure({"a": [0] * (MAX_NODES - 1)})[1] is None
    assert measure({"a": [0] * MAX_NODES})[1] == f"the arguments have more than {MAX_NODES} values"
    assert measure({"a": 2**1023})[1] is None
    assert measure({"a": 2**1024})[1] == "the arguments have a number of more than 1024 bits"
    assert measure({"abc": ["de", {"f": "g"}]})[0] == 7


@given(
    st.recursive(
        st.text(max_size=3) | st.none() | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    )
)
def test_any_json_is_measured(value: Any) -> None:
    chars, fault, _ = measure({"a": value})
    assert fault is None
    assert chars >= 1
