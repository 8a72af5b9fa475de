"""Log output of this process: one line per event, logfmt as Prometheus' own programs write it, or JSON.

Knows no event: callers pass a short message and `extra={...}`; line breaks and quotes cannot forge another line.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


_OURS: Final = ("exporter", "actions", "daemonpulse")

_QUOTES_CONTENT: Final = ("mcp",)
"""Their warnings quote what they could not read: tools' arguments and answers, addresses with passwords in them."""


def configure(*, level: str, format_: str, stream: TextIO | None = None) -> None:
    """Send log records of this process to stderr, or to a stream, in the chosen format.

    Only loggers of this project go below warning: libraries log addresses, frames and arguments of each request.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(withhold)
    handler.setFormatter(JsonFormatter() if format_ == "json" else LogfmtFormatter())
    logging.basicConfig(level=max(logging.WARNING, _number(level)), handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(_number(level))


def withhold(record: logging.LogRecord) -> bool:
    """Keep of a record that may quote content only who spoke, where, and the kind of error. A filter; lets all pass."""
    if record.name.partition(".")[0] in _QUOTES_CONTENT:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        record.msg = f"a library complained ({record.funcName}:{record.lineno}{' ' + kind if kind else ''})"
        record.args, record.exc_info, record.exc_text = None, None, None
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
        fields["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        fields["trace"] = logging.Formatter().formatException(record.exc_info)
    return fields


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
