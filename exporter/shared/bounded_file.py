"""Reads a small text file whose path is a setting.

Bounded, so that a wrong path (a disk image, /dev/zero) is harmless. Pipes are read, too: `<(command)` in a shell is
one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

MAX_BYTES: Final = 4 * 1024 * 1024


class TooLarge(ValueError):
    """The file has more than the bytes that are read of it."""


def read_text(path: Path, *, at_most: int = MAX_BYTES) -> str:
    """Read a UTF-8 file of at most so many bytes, line ends as they are. Raises OSError, ValueError; why() says it."""
    with path.open("rb") as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise TooLarge
    return content.decode("utf-8")


def why(error: OSError | ValueError) -> str:
    """Say in a few words why a file could not be read."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, TooLarge):
        return f"larger than {MAX_BYTES // 1024**2} MiB"
    return "not text" if isinstance(error, UnicodeDecodeError) else str(error)
