"""The demo on a terminal: `daemonpulse top` over its exporter, until q, Ctrl-C or a signal.

Depends only on the screen and the addresses it reads.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from exporter.shared.terminal import plain

if TYPE_CHECKING:
    from daemonpulse.demo.alert_sink import Alert
    from daemonpulse.top.screen import Top


CLOSE_S: Final = 2.0
"""Time for the screen to give the terminal back."""


def is_possible() -> bool:
    """Tell whether there is a terminal that can show it, and what draws it."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return is_terminal and importlib.util.find_spec("textual") is not None


class DemoScreen:
    """One screen. `tell` may be called from any thread, also before and after it is shown."""

    def __init__(self) -> None:
        self._top: Top | None = None
        self._loop = asyncio.get_running_loop()

    async def show(
        self, exporter_url: str, actions_url: str, token_file: Path, ends: Iterable[asyncio.Future[Any]]
    ) -> None:
        """Show it until the user quits, or one of `ends` is done."""
        from daemonpulse.top.commands import Commands
        from daemonpulse.top.screen import Top
        from daemonpulse.top.source import TIMEOUT_S, Source

        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as http:
            self._top = Top(
                Source(http, exporter_url), interval_s=1.0, commands=Commands(actions_url, token_file)
            )
            shown = asyncio.create_task(self._top.run_async())
            await asyncio.sleep(0)
            # From Python 3.12 on Textual has the loop begin every task at once, also those of who shares it.
            self._loop.set_task_factory(None)
            try:
                await asyncio.wait({shown, *ends}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                top, self._top = self._top, None
                if not shown.done():
                    top.exit()
                    await asyncio.wait({shown}, timeout=CLOSE_S)
                    shown.cancel()  # a terminal that was closed may never say what the screen waits for
                await asyncio.gather(shown, return_exceptions=True)

    def tell(self, alert: Alert) -> bool:
        """Show an alert; False while there is no screen to show it on."""
        top = self._top
        if top is None:
            return False
        words = plain(f"alert {alert.status}: {alert.name}: {alert.summary}")
        self._loop.call_soon_threadsafe(lambda: top.notify(words, markup=False, timeout=10))
        return True
