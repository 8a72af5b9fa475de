"""What arguments must be: a JSON Schema, paths below roots, hosts on a list. Pure, and closed where it is in doubt.

Knows no tool: the policy names the arguments that are paths or hosts. A violation names the argument, never its value,
because it goes into the audit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry

MAX_DEPTH: Final = 64
"""Arguments nested deeper are refused: no tool needs it, and recursion has an end."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ENCODED: Final = re.compile(r"%(2e|2f|5c|00)", re.IGNORECASE)
_DISGUISED: Final = re.compile(r"^[\s\ufeff'\"]|[\s\ufeff'\"]\Z|^[\s\ufeff'\".]+\Z")
"""Tool servers trim and unquote before they look: server-filesystem's normalizePath() does both.

JavaScript's trim() takes every blank of Unicode and the byte order mark.
"""

_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*|[0-9a-f:.]+")


@dataclass(frozen=True, slots=True)
class Constraints:
    """What one rule asks of the arguments; everything empty asks nothing."""

    schema: Mapping[str, Any] | None = None
    path_arguments: tuple[str, ...] = ()
    """Names of arguments that hold paths, at any depth; everything below such a name is a path."""
    path_roots: tuple[str, ...] = ()
    host_arguments: tuple[str, ...] = ()
    """Names of arguments that hold URLs or host names."""
    hosts: tuple[str, ...] = ()
    """Globs; `*.example.org` does not include `example.org`."""

    @property
    def reads_files(self) -> bool:
        """Whether judging looks at the file system, and should not hold up the event loop."""
        return bool(self.path_arguments)

    def violation(self, arguments: Mapping[str, Any], resolve: Callable[[str], str]) -> str | None:
        """Say which constraint is broken, None if none is."""
        return (
            self._schema_violation(arguments)
            or self._each(arguments, self.path_arguments, lambda text: self._path_fault(text, resolve))
            or self._each(arguments, self.host_arguments, self._host_fault)
        )

    def _schema_violation(self, arguments: Mapping[str, Any]) -> str | None:
        if self.schema is None:
            return None
        validator = Draft202012Validator(self.schema, registry=Registry())  # fetches nothing
        try:
            error = next(iter(validator.iter_errors(dict(arguments))), None)
        except Exception as fault:  # noqa: BLE001 - a schema that cannot be applied holds for nothing
            return f"the rule's schema cannot be applied ({type(fault).__name__})"
        if error is None:
            return None
        return f"{error.json_path} breaks the rule's schema ({error.validator})"

    @staticmethod
    def _each(
        arguments: Mapping[str, Any], names: tuple[str, ...], fault_of: Callable[[str], str | None]
    ) -> str | None:
        if not names:
            return None
        found = False
        for name, value in named(arguments, frozenset(names)):
            found = True
            if not isinstance(value, str):
                return f"{name}: must be text"
            fault = fault_of(value)
            if fault is not None:
                return f"{name}: {fault}"
        if not found:  # a server's own default would be out of our sight
            return f"none of {', '.join(names)} is given"
        return None

    def _path_fault(self, path: str, resolve: Callable[[str], str]) -> str | None:
        if not path.startswith("/"):
            return "must be an absolute path"
        if _CONTROL.search(path) or "\\" in path or _ENCODED.search(path):
            return "has characters that servers read differently"
        for part in path.split("/"):
            if part not in {"", ".", ".."} and _DISGUISED.search(part):
                return "has a part that servers read differently"
        try:
            real = resolve(path)
            roots = [resolve(root) for root in self.path_roots]
        except (OSError, ValueError):
            return "cannot be resolved"
        if not any(is_below(real, root) for root in roots):
            return f"leads outside {', '.join(self.path_roots) or 'every root'}"
        return None

    def _host_fault(self, text: str) -> str | None:
        host = host_of(text)
        if host is None:
            return "must be an http(s) URL or a host name, without a user name"
        if not any(fnmatchcase(host, pattern.lower()) for pattern in self.hosts):
            return f"is not at one of {', '.join(self.hosts) or 'no hosts'}"
        return None


UNCONSTRAINED: Final = Constraints()


def check_schema(schema: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a rule's schema, None if nothing is."""
    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        return f"{error.json_path}: {error.message}"
    return None


def is_below(path: str, root: str) -> bool:
    """Tell whether an absolute, resolved path is the root or below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def host_of(text: str) -> str | None:
    """Find the host of a URL or a bare host name, in lower case; None for what could be read in two ways."""
    if _CONTROL.search(text) or "\\" in text or text != text.strip() or not text.isascii():
        return None
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not host or "@" in parts.netloc:
        return None
    host = host.removesuffix(".")
    return host if _HOST.fullmatch(host) else None


def named(value: Any, names: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """Walk JSON; yield every leaf that lies below one of the names, with that name."""
    pending: list[tuple[Any, str | None]] = [(value, None)]
    while pending:
        here, below = pending.pop()
        if isinstance(here, Mapping):
            pending.extend(
                (child, below if below is not None else str(key) if key in names else None)
                for key, child in here.items()
            )
        elif isinstance(here, list):
            pending.extend((child, below) for child in here)
        elif below is not None:
            yield below, here


def is_deeper(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Tell whether JSON is nested deeper, without recursion."""
    level = [value]
    for _ in range(depth):
        level = [
            child
            for one in level
            if isinstance(one, Mapping | list)
            for child in (one.values() if isinstance(one, Mapping) else one)
        ]
        if not level:
            return False
    return True
