"""Cuts a stream of server-sent events into the data of each event.

Sans-I/O. Follows the WHATWG HTML standard, "Server-sent events": lines end in LF, CRLF or CR; `data` lines of an event
are joined by LF. Names of events are left out: every format that is read here repeats them in its JSON.
"""

from __future__ import annotations

from typing import Final

MAX_EVENT_BYTES: Final = 64 * 1024
"""A longer event is skipped to its end. Only final events that repeat a whole answer are longer."""
_BOM: Final = b"\xef\xbb\xbf"
"""May stand before the first line, and is no part of it."""


class EventReader:
    """One stream of events."""

    def __init__(self) -> None:
        self.skipped = 0
        """Events that were too long to keep."""
        self._rest = b""
        self._is_skipping = False
        self._is_first = True

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the data of each event that they complete."""
        rest = self._rest + data if self._rest else data
        if self._is_first:
            if _BOM.startswith(rest[: len(_BOM)]) and len(rest) < len(_BOM):
                self._rest = rest
                return []
            self._is_first = False
            rest = rest.removeprefix(_BOM)
        if b"\r" in rest:
            held = b"\r" if rest.endswith(b"\r") else b""  # perhaps the first half of a CRLF
            rest = rest[: len(rest) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        *blocks, last = rest.split(b"\n\n")
        events: list[bytes] = []
        for block in blocks:
            if self._is_skipping or len(block) > MAX_EVENT_BYTES:
                self.skipped += 1
                self._is_skipping = False
                continue
            if event := _data_of(block):
                events.append(event)
        if len(last) - last.endswith(b"\n") > MAX_EVENT_BYTES:  # perhaps the first half of the empty line
            self._is_skipping = True
            last = last[-1:]
        self._rest = last + held
        return events


def _data_of(block: bytes) -> bytes:
    found = [line.partition(b":") for line in block.split(b"\n")]
    lines = [value.removeprefix(b" ") for name, _, value in found if name == b"data"]
    return lines[0] if len(lines) == 1 else b"\n".join(lines)
