"""Cuts one direction of an HTTP/1.1 connection into heads, body pieces and ends: a copy is read, nothing is answered.

Sans-I/O. Does not depend on routes. It follows RFC 9112 as far as reading requires: a message that cannot be framed
raises FramingError and ends the reading of that connection, never the connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

MAX_HEAD_BYTES: Final = 64 * 1024
"""Start line and headers. Node, which the daemon runs on, takes 16 KiB by default."""
MAX_LINE_BYTES: Final = 4 * 1024
"""A chunk's size with its extensions, or a line of the trailer."""
_DIGITS: Final = {10: re.compile(rb"[0-9]{1,16}"), 16: re.compile(rb"[0-9A-Fa-f]{1,16}")}


class FramingError(ValueError):
    """These bytes are not a message of HTTP/1.1, or one part of it is longer than what is kept."""


@dataclass(frozen=True, slots=True)
class Head:
    """A start line and its headers."""

    start: tuple[str, str, str]
    """Method, target, version of a request; version, status, reason of a response."""
    headers: dict[str, str]
    """By lower-case name; a repeated one joined with ", "."""

    def header(self, name: str) -> str:
        """Give a header's value, "" without one."""
        return self.headers.get(name, "")


class Body(Enum):
    """What follows a head; the caller, which has the exchange, decides."""

    FRAMED = "framed"
    """By its headers."""
    NONE = "none"
    """No body in spite of its headers: the response to HEAD, 204, 304."""
    TUNNEL = "tunnel"
    """Another protocol, to the end of the connection."""


