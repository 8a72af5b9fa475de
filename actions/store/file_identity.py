"""Tells whether a database's files are still the ones that were opened, and whether they are private."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_SUFFIXES: Final = ("", "-wal", "-shm")
SETTLED_NS: Final = 100_000_000
"""A file that was changed more recently could be changed again within one tick of its file system's clock."""

Identity = tuple[tuple[str, int, int], ...]
"""Name, device and inode of the database, its log and its index, as far as they were there."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Sizes and times of a database's files. Two equal ones that are settled mean that nothing was written between."""

    sizes_and_times: tuple[tuple[int, int], ...]
    is_settled: bool


def of(path: Path) -> Identity:
    """Name the files that belong to a database."""
    found = ((name, _inode(name)) for name in (f"{path}{suffix}" for suffix in _SUFFIXES))
    return tuple((name, *inode) for name, inode in found if inode is not None)


def stamp_of(identity: Identity) -> Stamp:
    """Check the files. Raises OSError when one is missing or replaced."""
    seen: list[tuple[int, int]] = []
    newest_ns = 0
    for name, device, inode in identity:
        status = os.stat(name)  # noqa: PTH116 - at every request, and a Path costs more than the call
        if status.st_ino != inode or status.st_dev != device:
            raise OSError(errno.ESTALE, "it is another file now")
        if not name.endswith("-shm"):  # written through memory, which its time does not show
            seen.append((status.st_size, status.st_mtime_ns))
            newest_ns = max(newest_ns, status.st_mtime_ns)
    return Stamp(tuple(seen), time.time_ns() - newest_ns > SETTLED_NS)


def require_private(path: Path) -> None:
    """Refuse a folder that every user may write to; remove other users' rights from the file. Raises OSError."""
    folder = path.parent.stat()
    if folder.st_mode & stat.S_IWOTH:
        raise PermissionError(
            errno.EPERM, f"every user may write to the folder {path.parent}; run: chmod 700 {path.parent}"
        )
    for suffix in _SUFFIXES:
        file = Path(f"{path}{suffix}")
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
        except FileNotFoundError:
            continue
        if mode & 0o077:
            file.chmod(0o600)
            log.warning("database file mode corrected", extra={"file": str(file), "mode": f"{mode:04o}"})


def _inode(file: str) -> tuple[int, int] | None:
    try:
        status = Path(file).stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
