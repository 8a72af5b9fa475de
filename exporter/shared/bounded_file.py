"""Reads a small text file whose path is a setting.

Bounded, so that a wrong path (a disk image, /dev/zero) is harmless. Pipes are read, too: `<(command)` in a shell is
one. Where a program looks at a path by itself, again and again, only a file is read, for a pipe would hold it up.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 4 * 1024 * 1024


class TooLarge(ValueError):
    """The file has more than the bytes that are read of it."""

    def __init__(self, at_most: int) -> None:
        super().__init__(f"larger than {at_most} bytes")


class NotAFile(ValueError):
    """It is a folder, a pipe or a device."""


def read_text(path: Path, *, at_most: int = MAX_BYTES, only_files: bool = False) -> str:
    """Read a UTF-8 file of at most so many bytes, line ends as they are. Raises OSError, ValueError; why() says it."""
    with open(path, "rb", opener=_at_once if only_files else None) as file:
        if only_files and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotAFile
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise TooLarge(at_most)
    return content.decode("utf-8")


def why(error: OSError | ValueError) -> str:
    """Say in a few words why a file could not be read."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, NotAFile):
        return "not a file"
    return "not text" if isinstance(error, UnicodeDecodeError) else str(error)


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
