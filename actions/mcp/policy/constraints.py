"""Constraints on arguments: a JSON Schema, paths below roots, hosts on a list. Pure. Doubtful arguments are refused.

The policy names the arguments that hold paths or hosts. A violation names the argument without its value, because it
goes into the audit.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import urlsplit

from actions.mcp.identifiers import normal_path, path_fault
from actions.mcp.policy.subschemas import property_names
from exporter.shared.linear import Pattern

MAX_DEPTH: Final = 64
"""Arguments nested deeper are refused, to bound recursion."""

MAX_NODES: Final = 100_000
"""Number of values of one call, at all depths together."""

_NUMBER_CHARS: Final = 8
_MAX_BITS: Final = 1_024
"""As many as a double has. Python formats integers in quadratic time."""

MAX_VALUES: Final = 1_000
"""Paths and hosts of one call. Each path costs a look at the file system."""

_MAX_KEY: Final = 1_000
_MAX_URL: Final = 8_192
_CONTROL: Final = Pattern(r"[\x00-\x20\x7f]")
_JSON_BEGINS: Final = ("{", "[")
TEXT: Final[Mapping[str, Any]] = {"type": "string"}
NOTHING_DECLARED: Final[Mapping[str, Any]] = {}
_HOST: Final = Pattern(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|[0-9a-f:.]+")

Resolve = Callable[[str], str]
"""Resolves symbolic links, as `os.path.realpath` does. Raises OSError, ValueError."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """Requirements of one rule on the arguments.

    A rule with constraints is closed: an argument that it does not name is refused unless the tool's own schema
    declares it or `other_arguments` lists it. Other spellings of a named argument (case, blanks, `_`, `-`) are refused.
    """

    schema: Mapping[str, Any] | None = None
    path_arguments: tuple[str, ...] = ()
    """Names of arguments that hold paths, at any depth. Everything below such a name is a path, keys too."""
    path_roots: tuple[str, ...] = ()
    host_arguments: tuple[str, ...] = ()
    """Names of arguments that hold URLs or host names."""
    hosts: tuple[str, ...] = ()
    """Globs; `*.example.org` does not include `example.org`."""
    other_arguments: tuple[str, ...] = ()
    """Names of further arguments that a call may have."""

    @property
    def is_empty(self) -> bool:
        """Whether there are no constraints."""
        return self.schema is None and not self.path_arguments and not self.host_arguments

    @property
    def reads_files(self) -> bool:
        """Whether `violation` reads the file system; run it in a thread then."""
        return bool(self.path_arguments)

    def normal(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with paths normalised: the form that is decided about and sent upstream."""
        names = frozenset(self.path_arguments)
        normalised = {key: _normal(value, names, below=key in names) for key, value in arguments.items()}
        return normalised if names else dict(arguments)

    def violation(
        self, arguments: Mapping[str, Any], resolve: Resolve, declared: Mapping[str, Any] = NOTHING_DECLARED
    ) -> str | None:
        """Return the first violation, None if there is none. `declared` are the properties of the tool's own schema."""
        if self.is_empty:
            return None
        return (
            self._key_violation(arguments, declared)
            or _hidden_json(arguments, {**declared, **dict.fromkeys(self._named, TEXT)})
            or self._schema_violation(arguments)
            or self._each(arguments, self.path_arguments, declared, self._path_judge(resolve))
            or self._each(arguments, self.host_arguments, declared, self._host_fault)
        )

    def _schema_violation(self, arguments: Mapping[str, Any]) -> str | None:
        if self.schema is None:
            return None
        from actions.mcp.policy.json_schema import schema_violation  # noqa: PLC0415 - see there

        return schema_violation(self.schema, arguments)

    @property
    def _named(self) -> frozenset[str]:
        return frozenset((*self.path_arguments, *self.host_arguments))

    def _key_violation(self, arguments: Mapping[str, Any], declared: Mapping[str, Any]) -> str | None:
        """Refuse unknown keys, and at any depth other spellings of a named key."""
        properties = self.schema.get("properties", {}) if self.schema is not None else {}
        required = self.schema.get("required", []) if self.schema is not None else []
        named = self._named
        known = {*named, *declared, *self.other_arguments, *properties, *required}
        is_open = self.schema is not None and self.schema.keys() & {
            "additionalProperties",
            "patternProperties",
        }
        if not is_open and (unknown := arguments.keys() - known):
            return f"{_shown(min(unknown))}: is neither in the rule nor in the tool's schema"
        judged = {*named, *property_names(self.schema)}
        exact = {*judged, *self.other_arguments}
        spelt = {_folded(name): name for name in judged}
        for key in _keys(arguments):
            if len(key) > _MAX_KEY:
                return f"{_shown(key)}: is a key of more than {_MAX_KEY} characters"
            name = spelt.get(_folded(key)) if key not in exact else None
            if name is not None:
                return f"{_shown(key)}: is spelt {name} in the rule"
        return None

    @staticmethod
    def _each(
        arguments: Mapping[str, Any],
        names: tuple[str, ...],
        declared: Mapping[str, Any],
        fault_of: Callable[[str], str | None],
    ) -> str | None:
        if not names:
            return None
        wanted = frozenset(names)
        at_top = wanted & declared.keys()  # not made up for by a nested one: the server's default is unknown
        missing = at_top or wanted
        for count, (top, name, value) in enumerate(named(arguments, wanted), 1):
            if top == name or not at_top:
                missing -= {name}
            if count > MAX_VALUES:
                return f"{name}: has more than {MAX_VALUES} values"
            if not isinstance(value, str):
                return f"{name}: must be text"
            fault = fault_of(value)
            if fault is not None:
                return f"{name}: {fault}"
        if missing:
            return f"{min(missing)}: is not given"
        return None

    def _path_judge(self, resolve: Resolve) -> Callable[[str], str | None]:
        roots: list[str] = []

        def fault_of(path: str) -> str | None:
            fault = path_fault(path)
            if fault is not None:
                return fault
            try:
                if not roots:
                    roots.extend(resolve(root) for root in self.path_roots)
                real = resolve(path)
            except (OSError, ValueError):
                return "cannot be resolved"
            if not any(is_below(real, root) for root in roots):
                return f"leads outside {', '.join(self.path_roots) or 'every root'}"
            return None

        return fault_of

    def _host_fault(self, text: str) -> str | None:
        host = host_of(text)
        if host is None:
            return "must be an http(s) URL or a host name, without a user name"
        if not any(fnmatchcase(host, pattern.lower()) for pattern in self.hosts):
            return f"is not at one of {', '.join(self.hosts) or 'no hosts'}"
        return None


