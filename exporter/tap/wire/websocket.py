"""Cuts one direction of a WebSocket connection into text messages, unmasked and put together from their fragments.

Sans-I/O, RFC 6455. Binary messages are passed over: the daemon's protocol has none.
"""

from __future__ import annotations

from typing import Final

from exporter.tap.wire.deflate import Inflater

MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Of a longer message the beginning is kept. A fragment of a prediction has a few hundred bytes, a prompt megabytes."""
_CONTINUATION: Final = 0
_TEXT: Final = 1
_FIRST_CONTROL: Final = 8
_PACKED: Final = 0x40
"""The first reserved bit: compressed, RFC 7692."""
_LENGTH_16, _LENGTH_64 = 126, 127


class FrameReader:
    """One direction, after the upgrade. Without an `inflater` compressed messages are passed over.

    feed() raises InflateError for what cannot be inflated; after it the reader must not be fed again.
    """

    def __init__(self, inflater: Inflater | None = None) -> None:
        self._inflater = inflater
        self._is_packed = False
        self._head = b""
        self._left = 0  # of the payload of the frame that is being read
        self._mask = b""
        self._offset = 0  # in that payload
        self._is_final = self._is_control = False
        self._message: bytearray | None = None  # None: not text, passed over
        self._inside = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the text messages that they complete, each cut to MAX_MESSAGE_BYTES."""
        messages: list[bytes] = []
        at = 0
        while at < len(data) or (self._inside and not self._left):
            if not self._inside:
                at = self._take_head(data, at)
                continue
            end = min(len(data), at + self._left)
            self._take_payload(data[at:end])
            self._left -= end - at
            at = end
            if not self._left:
                self._inside = False
                if self._is_final and not self._is_control:
                    self._finish(messages)
        return messages

    def _take_head(self, data: bytes, at: int) -> int:
        """Collect a frame's header; return where to read on."""
        missing = _missing(self._head)
        take = data[at : at + missing]
        self._head += take
        if len(take) == missing and not _missing(self._head):
            self._open(self._head)
            self._head = b""
        return at + len(take)

    def _open(self, head: bytes) -> None:
        opcode, size, at = head[0] & 0x0F, head[1] & 0x7F, 2
        if size == _LENGTH_16:
            size, at = int.from_bytes(head[2:4]), 4
        elif size == _LENGTH_64:
            size, at = int.from_bytes(head[2:10]), 10
        self._mask = head[at : at + 4] if head[1] & 0x80 else b""
        self._left, self._offset, self._inside = size, 0, True
        self._is_final, self._is_control = bool(head[0] & 0x80), opcode >= _FIRST_CONTROL
        if self._is_control:
            return
        if opcode != _CONTINUATION:
            extension = head[0] & 0x70
            self._is_packed = extension == _PACKED and self._inflater is not None
            is_read = opcode == _TEXT and (self._is_packed or not extension)
            self._message = bytearray() if is_read else None

    def _finish(self, messages: list[bytes]) -> None:
        """End a message; one that is passed over is inflated all the same, because the next may refer to it."""
        if self._is_packed and self._inflater is not None:
            self._keep(self._inflater.end())
            self._is_packed = False
        if self._message is not None:
            messages.append(bytes(self._message))
            self._message = None

    def _keep(self, data: bytes) -> None:
        if self._message is not None:
            self._message += data[: MAX_MESSAGE_BYTES - len(self._message)]

    def _take_payload(self, piece: bytes) -> None:
        offset, self._offset = self._offset, self._offset + len(piece)
        if self._is_control or not piece or (self._message is None and not self._is_packed):
            return
        if self._message is not None and not self._is_packed:
            piece = piece[: MAX_MESSAGE_BYTES - len(self._message)]
        if self._mask:
            turn = offset % 4
            key = (self._mask[turn:] + self._mask[:turn]) * (len(piece) // 4 + 1)
            number = int.from_bytes(piece) ^ int.from_bytes(key[: len(piece)])
            piece = number.to_bytes(len(piece))
        self._keep(self._inflater.feed(piece) if self._is_packed and self._inflater is not None else piece)


def _missing(head: bytes) -> int:
    """Return how many bytes of a frame's header are still to come, as far as its beginning tells."""
    if len(head) < 2:  # noqa: PLR2004 - opcode and length
        return 2 - len(head)
    size = head[1] & 0x7F
    whole = 2 + (2 if size == _LENGTH_16 else 8 if size == _LENGTH_64 else 0) + (4 if head[1] & 0x80 else 0)
    return whole - len(head)
