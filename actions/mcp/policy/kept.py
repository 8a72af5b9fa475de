"""Writes the part of a policy file that is kept for a restart: rules, limits, and servers without secrets. Pure.

A value of `env` or `headers` is kept only as a reference, `${NAME}`, which is resolved when it is read again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from actions.mcp.policy.file_format import PolicyError
from actions.mcp.redaction import redact_command
from actions.mcp.upstream.spec import Http
from exporter.shared.linear import Pattern

_REACH: Final = frozenset({"command", "args", "env", "cwd", "url", "headers"})
_REFERENCE: Final = Pattern(r"(?:(?:Basic|Bearer|Token) )?\$\{[A-Za-z_][A-Za-z0-9_]*\}")


def to_keep(document: Mapping[str, Any]) -> str:
    """Return the kept part of a valid document. Raises PolicyError for values that JSON does not have."""
    servers = document.get("servers", {})
    left_out = sorted(name for name, table in servers.items() if not _may_be_kept(table))
    # A server that is left out admits no token, so that an adopted one of its name does not take its place.
    tables = {
        name: _without_reach(table) | {"tokens": []} if name in left_out else table
        for name, table in servers.items()
    }
    try:
        return json.dumps({"policy": {**document, "servers": tables}, "left_out": left_out})
    except TypeError:
        raise PolicyError("rules: a schema has a date or a time; write text") from None


def from_kept(kept: str) -> tuple[Mapping[str, Any], list[str]]:
    """Read a kept document, and the names of the servers that were left out. Raises PolicyError."""
    try:
        found = json.loads(kept)
        return found["policy"], found["left_out"]
    except (ValueError, KeyError, TypeError) as error:
        raise PolicyError(f"it cannot be read ({type(error).__name__})") from None


def _without_reach(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in _REACH}


def _may_be_kept(table: Mapping[str, Any]) -> bool:
    """Tell whether a server's command, URL, env and headers hold no visible secret."""
    values = [*table.get("env", {}).values(), *table.get("headers", {}).values()]
    words = [table.get("command", ""), *table.get("args", ())]
    url = table.get("url")
    return (
        all(_REFERENCE.is_all_of(value) for value in values)
        and redact_command(words) == words
        and (url is None or Http(url).shown()["url"] == url)
    )
