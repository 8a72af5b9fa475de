"""Textual's driver for Linux, for a terminal that may be closed while the screen is shown.

Textual writes in a thread of its own, which ends at the first error; the event loop then waits for it without end, and
hears no signal. Here a failed write is dropped, so that SIGHUP ends the program as any other signal does. The kernel
sends SIGCONT after SIGHUP, which textual takes for the end of a suspension: it would start reading a second time, and
that thread keeps the process from ending. Here SIGCONT counts only after SIGTSTP.
"""

from __future__ import annotations

import contextlib
from typing import IO, Any

from textual.drivers.linux_driver import LinuxDriver


class _Closable:
    """A terminal to write to; what cannot be written is dropped."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Write."""
        with contextlib.suppress(OSError, ValueError):
            self._file.write(text)

    def flush(self) -> None:
        """Flush."""
        with contextlib.suppress(OSError, ValueError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class TerminalDriver(LinuxDriver):
    """Textual's driver, which outlives its terminal."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._file: Any = _Closable(self._file)

    def _sigcont_application(self, *arguments: Any) -> None:
        if self._must_signal_resume:
            super()._sigcont_application(*arguments)
