"""Tells one state of a file from another without reading it.

Knows nothing of what is in it.
"""

from __future__ import annotations

from pathlib import Path


def mark_of(path: Path) -> object:
    """Return something that is equal while the file is as it is; None when there is none."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return str(error)
    return about.st_ino, about.st_mtime_ns, about.st_size