class Handler(Protocol):
    """The events of a direction, in order."""

    def on_head(self, head: Head) -> Body:
        """Take a head; return what follows."""

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body, without framing."""

    def on_end(self) -> None:
        """Take the end of a message."""

    def on_tunnel(self, data: bytes) -> None:
        """Take bytes of the protocol that the connection was switched to."""


class _At(Enum):
    HEAD = "head"
    FIXED = "fixed"
    CHUNK_SIZE = "chunk size"
    CHUNK_DATA = "chunk data"
    CHUNK_END = "chunk end"
    TRAILER = "trailer"
    UNTIL_CLOSE = "until close"
    TUNNEL = "tunnel"


class MessageReader:
    """The reading of one direction. `requests`: a request without a length has no body, a response has the rest."""

    def __init__(self, handler: Handler, *, requests: bool) -> None:
        self._handler = handler
        self._requests = requests
        self._rest = b""
        self._left = 0
        self._at = _At.HEAD

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises FramingError; after it the reader must not be fed again."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        while 0 <= at < len(data):
            match self._at:
                case _At.FIXED | _At.CHUNK_DATA:
                    at = self._take_sized(data, at)
                case _At.CHUNK_SIZE | _At.CHUNK_END | _At.TRAILER:
                    at = self._find_line(data, at)
                case _At.HEAD:
                    at = self._find_head(data, at)
                case _At.UNTIL_CLOSE:
                    self._handler.on_body(data[at:])
                    return
                case _At.TUNNEL:
                    self._handler.on_tunnel(data[at:])
                    return

    def _find_line(self, data: bytes, at: int) -> int:
        """Take the next line; return where it ends, or keep its beginning and return -1."""
        end = data.find(b"\n", at)
        if end < 0:
            return self._keep(data, at, MAX_LINE_BYTES)
        self._take_line(data[at:end].rstrip(b"\r"))
        return end + 1

    def _find_head(self, data: bytes, at: int) -> int:
        """Take the next head; return where it ends, or keep its beginning and return -1."""
        while data[at : at + 1] in {b"\r", b"\n"}:  # RFC 9112, 2.2: empty lines before a start line
            at += 1
        end = _end_of_head(data, at)
        if end < 0:
            return self._keep(data, at, MAX_HEAD_BYTES)
        self._take_head(data[at:end])
        return end

    def feed_eof(self) -> bool:
        """End the direction; return whether it ended between two messages, or with one that only the end delimits."""
        if self._at is _At.UNTIL_CLOSE:
            self._at = _At.HEAD
            self._handler.on_end()
            return True
        return self._at is _At.TUNNEL or (self._at is _At.HEAD and not self._rest)

    def _keep(self, data: bytes, at: int, limit: int) -> int:
        if len(data) - at > limit:
            raise FramingError(f"{self._at.value} longer than {limit} bytes")
        self._rest = data[at:]
        return -1

    def _take_sized(self, data: bytes, at: int) -> int:
        end = min(len(data), at + self._left)
        self._left -= end - at
        is_chunk = self._at is _At.CHUNK_DATA
        self._handler.on_body(data[at:end] if at or end < len(data) else data)
        if not self._left:
            if is_chunk:
                self._at = _At.CHUNK_END
            else:
                self._end()
        return end

    def _take_line(self, line: bytes) -> None:
        if self._at is _At.CHUNK_END:
            if line:
                raise FramingError("a chunk is longer than its size")
            self._at = _At.CHUNK_SIZE
        elif self._at is _At.TRAILER:
            if not line:
                self._end()
        else:
            self._left = _size(line.partition(b";")[0].strip(), base=16)
            self._at = _At.CHUNK_DATA if self._left else _At.TRAILER

    def _take_head(self, raw: bytes) -> None:
        if len(raw) > MAX_HEAD_BYTES:
            raise FramingError(f"head longer than {MAX_HEAD_BYTES} bytes")
        head = _parse_head(raw)
        follows = self._handler.on_head(head)
        coding = head.header("transfer-encoding").lower()
        length = head.header("content-length")
        if follows is Body.TUNNEL:
            self._at = _At.TUNNEL
        elif follows is Body.NONE:
            self._end()
        elif coding.rpartition(",")[2].strip() == "chunked":
            # With a length beside it, chunks win: RFC 9112, 6.3.
            self._at = _At.CHUNK_SIZE
        elif length and not coding:
            self._left = _length(length)
            self._at = _At.FIXED
            if not self._left:
                self._end()
        elif self._requests:
            self._end()
        else:
            self._at = _At.UNTIL_CLOSE

    def _end(self) -> None:
        self._at = _At.HEAD
        self._handler.on_end()


def _end_of_head(data: bytes, at: int) -> int:
    """Return where the empty line after the headers ends, -1 while there is none."""
    proper = data.find(b"\r\n\r\n", at)
    bare = data.find(b"\n\n", at, proper if proper >= 0 else len(data))
    if bare >= 0:
        return bare + 2
    return proper + 4 if proper >= 0 else -1


def _parse_head(raw: bytes) -> Head:
    lines = raw.decode("latin-1").replace("\r\n", "\n").rstrip("\n").split("\n")
    first, _, rest = lines[0].partition(" ")
    second, _, third = rest.partition(" ")
    version = first if first.startswith("HTTP/") else third
    if not second or not version.startswith("HTTP/1."):
        raise FramingError("not a start line of HTTP/1.1")
    headers: dict[str, str] = {}
    key = ""
    for line in lines[1:]:
        if line[:1] in {" ", "\t"} and key:  # a folded line goes on with the value before: RFC 9112, 5.2
            headers[key] = f"{headers[key]} {line.strip()}".strip()
            continue
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise FramingError("not a header")
        key = name.lower()
        value = value.strip()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return Head((first, second, third), headers)


def _length(value: str) -> int:
    """Read Content-Length, which may be repeated alike: RFC 9112, 6.3. Two lengths are an attack or a fault."""
    lengths = {one.strip() for one in value.split(",")}
    if len(lengths) > 1:
        raise FramingError("two lengths")
    return _size(lengths.pop().encode(), base=10)


def _size(text: bytes, *, base: int) -> int:
    if not _DIGITS[base].fullmatch(text):
        raise FramingError("not a size")
    return int(text, base)
