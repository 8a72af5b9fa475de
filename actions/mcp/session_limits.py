"""Limits the MCP sessions of one server: beyond a token's limit its least recent session ends.

Beyond the limit of all tokens the least recent session of the token with the most ends.

Pure; the clock is given. Does not depend on HTTP; http_server.py reports the sessions.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from actions.domain.rate_limit import gives_way

MAX_SESSIONS: Final = 1_000
"""Per server. Sessions exist in protocol 2025-11-25 and older."""

MAX_SESSIONS_OF_TOKEN: Final = 100
"""Per token and server, so that one token cannot use up the sessions of the others."""

SESSION_IDLE_S: Final = 1_800.0


class SessionLimits:
    """The sessions of one server by owner, least recently used first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: dict[str, OrderedDict[str, float]] = {}

    def used(self, owner: str, session_id: str) -> None:
        """Note that a session was opened or used."""
        sessions = self._of.setdefault(owner, OrderedDict())
        sessions[session_id] = self._clock()
        sessions.move_to_end(session_id)

    def ended(self, owner: str, session_id: str) -> None:
        """Note that a session ended."""
        sessions = self._of.get(owner)
        if sessions is not None:
            sessions.pop(session_id, None)
            if not sessions:
                del self._of[owner]

    def surplus(self, owner: str, most: int, most_of_all: int) -> tuple[str, str] | None:
        """Return the session, after its owner, that ends first if `owner` has more than `most`, or all too many."""
        if not self._are_too_many(owner, most, most_of_all):
            return None
        self._drop_idle()
        own = self._of.get(owner, ())
        if len(own) > most:
            return owner, next(iter(own))
        held = [(each, (each, session_id)) for each, sessions in self._of.items() for session_id in sessions]
        return gives_way(held, owner) if len(held) > most_of_all else None

    def _are_too_many(self, owner: str, most: int, most_of_all: int) -> bool:
        """Tell whether there are too many, with those that may have ended by themselves."""
        return len(self._of.get(owner, ())) > most or sum(map(len, self._of.values())) > most_of_all

    def _drop_idle(self) -> None:
        """Forget the sessions that the SDK has ended itself."""
        for owner, sessions in list(self._of.items()):
            for session_id, used_at in list(sessions.items()):
                if self._clock() - used_at < SESSION_IDLE_S:
                    break
                self.ended(owner, session_id)
