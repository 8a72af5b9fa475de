"""Prints text from outside safely: names, reasons and arguments cannot control the terminal.

Also ends a command with an error line. Unprintable characters (escape sequences, line separators, NUL) are shown as
Python writes them.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, NoReturn

import click


def plain(text: str) -> str:
    """Escape what is not printable, line breaks too."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def say(text: str, *, err: bool = False) -> None:
    """Print one line, in which nothing is obeyed."""
    click.echo(plain(text), err=err)


def fail(message: str, code: int = 2) -> NoReturn:
    """Exit with one line on stderr. Code 2: the request was wrong; 1: it failed."""
    say(f"daemonpulse: {' '.join(message.split())}", err=True)
    sys.exit(code)


def say_json(value: Any) -> None:
    """Print JSON, in ASCII: json escapes every control character but DEL."""
    click.echo(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))


def local_time(at_ms: float) -> str:
    """Write a moment in milliseconds since 1970 as local time. Raises ValueError for one that no calendar has."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))
    except (OSError, OverflowError) as error:
        raise ValueError(f"{at_ms} ms is no time") from error
