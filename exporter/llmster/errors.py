"""What can go wrong between us and a daemon, as one tree.

Knows no metric: `kind` is a short stable word that callers may count or print.

LlmsterError
 ├── DaemonUnreachable      nothing accepts connections there (refused, no route, unknown host, bad TLS)
 ├── NotLlmster             something answers, but it is not an LM Studio server
 ├── AuthenticationRefused  the daemon answers and refuses our identity or token
 ├── DaemonStalled          the daemon accepted and then left us waiting too long
 ├── ConnectionLost         a socket that worked went away
 ├── ProtocolViolation      the daemon sent what no version of the protocol allows
 └── CallFailed             the daemon answered our call with an error of its own
"""

from __future__ import annotations

import copy
from typing import ClassVar, Self


class LlmsterError(Exception):
    """Base of everything this package raises on purpose."""

    kind: ClassVar[str] = "error"

    def anew(self) -> Self:
        """Copy it without the way it came, for an error that is kept and raised again and again.

        Python adds to an exception's traceback each time it is raised, and a traceback keeps every frame alive.
        """
        return copy.copy(self)


class DaemonUnreachable(LlmsterError):
    """No connection could be opened: refused, unroutable, unknown host, timeout of TCP, TLS mismatch."""

    kind = "unreachable"


class NotLlmster(LlmsterError):
    """The address answers, but not with LM Studio's protocol (a proxy, another server, a wrong port)."""

    kind = "not_llmster"


class AuthenticationRefused(LlmsterError):
    """The handshake answered `success: false`; the daemon's own words are the message."""

    kind = "auth"


class DaemonStalled(LlmsterError):
    """The daemon accepted a connection or a call and did not answer within the allowed time."""

    kind = "stalled"


class ConnectionLost(LlmsterError):
    """An authenticated socket closed or broke while it was in use."""

    kind = "lost"


class ProtocolViolation(LlmsterError):
    """A result that cannot be read as what its schema promises."""

    kind = "violation"


class CallFailed(LlmsterError):
    """An `rpcError` or `channelError`, translated: the daemon's title and code, never its stack.

    Source: error object of the official wire schema, `{title, rootTitle?, cause?, suggestion?, displayData?}`.
    """

    kind = "call_failed"

    def __init__(
        self, title: str, *, code: str | None = None, cause: str | None = None, suggestion: str | None = None
    ) -> None:
        self.title = title
        self.code = code
        self.cause = cause
        self.suggestion = suggestion
        super().__init__(" ".join(part.strip() for part in (title, cause, suggestion) if part))
