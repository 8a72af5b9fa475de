"""A receiver of Alertmanager's webhook messages: the demo's receiver of alerts.

Source: <webhook_config> in Alertmanager's documentation, version 4 of its message.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

MAX_MESSAGE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a message."""

    name: str
    status: str
    """firing or resolved."""
    summary: str
    labels: dict[str, str]


@contextlib.contextmanager
def alert_sink(told: Callable[[Alert], None]) -> Iterator[str]:
    """Listen on a free port of this host and yield the URL; `told` is called with each alert, from another thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not (length.isascii() and length.isdigit()) or int(length) > MAX_MESSAGE_BYTES:
                self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return
            try:
                alerts = _alerts(json.loads(self.rfile.read(int(length))))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self.send_error(HTTPStatus.BAD_REQUEST)
                return
            for alert in alerts:
                told(alert)
            self.send_response(HTTPStatus.NO_CONTENT)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Leave the terminal to the demo."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _alerts(message: Any) -> list[Alert]:
    return [
        Alert(
            name=one["labels"]["alertname"],
            status=one["status"],
            summary=one["annotations"].get("summary", ""),
            labels=one["labels"],
        )
        for one in message["alerts"]
    ]
