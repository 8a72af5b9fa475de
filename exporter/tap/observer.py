"""Reads a copy of one connection: which requests pass, how each is answered, and where it becomes a WebSocket.

Does not depend on sockets. Called after the bytes have been passed on; what cannot be read ends the reading of this
connection and is counted, and the connection goes on.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

from exporter.tap.answers import AnswerReader, model_of
from exporter.tap.exchange import Exchange
from exporter.tap.predict_channel import PredictSocket
from exporter.tap.registry import Registry
from exporter.tap.relay import Side
from exporter.tap.routes import OPERATIONS, PREDICTIONS, route_of
from exporter.tap.wire.deflate import InflateError, inflaters
from exporter.tap.wire.http1 import Body, FramingError, Head, MessageReader
from exporter.tap.wire.websocket import FrameReader

log = logging.getLogger(__name__)

MAX_PIPELINED: Final = 64
"""Requests whose answers are still to come, on one connection."""
_MAX_REQUEST_BYTES: Final = 16 * 1024
_TAIL_BYTES: Final = 2 * 1024
_INFORMATIONAL: Final = range(100, 200)
_SWITCHING: Final = 101
_WITHOUT_BODY: Final = frozenset({204, 304})


class ConnectionObserver:
    """One connection, both directions."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._requests = _Requests(registry)
        self._answers = _Answers(registry, self._requests)
        self._client_reader = MessageReader(self._requests, requests=True)
        self._daemon_reader = MessageReader(self._answers, requests=False)
        self._is_reading = True

    def from_client(self, data: bytes) -> None:
        """Take what the client sent."""
        if self._is_reading:
            self._guard(self._client_reader, data)

    def from_daemon(self, data: bytes) -> None:
        """Take what the daemon sent."""
        if self._is_reading:
            self._guard(self._daemon_reader, data)

    def daemon_ended(self) -> None:
        """Take the end of the daemon's direction, which ends an answer that has no length."""
        if self._is_reading:
            self._daemon_reader.feed_eof()

    def closed(self, by: Side | None) -> None:
        """End what was under way: one side has ended the connection, or (None) it is not read any more."""
        self._is_reading = False
        self._answers.close(by)
        for exchange in self._requests.waiting:
            self._registry.end(exchange, cancelled=by is Side.CLIENT, cut=by is Side.DAEMON)
        self._requests.waiting.clear()

    def _guard(self, reader: MessageReader, data: bytes) -> None:
        """Read, and take no harm: the stream matters and the copy does not."""
        try:
            reader.feed(data)
        except (FramingError, InflateError) as error:
            self._give_up("unread_framing")
            log.debug("connection not readable", extra={"problem": str(error)})
        except Exception:
            self._give_up("unread_failures")
            if self._registry.counts["unread_failures"] == 1:
                log.exception("reading a copy failed")

    def _give_up(self, counter: str) -> None:
        self._registry.counts[counter] += 1
        self.closed(None)


