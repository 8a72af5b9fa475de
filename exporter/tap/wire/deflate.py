"""Inflates one direction of a WebSocket that has negotiated permessage-deflate (RFC 7692); bounded output.

Sans-I/O. What is more than a message may have ends the reading of the direction: without the whole of it the next one
cannot be read either.
"""

from __future__ import annotations

import zlib
from typing import Final

MAX_INFLATED_BYTES: Final = 8 * 1024 * 1024
"""Of one message. A prompt has megabytes at most; a bomb stops here."""
_TAIL: Final = b"\x00\x00\xff\xff"
"""What the sender leaves out at the end of each message."""


class InflateError(ValueError):
    """Not deflate, or too much of it."""


class Inflater:
    """One direction. `takes_over`: a message may refer to those before it."""

    def __init__(self, *, takes_over: bool) -> None:
        self._takes_over = takes_over
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._inflated = 0

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece of a message. Raises InflateError."""
        room = MAX_INFLATED_BYTES - self._inflated
        try:
            data = self._stream.decompress(piece, room + 1)
        except zlib.error as error:
            raise InflateError(str(error)) from None
        if len(data) > room:
            raise InflateError(f"a message has more than {MAX_INFLATED_BYTES} bytes")
        self._inflated += len(data)
        return data

    def end(self) -> bytes:
        """End a message. Raises InflateError."""
        data = self.feed(_TAIL)
        self._inflated = 0
        if not self._takes_over:
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        return data


def inflaters(extensions: str) -> tuple[Inflater | None, Inflater | None]:
    """Make those of the client's and the daemon's direction, from Sec-WebSocket-Extensions of the answer."""
    offers = [one.strip().lower() for one in extensions.split(",")]
    agreed = next((one for one in offers if one.partition(";")[0].strip() == "permessage-deflate"), None)
    if agreed is None:
        return None, None
    told = {part.partition("=")[0].strip() for part in agreed.split(";")[1:]}
    return (
        Inflater(takes_over="client_no_context_takeover" not in told),
        Inflater(takes_over="server_no_context_takeover" not in told),
    )
