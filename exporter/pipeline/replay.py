"""Feeds a recorded log stream, `lms log stream --json`, through the flow that a live one goes through.

Does not depend on a daemon or a clock, so the same recording gives the same predictions, ids included. A thread
reads: an open pipe without data blocks nothing and is left behind at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from exporter.llmster.events import MALFORMED, UnknownEvent, parse_ndjson_line
from exporter.pipeline.log_stream import EventFlow

MAX_LINE_BYTES: Final = 256 * 1024 * 1024
"""As long as a frame of the daemon's may be. The rest of a longer line is left out."""
_HEAD_BYTES: Final = 1024 * 1024
_CHUNK_BYTES: Final = 256 * 1024
_CHUNKS_AHEAD: Final = 4
"""So many are read before the first of them has been taken: a recording may be larger than the memory."""
_EVENTS_AT_ONCE: Final = 256


def fault(recording: BinaryIO) -> str | None:
    """Say why a file is no recording, by its head; None if it may be one. A pipe is not looked into. Raises OSError."""
    try:
        head = os.pread(recording.fileno(), _HEAD_BYTES, 0)
    except OSError as error:
        if error.errno == errno.ESPIPE:
            return None
        raise
    *lines, rest = head.split(b"\n")
    if len(head) < _HEAD_BYTES:
        lines.append(rest)
    elif not lines and rest.lstrip().startswith(b"{"):
        return None  # the first event is longer than that
    events = [event for line in lines if (event := parse_ndjson_line(line)) is not None]
    if any(not isinstance(event, UnknownEvent) or event.type != MALFORMED for event in events):
        return None
    return "no line of it is a log event" if head else "it is empty"


async def replay(recording: BinaryIO, flow: EventFlow) -> int:
    """Feed a recording to its end; return the number of events. Raises OSError when it cannot be read on.

    It must be a file of the system's, of which nothing has been read: what it has buffered is not seen.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[list[bytes] | OSError | None] = asyncio.Queue()
    room = threading.Semaphore(_CHUNKS_AHEAD)

    def give(chunk: list[bytes] | OSError | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the result has no reader
            loop.call_soon_threadsafe(chunks.put_nowait, chunk)

    descriptor = os.dup(recording.fileno())
    threading.Thread(target=_read, args=(descriptor, room, give), name="replay", daemon=True).start()
    taken = 0
    while isinstance(chunk := await chunks.get(), list):
        for number, line in enumerate(chunk):
            taken += flow.take_line(line)
            if number % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)  # scrapes are answered meanwhile
        room.release()
    if chunk is not None:
        raise chunk
    return taken


def _read(
    descriptor: int, room: threading.Semaphore, give: Callable[[list[bytes] | OSError | None], None]
) -> None:
    """Read to the end, and give what came, then None or what went wrong.

    From the descriptor: a file object would be locked by a read that waits, and could not be closed at the end.
    """
    end: OSError | None = None
    try:
        for lines in _whole_lines(descriptor):
            give(lines)
            room.acquire()
    except OSError as error:
        end = error
    finally:
        os.close(descriptor)
    give(end)


def _whole_lines(descriptor: int) -> Iterator[list[bytes]]:
    """Give lines as they come; the last one may lack its end."""
    begun: list[bytes] = []
    length = 0
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        head, newline, rest = chunk.rpartition(b"\n")
        if newline:
            yield b"".join((*begun, head)).split(b"\n")
            begun, length = [], 0
        if length < MAX_LINE_BYTES:
            begun.append(rest)
            length += len(rest)
    yield [b"".join(begun)]
