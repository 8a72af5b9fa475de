"""The errors of the API as RFC 9457 problems: a stable type, the field, the value and the fix.

Does not depend on an HTTP framework. A daemon's error is translated here: the message is kept, the stack is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exporter.llmster.errors import (
    AuthenticationRefused,
    CallFailed,
    DaemonStalled,
    LlmsterError,
    ProtocolViolation,
)

TYPE_PREFIX: Final = "urn:daemonpulse:problem:"

MEDIA_TYPE: Final = "application/problem+json"

MAX_PART_CHARS: Final = 4096
"""Of an error's words, which may be a daemon's."""

TITLES: Final[Mapping[str, tuple[int, str]]] = {
    "bad-request": (400, "The request cannot be read"),
    "unauthorized": (401, "A token is needed"),
    "forbidden": (403, "This token may not do that"),
    "foreign-origin": (403, "A page of another place may not do that"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "This path does not take this method"),
    "does-not-fit": (409, "The model does not fit into the free memory"),
    "instance-exists": (409, "An instance of this name is loaded with another configuration"),
    "instance-busy": (409, "The instance is working"),
    "daemon-refused": (409, "The daemon refused"),
    "not-cancellable": (409, "The operation cannot be cancelled any more"),
    "not-adoptable": (409, "mcp.json cannot be changed as asked"),
    "tool-changed": (409, "The tool is not the one that was seen"),
    "not-pending": (409, "The approval is settled already"),
    "memory-unknown": (409, "The free or needed memory is not known"),
    "disk-full": (409, "The download does not fit on the disk"),
    "cancelled": (409, "The operation was cancelled"),
    "not-verified": (409, "The daemon's state is not what was asked for"),
    "interrupted": (409, "The operation was interrupted before it reached its end"),
    "too-large": (413, "The request is too large"),
    "misdirected": (421, "The Host header is not accepted"),
    "invalid-parameter": (422, "A parameter is not right"),
    "idempotency-key-reused": (422, "This Idempotency-Key belongs to another request"),
    "too-many-failures": (429, "Too many wrong tokens"),
    "too-fast": (429, "Too many commands"),
    "too-many-at-once": (429, "Too many requests at once"),
    "too-many-readers": (429, "Too many live views are open"),
    "internal": (500, "A bug in DaemonPulse"),
    "daemon-unreachable": (503, "The daemon cannot be reached"),
    "exporter-unreachable": (503, "The exporter cannot be read"),
    "mcp-server-unreachable": (503, "The tool server cannot be used"),
    "audit-unavailable": (503, "Nothing is done, because nothing can be recorded"),
    "daemon-unreadable": (503, "The daemon's answer cannot be read"),
    "timeout": (504, "It took too long"),
}
"""Every type, with its status and title. The slug is the stable part: it is never renamed."""


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter in an error's words. The API writes `name=value`, the command line its own flag."""

    name: str
    value: object = None

    def __str__(self) -> str:
        if self.value is None:
            return self.name
        value = str(self.value).lower() if isinstance(self.value, bool) else self.value
        return f"{self.name}={value}"


class Problem(Exception):
    """A refusal or failure in the response. `extra` are further members, such as the numbers behind it.

    The detail is made of text and of parameters, so that each interface can name them in its own words.
    """

    def __init__(
        self, slug: str, *parts: str | Param, headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
        self.slug = slug
        self.status, self.title = TITLES[slug]
        self.parts = tuple(part[:MAX_PART_CHARS] if isinstance(part, str) else part for part in parts)
        self.detail = "".join(map(str, self.parts))
        self.headers = dict(headers or {})
        self.extra = extra
        super().__init__(self.detail)

    def body(self) -> dict[str, Any]:
        """Write the document. `parts` is the detail for clients that have their own names for parameters."""
        parts = [
            part if isinstance(part, str) else {"parameter": part.name, "value": part.value}
            for part in self.parts
        ]
        return {
            "type": TYPE_PREFIX + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **({"parts": parts} if any(isinstance(part, dict) for part in parts) else {}),
            **self.extra,
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Problem:
        """Read back what `body` wrote, as it is stored with an operation."""
        own = {"type", "title", "status", "detail", "parts"}
        parts = [
            part if isinstance(part, str) else Param(str(part["parameter"]), part["value"])
            for part in body.get("parts", [str(body["detail"])])
        ]
        extra = {key: value for key, value in body.items() if key not in own}
        return cls(str(body["type"]).removeprefix(TYPE_PREFIX), *parts, **extra)


def invalid(parameter: str, value: object, *fix: str | Param) -> Problem:
    """Say which parameter is wrong."""
    return Problem("invalid-parameter", Param(parameter, value), ": ", *fix, parameter=parameter)


def not_found(kind: str, name: str, known: tuple[str, ...] = ()) -> Problem:
    """Say what is not there, and what is."""
    some = f"; there is {', '.join(one[:200] for one in known[:10])}" if known else ""
    return Problem("not-found", f"{kind} {name[:200]} is not known{some}", kind=kind, name=name[:200])


def forbidden(action: str, *, actor: str, has: str, needs: str) -> Problem:
    """Say that a scope is too low, and how to get one that is enough."""
    return Problem(
        "forbidden",
        f"{action} needs scope {needs}, and {actor} has {has}; "
        f"make a token with: daemonpulse actions token new --scope {needs}",
        needs=needs,
        has=has,
    )


def unrecordable(error: Exception) -> Problem:
    """Say that nothing is done because nothing can be recorded."""
    return Problem("audit-unavailable", f"{error}; free some space or make it writable")


def from_daemon(error: LlmsterError, *, daemon: str) -> Problem:
    """Translate what a daemon, or the lack of one, answered."""
    match error:
        case CallFailed():
            return Problem("daemon-refused", f"daemon {daemon}: {error}", daemon=daemon, code=error.code)
        case AuthenticationRefused():
            fix = "give the actions API the daemon's token (daemon_token_file)"
            return Problem(
                "daemon-unreachable", f"daemon {daemon} refuses the connection: {error}; {fix}", daemon=daemon
            )
        case DaemonStalled():
            return Problem("timeout", f"daemon {daemon} does not answer: {error}", daemon=daemon)
        case ProtocolViolation():
            return Problem("daemon-unreadable", f"daemon {daemon}: {error}", daemon=daemon)
        case _:
            return Problem("daemon-unreachable", f"daemon {daemon}: {error}", daemon=daemon)
