"""The schemas inside a JSON Schema, and the properties that they name. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

SUBSCHEMAS: Final = {
    **dict.fromkeys(
        ("items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else"), "one"
    ),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), "list"),
    **dict.fromkeys(("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"), "named"),
}
"""Keywords with schemas in them: one, a list, or by name."""


def schemas_in(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a schema and every schema in it; not values, as those of `const` and `default`."""
    pending = [schema]
    while pending:
        here = pending.pop()
        if not isinstance(here, Mapping):  # true or false
            continue
        yield here
        for keyword, value in here.items():
            match SUBSCHEMAS.get(keyword):
                case "one":
                    pending.append(value)
                case "list":
                    pending.extend(value)
                case "named":
                    pending.extend(value.values())


def property_names(schema: Any) -> Iterator[str]:
    """Yield the names of properties of a schema, at any depth; none where there is no schema."""
    for here in schemas_in(schema):
        yield from here.get("properties", ())
