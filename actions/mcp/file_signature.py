"""Detects changes of a file by inode, times and size, without reading it."""

from __future__ import annotations

from pathlib import Path


def signature_of(path: Path) -> object:
    """Return a value that is equal while the file is unchanged; None if there is no file."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return str(error)
    return about.st_ino, about.st_mtime_ns, about.st_ctime_ns, about.st_size
