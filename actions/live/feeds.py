"""Reads one source for many readers: polled once for all of them, and only while there is a reader.

Each reader gets the latest value when it is ready for one. A slow reader skips values, and nothing waits for it.
Readers and things are bounded in number.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from actions.domain.rate_limit import gives_way
from actions.live.source import LiveSource, Phase, SourceFailed, TextPart

log = logging.getLogger(__name__)

MAX_READERS: Final = 50
MAX_TEXTS: Final = 16
"""Readers of a list of requests, and of a text, at once. One more token is let in where another has the most."""
MAX_CHARS: Final = 64 * 1024
REQUESTS_EVERY_S: Final = 1.0
TEXT_EVERY_S: Final = 0.25


class TooMany(Exception):
    """There are as many readers as there may be."""


class Over(Exception):
    """The service stops, or the reader gives way to one of another token."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In place of a value: why there is none."""

    why: str


class Latest:
    """The latest value of one thing, polled while it has readers."""

    def __init__(self, poll: Callable[[], Awaitable[Any]], every_s: float) -> None:
        self.has_read = False
        """Whether any reading has worked since the first reader came."""
        self._poll = poll
        self._every_s = every_s
        self._value: Any = None
        self._version = 0
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._readers = 0
        self._is_over = False

    @contextlib.contextmanager
    def reading(self) -> Iterator[Latest]:
        """Poll for as long as one reader at least is in here."""
        self._readers += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="live")
        try:
            yield self
        finally:
            self._readers -= 1
            if not self._readers:
                self.stop()

    @property
    def is_read(self) -> bool:
        """Whether it has a reader."""
        return self._readers > 0

    async def after(self, version: int, reader: Reader) -> tuple[int, Any]:
        """Wait for a later value than that of `version`, 0 before the first; return the latest, and its version.

        Raises Over when the service stops, or the reader gives way.
        """
        while self._version <= version and not self._is_over and not reader.gives_way:
            await self._changed.wait()
        if self._is_over or reader.gives_way:
            raise Over
        return self._version, self._value

    def stop(self) -> None:
        """End polling; the next reader waits for a new value."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._value, self._version, self.has_read = None, 0, False

    def end(self) -> None:
        """Let every reader end."""
        self._is_over = True
        self.wake()

    def wake(self) -> None:
        """Let every reader look whether it has ended."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        while True:
            try:
                value = await self._poll()
                self.has_read = True
            except SourceFailed as error:
                value = Unreadable(str(error))
            except Exception as error:
                log.exception("live reading failed")
                value = Unreadable(f"internal error: {type(error).__name__}")
            if value != self._value or not self._version:
                self._value = value
                self._version += 1
                self.wake()
            await asyncio.sleep(self._every_s)


@dataclass(eq=False, slots=True)
class Reader:
    """One reader of a thing."""

    owner: str
    latest: Latest
    gives_way: bool = False

    async def after(self, version: int) -> tuple[int, Any]:
        """Wait for a later value, as `Latest.after` does. Raises Over."""
        return await self.latest.after(version, self)


@dataclass(frozen=True, slots=True)
class Text:
    """What one request wrote so far."""

    text: str = ""
    phases: tuple[Phase, ...] = ()
    is_truncated: bool = False
    is_over: bool = False
    finish: str | None = None
    is_known: bool = True
    """False: the exporter has no text of such a request, or none any more."""

    def with_next(self, part: TextPart | None) -> Text:
        """Add the next part; None ends it."""
        if part is None:
            return replace(self, is_over=True, is_known=bool(self.text))
        text = (self.text + part.text)[:MAX_CHARS]
        return Text(text, part.phases, part.is_truncated, part.is_over, part.finish)


class Feeds:
    """Everything that is read, by what it is."""

    def __init__(self, source: LiveSource) -> None:
        self._source = source
        self._requests = Latest(source.requests, REQUESTS_EVERY_S)
        self._readers: list[Reader] = []
        self._text_readers: list[Reader] = []
        self._texts: dict[tuple[str, str], Latest] = {}

    @property
    def has_text(self) -> bool:
        """Whether text can be read at all."""
        return self._source.has_text

    @contextlib.contextmanager
    def requests(self, owner: str) -> Iterator[Reader]:
        """Read the list of requests: values are dictionaries or Unreadable. Raises TooMany."""
        _make_room(self._readers, MAX_READERS, owner)
        with _reading(self._readers, Reader(owner, self._requests)) as reader:
            yield reader

    @contextlib.contextmanager
    def text(self, owner: str, daemon: str, request: str) -> Iterator[Reader]:
        """Read the text of a request: values are Text or Unreadable. Raises TooMany."""
        key = (daemon, request)
        _make_room(self._text_readers, MAX_TEXTS, owner)
        latest = self._texts.setdefault(key, self._text_of(*key))
        try:
            with _reading(self._text_readers, Reader(owner, latest)) as reader:
                yield reader
        finally:
            if not latest.is_read and self._texts.get(key) is latest:
                del self._texts[key]

    def end(self) -> None:
        """Let all readers end: the service stops."""
        for latest in (self._requests, *self._texts.values()):
            latest.end()

    async def close(self) -> None:
        """End all polling."""
        for latest in (self._requests, *self._texts.values()):
            latest.stop()
        await self._source.close()

    def _text_of(self, daemon: str, request: str) -> Latest:
        text = Text()

        async def poll() -> Text:
            nonlocal text
            if not text.is_over:
                text = text.with_next(await self._source.text(daemon, request, len(text.text)))
            return text

        return Latest(poll, TEXT_EVERY_S)


def _make_room(readers: list[Reader], most: int, owner: str) -> None:
    """Let a reader of the owner that has the most give way, if there are as many as may be. Raises TooMany."""
    if len(readers) < most:
        return
    leaving = gives_way([(one.owner, one) for one in readers], owner)
    if leaving is None:
        raise TooMany
    readers.remove(leaving)
    leaving.gives_way = True
    leaving.latest.wake()


@contextlib.contextmanager
def _reading(readers: list[Reader], reader: Reader) -> Iterator[Reader]:
    readers.append(reader)
    try:
        with reader.latest.reading():
            yield reader
    finally:
        if not reader.gives_way:
            readers.remove(reader)
