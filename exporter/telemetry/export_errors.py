"""Collects the messages of OpenTelemetry's exporters for their caller, instead of one log line per attempt.

A message belongs to the thread that logged it.
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
    """Takes the exporters' records; a record without a collecting thread passes through."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    @contextlib.contextmanager
    def heard(self) -> Iterator[list[str]]:
        """Return the list to which this thread's messages are added meanwhile."""
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
    """Collect the exporters' messages in this thread, within the block."""
    logger = logging.getLogger(_LOGGER)
    logger.addHandler(_LISTENER)  # once: adding it again changes nothing
    logger.propagate = False
    return _LISTENER.heard()


def gist(words: list[str]) -> str:
    """Return why a batch was rejected: the first message has the reason, the last one only that retries ended."""
    first = words[0] if words else "no reason was given"
    # Source: "Transient error %s encountered while exporting %s batch, retrying in %.2fs." of the SDK's exporters.
    return first.removeprefix("Transient error ").partition(" encountered while exporting")[0][:_MOST_CHARS]
