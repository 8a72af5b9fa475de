"""The keys of mcp.toml and their types for msgspec. Unknown keys and wrong types are errors with the key's name.

file.py builds the policy from them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from actions.mcp.policy.rules import Decision
from actions.mcp.upstream.spec import Limits

Text = Annotated[str, Meta(min_length=1)]
Texts = tuple[Text, ...]
Seconds = Annotated[float, Meta(gt=0, lt=1e12)]
Whole = Annotated[int, Meta(gt=0, lt=10**12)]

S = TypeVar("S", bound=Struct)


class PolicyError(Exception):
    """The policy file is invalid. The message is one line: file, key, and the fix."""


class Paths(Struct, frozen=True, forbid_unknown_fields=True):
    """`paths` of a rule."""

    arguments: Texts = ()
    roots: Texts = ()


class Hosts(Struct, frozen=True, forbid_unknown_fields=True):
    """`hosts` of a rule."""

    arguments: Texts = ()
    allowed: Texts = ()


class RuleTable(Struct, frozen=True, forbid_unknown_fields=True):
    """One of `[[rules]]`."""

    decision: Decision
    name: Text | UnsetType = UNSET
    server: Text = "*"
    tool: Text | UnsetType = UNSET
    prompt: Text | UnsetType = UNSET
    resource: Text | UnsetType = UNSET
    token: Text = "*"  # noqa: S105 - a glob
    schema: dict[str, Any] | UnsetType = UNSET
    paths: Paths = Paths()
    hosts: Hosts = Hosts()
    other_arguments: Texts = ()


class ServerTable(Struct, frozen=True, forbid_unknown_fields=True):
    """One of `[servers.NAME]`."""

    command: Text | UnsetType = UNSET
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: Text | UnsetType = UNSET
    url: Text | UnsetType = UNSET
    headers: dict[str, str] = {}
    tokens: Texts | UnsetType = UNSET
    start_timeout_s: Seconds | UnsetType = UNSET
    call_timeout_s: Seconds | UnsetType = UNSET
    idle_s: Seconds | UnsetType = UNSET
    output_cap_bytes: Whole | UnsetType = UNSET
    calls_per_minute: Seconds | UnsetType = UNSET
    concurrent_calls: Whole | UnsetType = UNSET
    breaker_failures: Whole | UnsetType = UNSET
    breaker_open_s: Seconds | UnsetType = UNSET
    approval_timeout_s: Seconds | UnsetType = UNSET

    @property
    def limits(self) -> Limits:
        """The limits that are given, and the defaults of the others."""
        given = {one.name: getattr(self, one.name) for one in fields(Limits)}
        return Limits(**{name: value for name, value in given.items() if value is not UNSET})


class Document(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; tables of servers and rules are read one by one."""

    default: Decision = Decision.ASK
    default_prompt: Decision = Decision.ALLOW
    default_resource: Decision = Decision.ALLOW
    capture_arguments: bool = False
    mcp_json: Text | UnsetType = UNSET
    servers: dict[str, Any] = {}
    rules: tuple[Any, ...] = ()


_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*?)`")
_MISSING: Final = re.compile(r"Object missing required field `(.*?)`")
_PLACE: Final = re.compile(r" - at `\$\.?(.*)`$")
_FIXES: Final = (
    ("Expected `int`", "write a whole number above 0"),
    ("Expected `float`", "write a number above 0"),
    ("Expected `str`", "write text"),
    ("Expected `bool`", "write true or false"),
    ("Expected `array`", "write a list of texts"),
    ("Expected `object`", "write a table"),
    ("Invalid enum value", "write allow, deny or ask"),
)


def read_table(table: Any, kind: type[S], where: str) -> S:
    """Read one table. Raises PolicyError, which names the key, what to write, and the key that was perhaps meant."""
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise PolicyError(_explained(str(error), kind, where)) from None


def _explained(words: str, kind: type[Struct], where: str) -> str:
    place = _PLACE.search(words)
    below = place[1] if place is not None else ""
    key = ".".join(part for part in (where, below) if part).replace("[...]", "")
    if (unknown := _UNKNOWN.search(words)) is not None:
        known = _keys_at(kind, below)
        near = difflib.get_close_matches(unknown[1], known, 1, 0.6)
        meant = f"; did you mean {near[0]}?" if near else ""
        return f"{key}.{unknown[1]}: no such key{meant}; known: {', '.join(sorted(known))}".lstrip(".")
    if (missing := _MISSING.search(words)) is not None:
        return f"{key}.{missing[1]}: is missing: write allow, deny or ask".lstrip(".")
    if key == "rules":
        return "rules: write each as [[rules]]"
    fix = next(
        (fix for begin, fix in _FIXES if words.startswith(begin)), words.split(" - at ", maxsplit=1)[0]
    )
    return f"{key or 'the file'}: {fix}"


def _keys_at(kind: type[Struct], below: str) -> list[str]:
    """Name the keys of a table, or of the table below it that a path leads to."""
    nested: Mapping[str, type[Struct]] = {"paths": Paths, "hosts": Hosts}
    return [one.name for one in msgspec.structs.fields(nested.get(below, kind))]
