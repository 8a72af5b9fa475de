"""Target: what passes through the tap, whole and in pieces, from both sides.

Knows no socket. Reading must end the same whatever the pieces are, raise nothing, and leave nothing in flight.
"""

import itertools
import json
from typing import Final

import msgspec

from exporter.tap.clients import Clients
from exporter.tap.exchange import Clocks
from exporter.tap.formats import FORMATS
from exporter.tap.observer import ConnectionObserver
from exporter.tap.registry import Registry
from exporter.tap.relay import Side
from exporter.tap.report import Report
from exporter.tap.routes import PREDICTIONS
from tests.fuzz.choices import Choices

_CLIENTS: Final = (
    *(f"POST {path} HTTP/1.1\r\n" for path in PREDICTIONS),
    "GET /llm HTTP/1.1\r\nupgrade: websocket\r\n\r\n",
    "HEAD /v1/models HTTP/1.1\r\n\r\n",
    "content-length: 12\r\n\r\n",
    '{"model":"m"}',
    "transfer-encoding: chunked\r\n\r\n",
    "5;x=y\r\nhello\r\n",
    "0\r\n\r\n",
    "\r\n",
)
_DAEMONS: Final = (
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "HTTP/1.1 204 No\r\n\r\n",
    "content-type: text/event-stream\r\n\r\n",
    "content-type: application/json\r\ncontent-length: 40\r\n\r\n",
    "content-encoding: gzip\r\n",
    "transfer-encoding: chunked\r\n",
    "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
    'data: {"choices":[{"delta":{"content":"<think>"}}]}\n\n',
    'data: {"choices":[{"delta":{"reasoning_content":"a","tool_calls":[{"function":{"name":"f"}}]}}]}\r\n\r\n',
    'data: {"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n',
)
_TYPES: Final = tuple(key for form in FORMATS.values() for key in form.rules)


def tap(choices: Choices) -> None:
    """Read the same conversation whole and in pieces."""
    client = choices.pieces(_CLIENTS, 8).encode("utf-8", "surrogatepass")
    daemon = b"".join(_answer(choices) for _ in range(choices.upto(6)))
    by = choices.pick((Side.CLIENT, Side.DAEMON))
    cuts = [choices.upto(255) for _ in range(choices.upto(6))]
    whole, pieces = _read(client, daemon, [], by), _read(client, daemon, cuts, by)
    assert whole == pieces, "cutting the bytes changed what was read"


def _answer(choices: Choices) -> bytes:
    if choices.flag():
        return choices.pieces(_DAEMONS, 5).encode("utf-8", "surrogatepass")
    if choices.flag():
        size = choices.upto(40)
        return bytes([0x81, size]) + choices.raw(size)
    kind, _, sub = choices.pick(_TYPES).partition("/")
    value = choices.json()
    event = {"type": kind, "delta": value, "fragment": value, "content_block": {"type": sub}, "usage": value}
    return f"data: {json.dumps(event)}\n\n".encode("utf-8", "surrogatepass")


def _read(client: bytes, daemon: bytes, cuts: list[int], by: Side) -> tuple[list[Report], dict[str, int]]:
    registry = Registry(Clients({}), gap_bounds=(0.1,), clocks=Clocks(lambda: 0.0, lambda: 0))
    observer = ConnectionObserver(registry)
    for data, feed in ((client, observer.from_client), (daemon, observer.from_daemon)):
        places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for start, end in itertools.pairwise(places):
            if start < end:
                feed(data[start:end])
    observer.daemon_ended()
    observer.closed(by)
    assert registry.counts["unread_failures"] == 0, "reading raised"
    assert registry.in_flight == 0, "a request is in flight for ever"
    reports = list(registry._reports)
    for report in reports:
        assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
        assert len(report.phases) <= 64
    return reports, {name: count for name, count in registry.counts.items() if count}
