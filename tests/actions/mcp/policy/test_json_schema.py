"""JSON Schemas of rules: bounded work, nothing fetched, no value told, and no keyword without effect."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from actions.mcp.policy import json_schema
from actions.mcp.policy.constraints import Constraints
from actions.mcp.policy.json_schema import MAX_STEPS, schema_fault

ROOT = Path(__file__).parents[4]


def resolve(path: str) -> str:
    return os.path.realpath(path)


def test_a_schema_is_applied_fetches_nothing_and_keeps_values_to_itself() -> None:
    schema = {"type": "object", "properties": {"n": {"maximum": 3}}, "required": ["n"]}
    constraints = Constraints(schema=schema)
    assert constraints.violation({"n": 3}, resolve) is None
    found = constraints.violation({"n": 12345}, resolve)
    assert found == "$.n breaks the rule's schema (maximum)"
    remote = Constraints(schema={"$ref": "https://example.org/schema.json"}, other_arguments=("n",))
    assert (
        remote.violation({"n": 3}, resolve)
        == "the rule's schema cannot be applied (_WrappedReferencingError)"
    )


def test_a_schema_that_lies_elsewhere_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda *request, **_: asked.append(request))
    remote = Constraints(schema={"$ref": "http://127.0.0.1:9/schema.json"}, other_arguments=("n",))
    assert remote.violation({"n": 3}, resolve) is not None
    assert asked == []


def test_a_schema_that_is_none_is_refused_where_it_is_wrong() -> None:
    assert schema_fault({"type": "object"}) is None
    fault = schema_fault({"properties": {"n": {"type": "numbr"}}}) or ""
    assert fault.startswith("$.properties.n.type: 'numbr' is not valid")


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"properties": {"x": {"multipleOf": 0.1}}}, 10**400),
        ({"properties": {"x": {"pattern": "("}}}, "x"),
        ({"$ref": "https://example.org/x.json"}, "x"),
    ],
)
def test_a_schema_that_cannot_be_applied_lets_nothing_through(schema: dict[str, Any], value: Any) -> None:
    found = Constraints(schema=schema, other_arguments=("x",)).violation({"x": value}, resolve)
    assert found is not None
    assert "cannot be applied" in found


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"properties": {"x": {"pattern": "(?=a)"}}}, "pattern: invalid perl operator"),
        ({"patternProperties": {r"(a)\1": {}}}, "pattern: invalid escape"),
        ({"allOf": [{"unevaluatedProperties": False}]}, "unevaluatedProperties: not supported"),
        ({"items": {"pattern": "^(a+)+$"}, "patternProperties": {"^x": True}}, None),
    ],
)
def test_a_schema_has_re2s_patterns_and_no_keyword_whose_work_grows_faster(
    schema: dict[str, Any], fault: str | None
) -> None:
    found = schema_fault(schema)
    assert (found is None) if fault is None else (found is not None and fault in found)


def test_patterns_keys_and_repeated_items_of_a_schema_are_judged() -> None:
    def found(schema: dict[str, Any], value: Any) -> str | None:
        return Constraints(schema={"properties": {"x": schema}}).violation({"x": value}, resolve)

    assert found({"pattern": "^a+$"}, "aaa") is None
    assert found({"pattern": "^a+$"}, "aab") == "$.x breaks the rule's schema (pattern)"
    assert found({"pattern": "^a+$"}, 3) is None
    keys = {
        "patternProperties": {"^a": {"type": "integer"}},
        "properties": {"b": {}},
        "additionalProperties": False,
    }
    assert found(keys, {"a1": 1, "b": "x"}) is None
    assert found(keys, {"a1": "x"}) == "$.x.a1 breaks the rule's schema (type)"
    assert found(keys, {"c": 1}) == "$.x breaks the rule's schema (additionalProperties)"
    assert found(keys, []) is None
    assert found(keys, {"b": "x", "a1": 1, "c": 1}) == "$.x breaks the rule's schema (additionalProperties)"
    others = {"additionalProperties": {"type": "integer"}}
    assert found(others, {"c": 1}) is None
    assert found(others, {"c": "x"}) == "$.x.c breaks the rule's schema (type)"
    for different in ([1, "1", True, None, {"a": 1}], [{"a": 1}, {"a": 2}], [[1], [2]]):
        assert found({"uniqueItems": True}, different) is None
    for twice in ([1, 1.0], [{"a": [1], "b": 2}, {"b": 2, "a": [1.0]}], ["x", "x"], [[1], [1.0]]):
        assert found({"uniqueItems": True}, twice) == "$.x breaks the rule's schema (uniqueItems)", twice
    assert found({"uniqueItems": False}, [1, 1]) is None


def test_references_and_patterns_of_one_call_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_schema, "MAX_STEPS", 3)
    schema = {
        "$defs": {"n": {"type": "integer"}, "s": {"$dynamicAnchor": "s", "pattern": "^a"}},
        "properties": {"n": {"$ref": "#/$defs/n"}, "s": {"$dynamicRef": "#s"}, "t": {"pattern": "^a"}},
    }

    def found(**arguments: Any) -> str | None:
        return Constraints(schema=schema).violation(arguments, resolve)

    for _ in range(2):  # each call begins anew
        assert found(n=1, s="a") is None
    assert found(n="x") == "$.n breaks the rule's schema (type)"
    assert found(s="b") == "$.s breaks the rule's schema (pattern)"
    assert found(n=1, s="a", t="a") == "the rule's schema cannot be applied (SchemaTooCostly)"


def test_the_place_of_a_violation_is_shown_to_a_length() -> None:
    schema = {"properties": {"x": {"additionalProperties": {"type": "integer"}}}}

    def found(length: int) -> str | None:
        return Constraints(schema=schema).violation({"x": {"k" * length: "x"}}, resolve)

    assert found(196) == f"$.x.{'k' * 196} breaks the rule's schema (type)"
    assert found(197) == f"$.x.{'k' * 196}... breaks the rule's schema (type)"


@pytest.mark.slow
def test_a_schema_that_doubles_with_each_level_is_given_up() -> None:
    twice = {
        "$defs": {"t": {"anyOf": [{"required": ["no"], "additionalProperties": {"$ref": "#/$defs/t"}}] * 2}}
    }
    value: Any = {}
    for _ in range(50):
        value = {"a": value}
    schema = {**twice, "properties": {"x": {"$ref": "#/$defs/t"}}}
    assert MAX_STEPS == 50_000
    found = Constraints(schema=schema).violation({"x": value}, resolve)
    assert found == "the rule's schema cannot be applied (SchemaTooCostly)"


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"Required": ["path"]}, "Required: no such keyword; did you mean required?"),
        ({"properties": {"n": {"maxlength": 1}}}, "maxlength: no such keyword; did you mean maxLength?"),
        ({"items": [{}]}, "$.items: "),
        ({"not": {"additonalProperties": False}}, "additonalProperties: no such keyword"),
        ({"anyOf": [{"format": "ipv4"}]}, "format: has no effect; use pattern"),
        ({"dependencies": {"a": ["b"]}}, "dependencies: has no effect"),
        ({"$defs": {"a": {"Pattern": "x"}}, "$ref": "#/$defs/a"}, "Pattern: no such keyword"),
        ({"properties": {"a": {"zzz": 1}, "b": True}}, "zzz: no such keyword"),
    ],
)
def test_a_keyword_of_a_schema_that_would_have_no_effect_is_an_error(
    schema: dict[str, Any], fault: str
) -> None:
    assert (schema_fault(schema) or "").startswith(fault)


def test_a_keyword_that_is_like_no_other_is_just_none() -> None:
    assert schema_fault({"zzz": 1}) == "zzz: no such keyword"


def test_values_and_names_of_properties_are_no_keywords() -> None:
    given = {"properties": {"Pattern": {"const": {"Required": 1}}, "format": {"default": {"pattern": "("}}}}
    assert schema_fault({**given, "title": "x", "$comment": "y"}) is None


def test_a_service_without_such_a_policy_does_not_import_jsonschema() -> None:
    program = "import sys, actions.app; sys.exit('jsonschema' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
