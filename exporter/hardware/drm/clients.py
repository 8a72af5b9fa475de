"""Finds the DRM clients of all processes in /proc, at the cost of those that use a GPU.

Scanning every descriptor of every process takes most of a reading. A process is scanned when it is new, when its
number of descriptors changed (the size of /proc/<pid>/fd on Linux 6.2 and newer), and once in a few readings.
Descriptors known to be DRM files are read every time.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from exporter.hardware.drm.fdinfo import Client, parse
from exporter.hardware.drm.files import read_bytes

ROUNDS: Final = 8
"""An unchanged process is looked through once in so many readings."""
FIRST_ROUNDS: Final = 4
"""A process that is new is looked through in so many readings: it opens its GPU after it has started."""
MOST_FILES: Final = 4096
"""Descriptors of one process that are looked through."""
_NODES: Final = "/dev/dri/"


@dataclass(frozen=True, slots=True)
class ClientScan:
    """The result of one scan of /proc."""

    clients: tuple[tuple[int, Client], ...]
    """With the pid of the process. A client that several descriptors share is listed several times."""
    hidden_pids: frozenset[int]
    """Processes whose descriptors this user may not see."""


@dataclass(slots=True)
class _Process:
    """What is remembered of a process."""

    files: list[str]
    """Paths of the fdinfo of its DRM files."""
    size: int
    hidden: bool
    looks: int


class ClientScanner:
    """Remembers processes between readings. Not for more than one thread at a time."""

    def __init__(self, procfs: str) -> None:
        self._procfs = procfs
        self._known: dict[str, _Process] = {}
        self._round = 0

    def scan(self) -> ClientScan:
        """Look at every process now; one that ends meanwhile is not in the answer."""
        self._round += 1
        known: dict[str, _Process] = {}
        for position, pid in enumerate(self._pids()):
            size = self._size(pid)
            process = self._known.get(pid)
            if size is None:
                continue
            if process is None or size != process.size or self._is_due(process, position):
                process = self._look_through(pid, size, looks=1 if process is None else process.looks + 1)
            known[pid] = process
        self._known = known
        return ClientScan(
            clients=tuple(self._clients()),
            hidden_pids=frozenset(int(pid) for pid, process in known.items() if process.hidden),
        )

    def _is_due(self, process: _Process, position: int) -> bool:
        return process.looks < FIRST_ROUNDS or (position + self._round) % ROUNDS == 0

    def _pids(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._procfs) if name.isdigit()]  # noqa: PTH208 - see files.py
        except OSError:
            return []

    def _size(self, pid: str) -> int | None:
        try:
            return os.stat(f"{self._procfs}/{pid}/fd").st_size  # noqa: PTH116 - for every process of the host
        except FileNotFoundError:
            return None
        except OSError:
            return 0

    def _look_through(self, pid: str, size: int, *, looks: int) -> _Process:
        directory = f"{self._procfs}/{pid}"
        try:
            descriptors = os.listdir(f"{directory}/fd")[:MOST_FILES]  # noqa: PTH208
        except PermissionError:
            return _Process([], size, hidden=not self._is_kernel_thread(directory), looks=looks)
        except OSError:
            descriptors = []
        files = [f"{directory}/fdinfo/{fd}" for fd in descriptors if _is_drm(f"{directory}/fd/{fd}")]
        return _Process(files, size, hidden=False, looks=looks)

    @staticmethod
    def _is_kernel_thread(directory: str) -> bool:
        """Return whether a process is a kernel thread, which only root can inspect: it has no command line."""
        return read_bytes(f"{directory}/cmdline") == b""

    def _clients(self) -> Iterator[tuple[int, Client]]:
        for pid, process in self._known.items():
            for path in process.files:
                content = read_bytes(path)
                client = None if content is None else parse(content)
                if client is not None:
                    yield int(pid), client


def _is_drm(path: str) -> bool:
    try:
        return os.readlink(path).startswith(_NODES)  # noqa: PTH115 - for every descriptor of a process
    except OSError:
        return False
