"""What a tool server says has changed: kinds of lists, once each, at a pace of the gate's own.

Does not know servers and clients. However often a server cries, one round is under way and one more is to come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

PACE_S: Final = 0.5
"""Least time between the ends of a round and the begin of the next."""


class ChangeNotices:
    """The notices of one server. `run` passes them on."""

    def __init__(self, pass_on: Callable[[str], Awaitable[None]], *, pace_s: float = PACE_S) -> None:
        """Take `pass_on`, which hears `tools`, `prompts` or `resources`, and does not raise."""
        self._pass_on = pass_on
        self._pace_s = pace_s
        self._changed: set[str] = set()
        self._wake = asyncio.Event()

    def heard(self, what: str) -> None:
        """Take note."""
        self._changed.add(what)
        self._wake.set()

    async def run(self) -> None:
        """Pass on until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = sorted(self._changed), set()
            for what in changed:
                await self._pass_on(what)
            await asyncio.sleep(self._pace_s)
