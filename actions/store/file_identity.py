"""Tells whether a database's files are still the ones that were opened, and whether they are private."""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from pathlib import Path
from typing import ClassVar, Final

log = logging.getLogger(__name__)

_SUFFIXES: Final = ("", "-wal", "-shm")
_HEADER_BYTES: Final = 48

Identity = tuple[tuple[str, int, int], ...]
"""Name, device and inode of the database, its log and its index, as far as they were there."""


class WalIndex:
    """The header of a database's WAL index, which every commit of any process changes.

    Source: https://www.sqlite.org/walformat.html, section 2.1. Closing a file drops the locks that SQLite has on it in
    this process, so there is one descriptor per file, closed after the connections of all who use it.
    """

    _open: ClassVar[dict[tuple[int, int], tuple[int, int]]] = {}
    """By device and inode: the descriptor and how many use it."""

    def __init__(self, path: Path) -> None:
        """Open it, while a connection to the database is open. Raises OSError."""
        status = os.stat(f"{path}-shm")  # noqa: PTH116 - as below
        self._key = status.st_dev, status.st_ino
        descriptor, users = self._open.get(self._key) or (os.open(f"{path}-shm", os.O_RDONLY), 0)
        self._open[self._key] = descriptor, users + 1
        self._descriptor = descriptor

    def read(self) -> bytes:
        """Return the header: equal ones mean that nothing was committed in between. Raises OSError."""
        return os.pread(self._descriptor, _HEADER_BYTES, 0)

    def close(self) -> None:
        """Close it, after the connections to the database."""
        descriptor, users = self._open.pop(self._key)
        if users > 1:
            self._open[self._key] = descriptor, users - 1
        else:
            os.close(descriptor)


def commits_between(before: bytes, after: bytes) -> int:
    """Return the number of commits between two headers, modulo 2**32."""
    first, last = (int.from_bytes(header[8:12], sys.byteorder) for header in (before, after))
    return (last - first) % 2**32


def of(path: Path) -> Identity:
    """Name the files that belong to a database."""
    found = ((name, _inode(name)) for name in (f"{path}{suffix}" for suffix in _SUFFIXES))
    return tuple((name, *inode) for name, inode in found if inode is not None)


def require_same(identity: Identity) -> None:
    """Check the files. Raises OSError when one is missing or replaced."""
    for name, device, inode in identity:
        status = os.stat(name)  # noqa: PTH116 - at every request, and a Path costs more than the call
        if status.st_ino != inode or status.st_dev != device:
            raise OSError(errno.ESTALE, "it is another file now")


def require_private_folder(folder: Path) -> None:
    """Refuse a folder that every user may write to. Raises OSError."""
    if folder.stat().st_mode & stat.S_IWOTH:
        raise PermissionError(
            errno.EPERM, f"every user may write to the folder {folder}; run: chmod 700 {folder}"
        )


def require_private(path: Path) -> None:
    """Refuse what is not private in kind or place; remove other users' rights from the files. Raises OSError.

    A link gives a database two names, and SQLite keeps a log for each. Source:
    https://www.sqlite.org/howtocorrupt.html, section 2.5.
    """
    require_private_folder(path.parent)
    for suffix in _SUFFIXES:
        file = Path(f"{path}{suffix}")
        try:
            status = file.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            kind = (
                "has another name, too (a hard link)" if stat.S_ISREG(status.st_mode) else "is no plain file"
            )
            raise OSError(
                errno.EINVAL, f"{file.name} {kind}; put a copy in its place, with the service stopped"
            )
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            file.chmod(0o600)
            log.warning("database file mode corrected", extra={"file": str(file), "mode": f"{mode:04o}"})


def _inode(file: str) -> tuple[int, int] | None:
    try:
        status = Path(file).stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def make_private(folder: Path) -> None:
    """Make a folder and those above it for their owner only; mkdir(parents=True) leaves those above to the umask."""
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
