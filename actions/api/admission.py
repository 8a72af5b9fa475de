"""Shares what is served at once among tokens, and lets pass what is always heard: the kill switch and denials.

Knows a request's head only: whether a token is right is decided later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from actions.domain.rate_limit import FairShares
from exporter.shared.http_timeouts import MAX_CONNECTIONS

MAX_AT_ONCE: Final = MAX_CONNECTIONS - 64
"""Requests served at once; the other connections are left to what is always heard."""
_HEARD: Final = ("/eject-all", "/deny", "/gate")
"""How paths end that stop something; `/gate` is also an override that denies."""


def is_heard(method: str, path: str) -> bool:
    """Tell whether a request may stop something, and therefore waits for no other."""
    return method == "POST" and path.startswith("/v1/") and path.endswith(_HEARD)


class Admission:
    """Places and turns for requests."""

    def __init__(self) -> None:
        self.places = FairShares(MAX_AT_ONCE)
        """For each Authorization header."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False

    async def turn(self) -> None:
        """Wait until no other request begins in this turn of the event loop, so that what is heard comes in between."""
        if self._is_taken:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
            return
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Give the next turn to the first that still waits."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._is_taken = False
