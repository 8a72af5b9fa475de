"""Fields of recorded answers, and the three changes that a new version of the daemon may make to one.

Does not know what the answers mean or who reads them.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

Change = Callable[[str, Any], dict[str, Any]]
"""Takes a field's name and value, and gives what stands in its place."""


def _retyped(name: str, _value: Any) -> dict[str, Any]:
    return {name: {"of": {"another": ["type"]}}}


CHANGES: Final[Mapping[str, Change]] = {
    "deleted": lambda _name, _value: {},
    "renamed": lambda name, value: {f"{name}New": value},
    "retyped": _retyped,
}


def fields_of(answers: Mapping[str, Iterable[Any]]) -> list[tuple[str, str]]:
    """List every field of the answers as (call, path); entries of lists share a path."""
    found: dict[tuple[str, str], None] = {}

    def walk(call: str, value: Any, path: str) -> None:
        if isinstance(value, list):
            for entry in value:
                walk(call, entry, path)
        elif isinstance(value, dict):
            for key, inner in value.items():
                here = f"{path}.{key}" if path else key
                found[call, here] = None
                walk(call, inner, here)

    for call, values in answers.items():
        for value in values:
            walk(call, value, "")
    return list(found)


def changed(value: Any, path: str, change: Change) -> Any:
    """Copy an answer with the change made wherever it has the field."""
    if isinstance(value, list):
        return [changed(entry, path, change) for entry in value]
    if not isinstance(value, dict):
        return value
    name, _, inner = path.partition(".")
    copied: dict[str, Any] = {}
    for key, each in value.items():
        if key != name:
            copied[key] = each
        elif inner:
            copied[key] = changed(each, inner, change)
        else:
            copied |= change(key, each)
    return copied
