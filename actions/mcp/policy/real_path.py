"""Resolves symbolic links of a path. A path that this process may not look at is refused, since it may be a link."""

from __future__ import annotations

import contextlib
import os


def real_path(path: str) -> str:
    """Return the path without symbolic links; it need not exist. Raises OSError, ValueError.

    `os.path.realpath` takes a folder that it may not search, and a loop of links, for the end of the path.
    """
    real = os.path.realpath(path)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(real)
    return real
