"""The demo's servers, and the signals that end them: all together, never one of them alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from daemonpulse.serving import serving

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Servers:
    """The servers that run, and the signals that end them all."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self._stack = stack
        self.told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when a signal came."""
        self.ends: set[asyncio.Future[Any]] = {self.told}
        """The signal and the servers: the demo is over when one of them is done."""

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Let a signal end the demo, while this lasts."""
        self._take_signals()
        try:
            yield
        finally:
            for number in _SIGNALS:
                asyncio.get_running_loop().remove_signal_handler(number)
            self.told.cancel()

    def _take_signals(self) -> None:
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._stop, number)

    def _stop(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP:  # the terminal is gone: what is printed from now on has nowhere to go
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a file descriptor, no path
                for descriptor in (1, 2):  # sys.stdout is the screen's while it is shown
                    os.dup2(nowhere.fileno(), descriptor)
        if not self.told.done():
            self.told.set_result(None)

    async def start(self, serve: Callable[..., Coroutine[Any, Any, None]], *args: Any, **parts: Any) -> Any:
        """Start a server and give what it calls its `ready` with, a tuple. Raises what ends it before that."""
        # A server that is ready has just asked for the signals itself.
        task, told = await self._stack.enter_async_context(
            serving(serve, *args, on_ready=self._take_signals, **parts)
        )
        self.ends.add(task)
        return told
