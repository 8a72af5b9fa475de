"""List-changed notifications of an upstream server, coalesced and paced.

Does not depend on servers and clients. At most one round runs and one more is pending, whatever the server sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

PACE_S: Final = 0.5
"""Minimum time between the end of a round and the start of the next, seconds."""


class ChangeNotices:
    """The notifications of one server; `run` delivers them."""

    def __init__(self, deliver: Callable[[str], Awaitable[None]], *, pace_s: float = PACE_S) -> None:
        """Deliver to `deliver`, called with `tools`, `prompts` or `resources`; it must not raise."""
        self._deliver = deliver
        self._pace_s = pace_s
        self._changed: set[str] = set()
        self._wake = asyncio.Event()

    def notify(self, what: str) -> None:
        """Note a changed list."""
        self._changed.add(what)
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = sorted(self._changed), set()
            for what in changed:
                await self._deliver(what)
            await asyncio.sleep(self._pace_s)
