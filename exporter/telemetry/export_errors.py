"""Keeps what OpenTelemetry's exporters say about a receiver for whoever asked them, instead of a line for every try.

Knows no receiver and no signal: words belong to the thread they were said in.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Final

_LOGGER: Final = "opentelemetry.exporter.otlp"
"""Above the loggers of all its exporters, over HTTP and gRPC alike."""

_MOST_CHARS: Final = 400


class _Listener(logging.Handler):
    """Takes the exporters' records; what no thread listens to goes on as if we were not there."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    @contextlib.contextmanager
    def heard(self) -> Iterator[list[str]]:
        """Give the list that what is said in this thread meanwhile is added to."""
        words: list[str] = []
        self._local.words = words
        try:
            yield words
        finally:
            self._local.words = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record for this thread, or pass it on."""
        words: list[str] | None = getattr(self._local, "words", None)
        if words is None:
            logging.getLogger().handle(record)
        else:
            words.append(record.getMessage())


_LISTENER: Final = _Listener()


def heard() -> contextlib.AbstractContextManager[list[str]]:
    """Collect, within the block, what the exporters say in this thread."""
    logger = logging.getLogger(_LOGGER)
    logger.addHandler(_LISTENER)  # once: adding it again changes nothing
    logger.propagate = False
    return _LISTENER.heard()


def gist(words: list[str]) -> str:
    """Say why a batch was not taken: the first complaint tells, the last one only that tries are over."""
    first = words[0] if words else "no reason was given"
    # Source: "Transient error %s encountered while exporting %s batch, retrying in %.2fs." of the SDK's exporters.
    return first.removeprefix("Transient error ").partition(" encountered while exporting")[0][:_MOST_CHARS]