UNCONSTRAINED: Final = Constraints()


def is_below(path: str, root: str) -> bool:
    """Tell whether an absolute, resolved path is the root or below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def host_of(text: str) -> str | None:
    """Return the host of a URL or a bare host name, in lower case; None if it is ambiguous."""
    if len(text) > _MAX_URL or "\\" in text or text != text.strip() or not text.isascii():
        return None
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not host or "@" in parts.netloc:
        return None
    if any(ord(char) < ord(" ") or char == "\x7f" for char in text) or _CONTROL.found_in(parts.netloc):
        return None
    host = host.removesuffix(".")
    return host if len(host) <= 253 and _HOST.is_all_of(host) else None  # noqa: PLR2004 - RFC 1035, 2.3.4


def named(arguments: Mapping[str, Any], names: frozenset[str]) -> Iterator[tuple[str, str, Any]]:
    """Walk arguments; yield every leaf and key below one of the names, with the argument and that name."""
    pending: list[tuple[str, Any, str | None]] = [
        (key, value, key if key in names else None) for key, value in arguments.items()
    ]
    while pending:
        top, here, below = pending.pop()
        if isinstance(here, Mapping):
            if below is not None:
                yield from ((top, below, key) for key in here)
            pending.extend(
                (top, child, below if below is not None else str(key) if key in names else None)
                for key, child in here.items()
            )
        elif isinstance(here, list):
            pending.extend((top, child, below) for child in here)
        elif below is not None:
            yield top, below, here


def _hidden_json(arguments: Mapping[str, Any], declared: Mapping[str, Any]) -> str | None:
    """Refuse a text in place of an object or a list: FastMCP and others read JSON in it, whose keys were not judged."""
    for key, value in arguments.items():
        if (
            isinstance(value, str)
            and value.lstrip()[:1] in _JSON_BEGINS
            and not _takes_text(declared.get(key))
        ):
            return f"{_shown(key)}: is a text in place of an object or a list"
    return None


def _takes_text(schema: Any) -> bool:
    """Tell whether a property of a tool's schema takes text."""
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ())] if isinstance(schema, Mapping) else []
    return (
        kind == "string" or (isinstance(kind, list) and "string" in kind) or any(map(_takes_text, branches))
    )


def measure(arguments: Mapping[str, Any]) -> tuple[int, str | None, int]:
    """Return the approximate number of characters, why the arguments are refused, else None, and the number of values.

    No recursion. Bounds depth and number of values for all later work.
    """
    chars = count = 0
    level: list[Any] = [arguments]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for one in level:
            if isinstance(one, Mapping):
                chars += sum(len(key) for key in one)
                children: Iterable[Any] = one.values()
            elif isinstance(one, list):
                children = one
            else:
                chars += len(one) if isinstance(one, str) else _NUMBER_CHARS
                if isinstance(one, int) and one.bit_length() > _MAX_BITS:
                    return chars, f"the arguments have a number of more than {_MAX_BITS} bits", count
                continue
            count += len(one)
            if count > MAX_NODES:
                return chars, f"the arguments have more than {MAX_NODES} values", count
            below.extend(children)
        if not below:
            return chars, None, count
        level = below
    return chars, f"the arguments are nested deeper than {MAX_DEPTH}", count


def _keys(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        here = pending.pop()
        if isinstance(here, Mapping):
            yield from here
            pending.extend(here.values())
        elif isinstance(here, list):
            pending.extend(here)


def _folded(key: str) -> str:
    """Return a key as a lenient server could read it: letters and digits in one case."""
    return "".join(char for char in unicodedata.normalize("NFKC", key).casefold() if char.isalnum())


def _shown(key: str) -> str:
    """Return a caller's key for an error message: short and printable."""
    return "".join(char if char.isprintable() else "?" for char in key[:60])


def _normal(value: Any, names: frozenset[str], *, below: bool) -> Any:
    if isinstance(value, Mapping):
        return {
            (_normal_path(key) if below else key): _normal(child, names, below=below or key in names)
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [_normal(child, names, below=below) for child in value]
    return _normal_path(value) if below and isinstance(value, str) else value


def _normal_path(text: str) -> str:
    return normal_path(text) if path_fault(text) is None else text
