"""How many MCP sessions each token has on one server: beyond its share, its own oldest session is ended.

Pure, with the clock handed in. Does not know HTTP; http_server.py tells what it sees of sessions.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_SESSIONS: Final = 1_000
"""Of clients of the older protocol, per server."""

MAX_SESSIONS_OF_TOKEN: Final = 100
"""So that one token leaves the others their sessions."""

SESSION_IDLE_S: Final = 1_800.0


class SessionLimits:
    """The sessions of one server, by owner, the one unused for longest first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: dict[str, OrderedDict[str, float]] = {}

    def used(self, owner: str, session_id: str) -> None:
        """Take note that a session was opened or used."""
        sessions = self._of.setdefault(owner, OrderedDict())
        sessions[session_id] = self._clock()
        sessions.move_to_end(session_id)

    def ended(self, owner: str, session_id: str) -> None:
        """Take note that a session is no more."""
        sessions = self._of.get(owner)
        if sessions is not None:
            sessions.pop(session_id, None)
            if not sessions:
                del self._of[owner]

    def surplus(self, owner: str) -> str | None:
        """Return the session that must end before this owner opens another, None if none must."""
        sessions = self._of.get(owner, OrderedDict())
        for session_id, used_at in list(sessions.items()):
            if self._clock() - used_at < SESSION_IDLE_S:
                break
            self.ended(owner, session_id)  # the SDK has ended it by itself
        return next(iter(sessions)) if len(sessions) >= MAX_SESSIONS_OF_TOKEN else None
