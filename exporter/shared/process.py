"""Reads this process: memory, CPU, open files, and their limits.

Cheaper than prometheus-client's ProcessCollector: constants are read once, and the limits file, most of its cost, is
not read. None without /proc.
"""

import gc
import os
import resource
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import psutil

_STATM: Final = Path("/proc/self/statm")
_FILES: Final = "/proc/self/fd"

NEW_OBJECTS_PER_COLLECTION: Final = 10_000
"""Python's own is 700, for programs that are smaller and make more cycles. Measured: docs/BENCHMARKS.md."""


@dataclass(frozen=True, slots=True)
class OwnProcess:
    """This process at one moment. Source: proc(5), getrusage(2), getrlimit(2)."""

    virtual_bytes: int
    resident_bytes: int
    cpu_seconds: float
    """User and system time since it started."""
    started_at_s: float
    """Seconds since the epoch."""
    open_files: int
    open_files_most: int


def read() -> OwnProcess | None:
    """Read this process; None where the system does not report it."""
    try:
        virtual_pages, resident_pages = _STATM.read_bytes().split()[:2]
        # The listing has the file it is read from, which is closed again by now.
        open_files = len(os.listdir(_FILES)) - 1  # noqa: PTH208 - a scrape is no place for a Path per open file
    except OSError:
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return OwnProcess(
        virtual_bytes=int(virtual_pages) * resource.getpagesize(),
        resident_bytes=int(resident_pages) * resource.getpagesize(),
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        started_at_s=_started_at_s(),
        open_files=open_files,
        open_files_most=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def raise_open_files_limit() -> None:
    """Raise the limit of open files to the hard limit: a watched daemon takes five sockets, and 1,024 is a usual limit.

    That limit is for programs that use select(2), which cannot see higher numbers; asyncio uses epoll.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def raise_gc_threshold() -> None:
    """Raise the thresholds of Python's garbage collector."""
    gc.set_threshold(NEW_OBJECTS_PER_COLLECTION)


@cache
def _started_at_s() -> float:
    return psutil.Process().create_time()
