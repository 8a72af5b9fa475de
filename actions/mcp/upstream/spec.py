"""The specification of an upstream server: transport, limits, tokens, and its description without secrets.

Frozen data without I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from actions.mcp.redaction import redact_command

PATH_PREFIX: Final = "/mcp/"
"""Prefix of the servers' paths on the gate. Below it the MCP SDK limits request bodies."""
_LEAST_PLACES: Final = 384
LOOK_PLACES: Final = 64
"""Lists and completions of one server at once, of all tokens; one alone gets two thirds."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names that need no escaping in paths, labels and logs."""


@dataclass(frozen=True, slots=True)
class Stdio:
    """A program with MCP on standard input and output."""

    command: str
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to a minimal environment (HOME, PATH...). The gate's own environment is not inherited."""
    cwd: str | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must never be shown."""
        return tuple(self.env.values())

    def shown(self) -> dict[str, Any]:
        """Describe without secrets: names of variables without values."""
        return {
            "transport": "stdio",
            "command": redact_command([self.command, *self.args]),
            "env": sorted(self.env),
        }


@dataclass(frozen=True, slots=True)
class Http:
    """A server at a URL, over streamable HTTP."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must never be shown."""
        words = [word for value in self.headers.values() for word in (value, value.rpartition(" ")[2])]
        return tuple(word for word in words if word)

    def shown(self) -> dict[str, Any]:
        """Describe without secrets: a URL without user and query, names of headers."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return {
            "transport": "http",
            "url": f"{parts.scheme}://{host}{parts.path}",
            "headers": sorted(self.headers),
        }


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one server."""

    start_timeout_s: float = 60.0
    """Long, because `npx` may download a package first."""
    call_timeout_s: float = 120.0
    idle_s: float = 600.0
    """Idle time after which the server is stopped."""
    output_cap_bytes: int = 1_000_000
    """Of one result; about 250,000 tokens."""
    calls_per_minute: float = 600.0
    """Of one token."""
    concurrent_calls: int = 256
    """Of one token."""
    breaker_failures: int = 5
    breaker_open_s: float = 30.0
    approval_timeout_s: float = 50.0
    """Assumed: the daemon's MCP client is the official TypeScript one, whose request timeout is 60 s."""

    @property
    def places(self) -> int:
        """Calls of all tokens at once: one token with all of its calls leaves some for others."""
        return max(_LEAST_PLACES, self.concurrent_calls * 3 // 2)


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One server."""

    name: str
    reach: Stdio | Http
    limits: Limits = Limits()
    tokens: tuple[str, ...] | None = None
    """Names of the tokens that may use it; None for all."""
    adopted: bool = False
    """Whether it was adopted from mcp.json."""

    def admits(self, token: str) -> bool:
        """Tell whether this token may use the server."""
        return self.tokens is None or token in self.tokens
