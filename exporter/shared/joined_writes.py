"""A transport that joins the writes of one turn of the event loop: head and body of a response are one packet.

uvicorn writes them one after the other, and asyncio sends each write at once: two system calls, and two wake-ups of the
client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

MAX_HELD_BYTES: Final = 64 * 1024
"""More is sent at once, so that the transport's flow control sees it."""


class JoinedWrites(asyncio.Transport):
    """Wraps a transport. Everything but `write`, `flush` and `close` is its own."""

    def __init__(
        self,
        inner: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        *,
        closing: Callable[[], None] = lambda: None,
    ) -> None:
        """Wrap `inner`; `closing` is called when its owner closes it."""
        super().__init__()
        self._closing = closing
        self._inner = inner
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hold the data until the next turn of the event loop."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(bytes(data))
        self._held_bytes += len(data)
        if self._held_bytes > MAX_HELD_BYTES:
            self.flush()

    def close(self) -> None:
        """Send what is held, then close."""
        self.flush()
        self._inner.close()
        self._closing()

    def abort(self) -> None:
        """Close at once; what is held is lost."""
        self._held.clear()
        self._inner.abort()

    def is_closing(self) -> bool:
        """Tell whether the transport is closing."""
        return self._inner.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a fact about the connection."""
        return self._inner.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Stop reading."""
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._inner.resume_reading()

    def flush(self) -> None:
        """Send what is held."""
        data = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        if data and not self._inner.is_closing():
            self._inner.write(data)
