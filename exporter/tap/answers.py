"""Reads a bounded copy of a response body into a meter: a stream of events or one JSON value, compressed or not.

Does not depend on the connection. What it cannot read is counted and skipped.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Any, Final

import msgspec

from exporter.tap import formats
from exporter.tap.meter import Meter
from exporter.tap.wire.http1 import Head
from exporter.tap.wire.sse import EventReader

MAX_BODY_BYTES: Final = 64 * 1024
"""Of one JSON value. A longer one is read from its beginning and its end, where model and usage are."""
_EDGE_BYTES: Final = 8 * 1024
_MAX_INFLATED_BYTES: Final = 1024 * 1024
"""Of one piece of a compressed body."""
_DONE: Final = b"[DONE]"
_USAGE: Final = re.compile(r'(?<!\\)"(usage|stats)"\s*:\s*(?=\{)')
_MODEL: Final = re.compile(r'(?<!\\)"(?:model|model_instance_id)"\s*:\s*"([^"\\]{1,256})"')


class AnswerReader:
    """One answer's body in one of the formats."""

    def __init__(self, format_: str, head: Head, meter: Meter) -> None:
        self.malformed = 0
        """Events that are not JSON."""
        self.unread: str | None = None
        """Why the body is not read, if it is not."""
        self._format = format_
        self._meter = meter
        kind = head.header("content-type").partition(";")[0].strip().lower()
        self._events = EventReader() if kind == "text/event-stream" else None
        self._whole = bytearray()
        self._tail = b""
        encoding = head.header("content-encoding").strip().lower()
        self._inflate = zlib.decompressobj(wbits=47) if encoding in {"gzip", "deflate"} else None
        if encoding not in {"", "identity", "gzip", "deflate"}:
            self.unread = "encoding"
        elif self._events is None and kind != "application/json":
            self.unread = "content type"

    @property
    def skipped(self) -> int:
        """Events that were too long to read."""
        return self._events.skipped if self._events is not None else 0

    def feed(self, data: bytes, now_s: float) -> None:
        """Take the next bytes of the body."""
        self._meter.event(now_s)
        if self.unread is not None:
            return
        if self._inflate is not None:
            try:
                data = self._inflate.decompress(data, _MAX_INFLATED_BYTES)
            except zlib.error:
                self.unread = "encoding"
                return
            if self._inflate.unconsumed_tail:
                self.unread = "inflated size"
                return
        if self._events is None:
            self._keep(data)
            return
        for event in self._events.feed(data):
            if event == _DONE:
                continue
            try:
                value = msgspec.json.decode(event)
            except (msgspec.DecodeError, RecursionError):
                self.malformed += 1
                continue
            formats.read_event(self._format, value, self._meter, now_s)

    def close(self) -> None:
        """End the body."""
        if self._events is not None or self.unread is not None or not self._whole:
            return
        if not self._tail:
            try:
                formats.read_whole(self._format, msgspec.json.decode(self._whole), self._meter)
            except (msgspec.DecodeError, RecursionError):
                self.malformed += 1
            return
        formats.read_whole(self._format, _edges(bytes(self._whole[:_EDGE_BYTES]), self._tail), self._meter)

    def _keep(self, data: bytes) -> None:
        room = MAX_BODY_BYTES - len(self._whole)
        self._whole += data[:room]
        if len(data) > room:
            self._tail = (self._tail + data[room:])[-_EDGE_BYTES:]


def model_of(body: bytes, tail: bytes) -> str:
    """Find the model that a request names; "" when the kept parts have none. A hint: the response decides."""
    if not tail:
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            return ""
        model = value.get("model") if isinstance(value, dict) else None
        return model[:256] if isinstance(model, str) else ""
    found = _MODEL.search(tail.decode("utf-8", "replace")) or _MODEL.search(body.decode("utf-8", "replace"))
    return found[1] if found else ""


def _edges(head: bytes, tail: bytes) -> dict[str, Any]:
    """Read what stands at both ends of a long answer. A quote in generated text has a backslash before it."""
    value: dict[str, Any] = {}
    ending = tail.decode("utf-8", "replace")
    for match in _USAGE.finditer(ending):
        try:
            value[match[1]] = json.JSONDecoder().raw_decode(ending, match.end())[0]
        except (ValueError, RecursionError):
            continue
    model = _MODEL.search(head.decode("utf-8", "replace")) or _MODEL.search(ending)
    if model:
        value["model"] = model[1]
    return value
