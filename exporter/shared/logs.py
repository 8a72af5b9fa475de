"""Log output: one line per event, as logfmt like Prometheus, or JSON.

Callers pass a short message and `extra={...}`; line breaks and quotes cannot forge another line. Of an exception the
type and the lines of code are written. Its message is left out, because it may quote a prompt, an answer or a secret.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


_LOGGERS: Final = ("exporter", "actions", "daemonpulse")

_QUOTES_CONTENT: Final = ("mcp", "asyncio")
"""Their records quote what failed: tools' arguments and answers, addresses with passwords, messages of exceptions."""

_MAX_CAUSES: Final = 8
"""Exceptions written of one record: the first, its causes, and the members of groups."""


def configure(*, level: str, format_: str, stream: TextIO | None = None) -> None:
    """Send log records of this process to stderr, or to a stream, and what is unhandled as one of them."""
    _send(stream or sys.stderr, level=level, format_=format_)
    sys.excepthook = lambda _type, error, _trace: _log_unhandled(error)
    threading.excepthook = lambda failed: _log_unhandled(failed.exc_value)


@contextlib.contextmanager
def kept_in(path: Path) -> Iterator[None]:
    """Write log records to a file meanwhile. An unhandled exception is shown on the terminal, as ever."""
    with path.open("w", encoding="utf-8") as stream:
        _send(stream, level="info", format_="logfmt")
        try:
            yield
        finally:
            logging.basicConfig(handlers=[logging.NullHandler()], force=True)


def _send(stream: TextIO, *, level: str, format_: str) -> None:
    """Only loggers of this project go below warning: libraries log addresses, frames and arguments of each request."""
    handler = logging.StreamHandler(stream)
    handler.addFilter(withhold)
    handler.setFormatter(JsonFormatter() if format_ == "json" else LogfmtFormatter())
    logging.basicConfig(level=max(logging.WARNING, _number(level)), handlers=[handler], force=True)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(_number(level))


def _log_unhandled(error: BaseException | None) -> None:
    if not isinstance(error, KeyboardInterrupt | SystemExit):
        logging.getLogger("daemonpulse").critical("unhandled exception", exc_info=error)


def withhold(record: logging.LogRecord) -> bool:
    """Reduce a record that may quote content to its logger, place and kind of error.

    A filter that passes every record.
    """
    if record.name.partition(".")[0] in _QUOTES_CONTENT:
        record.msg = f"a library reports a problem ({record.funcName}:{record.lineno})"
        record.args = None
    return True


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _fields(record: logging.LogRecord) -> dict[str, object]:
    when = datetime.fromtimestamp(record.created, tz=UTC)
    fields: dict[str, object] = {
        "ts": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "msg": record.getMessage(),
    }
    fields.update({key: value for key, value in record.__dict__.items() if key not in _STANDARD})
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        fields["error"] = type(error).__name__
        fields["trace"] = "".join(_trace(error))
    return fields


def _trace(error: BaseException) -> list[str]:
    """Write types and lines of code of an exception, its causes and its members, innermost last."""
    lines: list[str] = []
    found: list[BaseException | None] = [error]
    for _ in range(_MAX_CAUSES):
        if not found:
            break
        one = found.pop(0)
        if one is not None:
            lines += [f"{type(one).__name__}\n", *traceback.format_tb(one.__traceback__)]
            found += [one.__cause__ or (None if one.__suppress_context__ else one.__context__)]
            found += one.exceptions if isinstance(one, BaseExceptionGroup) else []
    return lines


class LogfmtFormatter(logging.Formatter):
    """`ts=… level=info msg="…" key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Make one line; values with anything but plain characters are quoted as JSON strings."""
        return " ".join(f"{key}={_quote(str(value))}" for key, value in _fields(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Make one line."""
        return json.dumps(_fields(record), default=str, ensure_ascii=True)


def _quote(value: str) -> str:
    plain = value.isascii() and value.isprintable() and not set(value) & set(' "=\\')
    return value if plain and value else json.dumps(value)
