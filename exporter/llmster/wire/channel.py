"""A server-to-client stream inside one connection: a bounded queue of messages for its reader.

Does not depend on the socket: connection.py adds messages, and the error that ended it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from exporter.llmster.errors import LlmsterError

CHANNEL_BACKLOG: Final = 1024
"""Messages of one channel held for its reader before the socket is no longer read (back-pressure, not loss)."""


class Channel:
    """One stream; iterate over it for raw messages.

    Iteration ends when the daemon closes the channel, and raises CallFailed or ConnectionLost otherwise.
    """

    def __init__(self, send: Callable[[object], None]) -> None:
        self._queue: asyncio.Queue[msgspec.Raw | LlmsterError | None] = asyncio.Queue(CHANNEL_BACKLOG)
        self._error: LlmsterError | None = None
        self.silent_s = 0.0
        """How long an answer had been due without any frame when the socket ended."""
        self._send = send
        self._abandoned = False

    @property
    def is_full(self) -> bool:
        """Whether the next message has to wait for the reader."""
        return self._queue.full() and not self._abandoned

    def send(self, message: object) -> None:
        """Queue a message to the daemon, such as `{"type": "stop"}`."""
        self._send(message)

    async def put(self, item: msgspec.Raw | LlmsterError | None) -> None:
        """Hand over a message, the end (None) or the error that ended it. For the connection only."""
        if not self._abandoned:
            await self._queue.put(item)

    def abandon(self) -> None:
        """Stop reading: queued and later messages are dropped, so that they do not block the socket."""
        self._abandoned = True
        while not self._queue.empty():
            self._queue.get_nowait()

    def put_error(self, error: LlmsterError) -> None:
        """End the channel: its reader, however far behind, gets the error after what is held for it."""
        self._error = error
        if not self._queue.full():
            self._queue.put_nowait(error)  # for a reader that waits

    async def __aiter__(self) -> AsyncIterator[msgspec.Raw]:
        while self._error is None or not self._queue.empty():
            item = await self._queue.get()
            if item is None:
                return
            if isinstance(item, LlmsterError):
                raise item
            yield item
        raise self._error
