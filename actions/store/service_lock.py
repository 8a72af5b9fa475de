"""Lets one service at a time have a state folder. `daemonpulse actions token` and the like need no such lock.

A second service would hold the first one's open calls for a crash's, and not hear of overrides that the first one sets.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FILE_NAME: Final = "actions.lock"


class FolderTaken(Exception):
    """Another service has the folder."""


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Have the folder, which must exist, while inside; the lock ends with the process. Raises FolderTaken, OSError."""
    descriptor = os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            raise FolderTaken(
                f"{folder} is in use by another service" + (f" (process {holder})" if holder else "")
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
