"""Check client parameters and word the mistakes the way the daemon's validator does.

Does not depend on endpoints; a checker takes a value and a path and yields one line per mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Check = Callable[[Any, str], Iterator[str]]


class _Absent:
    """A key that is not there: JavaScript's undefined, which is not null."""

    def __repr__(self) -> str:
        return "undefined"

    def __bool__(self) -> bool:
        return False


ABSENT = _Absent()


def name_of(value: object) -> str:
    """Give the validator's word for a value's type."""
    if isinstance(value, _Absent):
        return "undefined"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _wrong(path: str, wanted: str, value: object) -> str:
    if value is ABSENT:
        return f"- {path}: Required"
    return f"- {path}: Expected {wanted}, received {name_of(value)}"


def nothing(word: str) -> Check:
    """Require an absent key; `word` is `undefined` or `void`, whichever the schema says."""

    def check(value: Any, path: str) -> Iterator[str]:
        if value is not ABSENT:
            yield f"- {path}: Expected {word}, received {name_of(value)}"

    return check


def _simple(wanted: str) -> Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if name_of(value) != wanted:
            yield _wrong(path, wanted, value)

    return check


string = _simple("string")
boolean = _simple("boolean")


def anything(_value: Any, _path: str) -> Iterator[str]:
    """Accept every value."""
    return iter(())


def integer(*, least: int | None = None) -> Check:
    """Require a whole number, at least `least` when given."""

    def check(value: Any, path: str) -> Iterator[str]:
        if name_of(value) != "number":
            yield _wrong(path, "number", value)
        elif value % 1 != 0:
            yield f"- {path}: Expected integer, received float"
        elif least is not None and value < least:
            yield f"- {path}: Number must be greater than or equal to {least}"

    return check


def optional(check: Check, *, nullable: bool = False) -> Check:
    """Allow an absent key, and null too when `nullable`."""

    def inner(value: Any, path: str) -> Iterator[str]:
        if value is ABSENT or (nullable and value is None):
            return
        yield from check(value, path)

    return inner


def record(fields: Mapping[str, Check]) -> Check:
    """Require an object with these fields; unknown keys are ignored, as the daemon does."""

    def check(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield _wrong(path, "object", value)
            return
        for name, inner in fields.items():
            yield from inner(value.get(name, ABSENT), f"{path}.{name}")

    return check


def array(item: Check) -> Check:
    """Require a list of values that all pass `item`."""

    def check(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield _wrong(path, "array", value)
            return
        for index, inner in enumerate(value):
            yield from item(inner, f"{path}.{index}")

    return check


def one_of(key: str, shapes: Mapping[str, Check]) -> Check:
    """Require an object whose `key` picks the shape."""

    def check(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield _wrong(path, "object", value)
            return
        choice = value.get(key)
        if not isinstance(choice, str) or choice not in shapes:
            expected = " | ".join(f"'{name}'" for name in shapes)
            yield f"- {path}.{key}: Invalid discriminator value. Expected {expected}"
            return
        yield from shapes[choice](value, path)

    return check


SPECIFIER = one_of(
    "type",
    {
        "query": record(
            {
                "query": record(
                    {
                        "domain": optional(string),
                        "deviceIdentifier": optional(string, nullable=True),
                        "identifier": optional(string),
                        "path": optional(string),
                        "vision": optional(boolean),
                    }
                )
            }
        ),
        "instanceReference": record({"instanceReference": string}),
    },
)
CONFIG_STACK = record(
    {
        "layers": array(
            record({"layerName": string, "config": record({"fields": array(record({"key": string}))})})
        )
    }
)
HISTORY = record({"messages": array(record({"role": string, "content": array(record({"type": string}))}))})
