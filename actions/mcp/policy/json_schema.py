"""JSON Schema 2020-12 for arguments, with bounded work: RE2 patterns, bounded recursion, no remote references. Pure.

Built on jsonschema; the keywords that use Python's `re` or compare all pairs of items are replaced. Imported only for a
policy with a schema: a grammar of IRIs, where one is installed, is compiled with it, longer than all else takes.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry

from actions.mcp.policy.subschemas import SUBSCHEMAS, schemas_in
from exporter.shared.linear import Pattern, PatternError

MAX_STEPS: Final = 50_000
"""References followed and patterns tried for one call, because a schema may refer to itself."""

_KEYWORDS: Final = Draft202012Validator.VALIDATORS
_UNSUPPORTED: Final = {"unevaluatedProperties": "additionalProperties", "unevaluatedItems": "items"}
_WITHOUT_EFFECT: Final = {
    "format": "pattern",
    "contentEncoding": "pattern",
    "contentMediaType": "pattern",
    "contentSchema": "properties",
    "dependencies": "dependentRequired or dependentSchemas",
    "additionalItems": "prefixItems and items",
}
"""Keywords that 2020-12 does not assert, or that older drafts had."""
_ANNOTATIONS: Final = frozenset(
    {
        "$schema", "$id", "$anchor", "$dynamicAnchor", "$comment", "title", "description", "default", "examples",
        "deprecated", "readOnly", "writeOnly", "minContains", "maxContains",
    }
)  # fmt: skip
_steps_left: ContextVar[int] = ContextVar("_steps_left", default=MAX_STEPS)
_BROKEN: Final = "broken"
"""The text of an error. Nothing shows it, as it could hold values: the keyword and the place tell what is wrong."""


class SchemaTooCostly(Exception):
    """Validation took more than MAX_STEPS."""


def schema_fault(schema: Mapping[str, Any]) -> str | None:
    """Return why a rule's schema is invalid, None if it is valid."""
    try:
        Draft202012Validator.check_schema(dict(schema))
        for here in schemas_in(schema):
            for keyword in here:
                if (why := _keyword_fault(keyword)) is not None:
                    return f"{keyword}: {why}"
            for pattern in (
                *here.get("patternProperties", ()),
                *([here["pattern"]] if "pattern" in here else ()),
            ):
                Pattern(pattern)
    except SchemaError as error:
        return f"{error.json_path}: {error.message}"
    except PatternError as error:
        return f"pattern: {error}; patterns are RE2's, without lookaround and back-references"
    return None


def schema_violation(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    """Return the first keyword that is violated and its place, without values; None if there is none."""
    validator = _Validator(dict(schema), registry=Registry())  # fetches nothing
    token = _steps_left.set(MAX_STEPS)
    try:
        error = next(iter(validator.iter_errors(dict(arguments))), None)
    except Exception as fault:  # noqa: BLE001 - a schema that cannot be applied allows nothing
        return f"the rule's schema cannot be applied ({type(fault).__name__})"
    finally:
        _steps_left.reset(token)
    if error is None:
        return None
    path = error.json_path if len(error.json_path) <= 200 else f"{error.json_path[:200]}..."  # noqa: PLR2004 - a line
    return f"{path} breaks the rule's schema ({error.validator})"


def _step() -> None:
    left = _steps_left.get()
    if left <= 0:
        raise SchemaTooCostly
    _steps_left.set(left - 1)


_compiled = functools.cache(Pattern)
"""Patterns of the policy file's schemas, which are few."""


def _found_in(pattern: str, text: str) -> bool:
    _step()
    return _compiled(pattern).found_in(text)


def _counted(
    keyword: str, validator: Any, value: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    _step()
    yield from _KEYWORDS[keyword](validator, value, instance, schema)


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _found_in(pattern, instance):
        yield ValidationError(_BROKEN)


def _pattern_properties(
    validator: Any, properties: Mapping[str, Any], instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, below in properties.items():
        for key, value in instance.items():
            if _found_in(pattern, key):
                yield from validator.descend(value, below, path=key)


def _additional_properties(
    validator: Any, additional: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key, value in instance.items():
        if key in named or any(_found_in(pattern, key) for pattern in patterns):
            continue
        if additional is False:
            yield ValidationError(_BROKEN)
            return
        yield from validator.descend(value, additional, path=key)


def _unique_items(validator: Any, unique: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not unique or not validator.is_type(instance, "array"):
        return
    seen = {json.dumps(_plain(item), sort_keys=True) for item in instance}
    if len(seen) != len(instance):
        yield ValidationError(_BROKEN)


def _plain(value: Any) -> Any:
    """Return 1.0 as 1: numbers of JSON Schema are equal by value."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(child) for key, child in value.items()}
    return [_plain(child) for child in value] if isinstance(value, list) else value


_Validator: Final[Any] = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        "$ref": functools.partial(_counted, "$ref"),
        "$dynamicRef": functools.partial(_counted, "$dynamicRef"),
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
    },
)


def _keyword_fault(keyword: str) -> str | None:
    """Return why a keyword would have no effect. JSON Schema ignores what it does not know, a misspelt one too."""
    if keyword in _UNSUPPORTED:
        return f"not supported, its work is not linear; use {_UNSUPPORTED[keyword]}"
    if keyword in _WITHOUT_EFFECT:
        return f"has no effect; use {_WITHOUT_EFFECT[keyword]}"
    if keyword in _KEYWORDS or keyword in _ANNOTATIONS or keyword in SUBSCHEMAS:
        return None
    near = difflib.get_close_matches(keyword, [*_KEYWORDS, *SUBSCHEMAS])
    return f"no such keyword{f'; did you mean {near[0]}?' if near else ''}"
