"""The errors of talking to a daemon, as one tree.

`kind` is a short stable word that callers may count or print.

LlmsterError
 ├── DaemonUnreachable      nothing accepts connections there (refused, no route, unknown host)
 ├── NotLlmster             something accepts, but does not let an LM Studio client in
 │   ├── UpgradeRefused     it answers the WebSocket upgrade with an HTTP status
 │   └── TlsFailed          it does not speak TLS, or its certificate is not trusted
 ├── AuthenticationRefused  the daemon answers and refuses the identity or token
 ├── DaemonStalled          the daemon accepted and then did not answer in time
 ├── ConnectionLost         a socket that worked went away
 ├── ProtocolViolation      the daemon sent what no version of the protocol allows
 └── CallFailed             the daemon answered a call with an error
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
    """No connection could be opened: refused, unroutable, unknown host, timeout of TCP, closed without a byte."""

    kind = "unreachable"


class NotLlmster(LlmsterError):
    """The address accepts connections and does not speak LM Studio's protocol (a proxy, another server)."""

    kind = "not_llmster"


class UpgradeRefused(NotLlmster):
    """The WebSocket upgrade was answered with an HTTP status.

    Source: the official wire framework rejects an upgrade with a bare 403; a proxy may answer 502 or 503.
    """

    kind = "upgrade_refused"


class TlsFailed(NotLlmster):
    """TLS could not be agreed on: the port speaks plain HTTP, or the certificate is not trusted."""

    kind = "tls"


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