class _Requests:
    """The client's direction."""

    def __init__(self, registry: Registry) -> None:
        self.waiting: deque[Exchange] = deque()
        """Requests without the end of an answer, in order."""
        self.upgrade: Head | None = None
        self.is_switched = False
        self.socket: PredictSocket | None = None
        self.frames = FrameReader()
        self._registry = registry
        self._body = bytearray()
        self._tail = b""
        self._latest: Exchange | None = None

    def on_head(self, head: Head) -> Body:
        method, target, _ = head.start
        if len(self.waiting) >= MAX_PIPELINED:
            raise FramingError(f"more than {MAX_PIPELINED} requests without an answer")
        route = route_of(target)
        self.upgrade = head if head.header("upgrade").lower() == "websocket" else None
        self._latest = self._registry.begin(
            client=self._registry.clients.of_request(head.headers),
            route=route,
            method=method,
            traceparent=head.header("traceparent"),
            predicts=method == "POST" and route in PREDICTIONS,
        )
        self.waiting.append(self._latest)
        self._body.clear()
        self._tail = b""
        # A client that upgrades sends frames only after the answer, which switches this reader.
        return Body.TUNNEL if self.upgrade is not None else Body.FRAMED

    def on_body(self, data: bytes) -> None:
        if self._latest is None or not (self._latest.predicts or self._latest.route in OPERATIONS):
            return
        room = _MAX_REQUEST_BYTES - len(self._body)
        self._body += data[:room]
        if len(data) > room:
            self._tail = (self._tail + data[room:])[-_TAIL_BYTES:]

    def on_end(self) -> None:
        if self._latest is not None and self._body:
            self._latest.model = model_of(bytes(self._body), self._tail)
        self._latest = None

    def on_tunnel(self, data: bytes) -> None:
        if not self.is_switched:
            raise FramingError("more bytes after an upgrade that the daemon has not agreed to")
        if self.socket is not None:
            for message in self.frames.feed(data):
                self.socket.from_client(message)


class _Answers:
    """The daemon's direction."""

    def __init__(self, registry: Registry, requests: _Requests) -> None:
        self._registry = registry
        self._requests = requests
        self._frames = FrameReader()
        self._body: AnswerReader | None = None

    def on_head(self, head: Head) -> Body:
        try:
            status = int(head.start[1])
        except ValueError:
            raise FramingError("not a status") from None
        if not self._requests.waiting:
            raise FramingError("an answer to no request")
        exchange = self._requests.waiting[0]
        if status == _SWITCHING:
            self._switch(exchange, status, head)
            return Body.TUNNEL
        if status in _INFORMATIONAL:
            return Body.NONE
        exchange.status = status
        form = PREDICTIONS.get(exchange.route, "openai") if self._is_read(exchange) else None
        self._body = AnswerReader(form, head, exchange.meter) if form is not None else None
        return Body.NONE if exchange.method == "HEAD" or status in _WITHOUT_BODY else Body.FRAMED

    def on_body(self, data: bytes) -> None:
        exchange = self._requests.waiting[0]
        if self._body is not None:
            self._body.feed(data, exchange.elapsed_s)

    def on_end(self) -> None:
        exchange = self._requests.waiting[0]
        if exchange.status is None:  # of an informational answer, such as 100 Continue
            return
        self._finish_body()
        self._requests.waiting.popleft()
        self._registry.end(exchange)

    def on_tunnel(self, data: bytes) -> None:
        socket = self._requests.socket
        if socket is not None:
            for message in self._frames.feed(data):
                socket.from_daemon(message)

    def close(self, by: Side | None) -> None:
        """End what is under way."""
        self._finish_body()
        if self._requests.socket is not None:
            self._requests.socket.close(cancelled=by is Side.CLIENT, cut=by is Side.DAEMON)
            self._requests.socket = None

    def _switch(self, exchange: Exchange, status: int, head: Head) -> None:
        """End the upgrade's request; on /llm, what follows is read."""
        exchange.status = status
        self._requests.waiting.popleft()
        self._registry.end(exchange)
        upgrade = self._requests.upgrade
        self._requests.is_switched = True
        if upgrade is not None and exchange.route == "/llm":
            self._requests.socket = PredictSocket(self._registry, upgrade.headers)
            clients, daemons = inflaters(head.header("sec-websocket-extensions"))
            self._requests.frames, self._frames = FrameReader(clients), FrameReader(daemons)

    def _finish_body(self) -> None:
        body, self._body = self._body, None
        if body is None:
            return
        body.close()
        counts = self._registry.counts
        counts["malformed_events"] += body.malformed
        counts["skipped_events"] += body.skipped
        if body.unread is not None:
            counts["unread_bodies"] += 1

    @staticmethod
    def _is_read(exchange: Exchange) -> bool:
        return exchange.predicts or exchange.route in OPERATIONS
