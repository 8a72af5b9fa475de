"""Removes a folder and ends programs when this process ends, even by kill -9, which runs no `finally`.

A shell in its own session reads a pipe. The pipe ends with this process: then the shell kills the
groups of the programs that were named in it and removes the folder, with the tokens in it.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

_GUARD: Final = """
groups=
while read -r group; do groups="$groups $group"; done
for group in $groups; do kill -s KILL -- "-$group"; done
for attempt in 1 2 3 4 5; do rm -rf -- "$1" && exit; sleep 0.2; done
"""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What must go."""

    folder: Path
    _guard: IO[bytes]

    def add_group(self, process_group: int) -> None:
        """Name a program by its process group: it has been started in a session of its own."""
        self._guard.write(b"%d\n" % process_group)


@contextlib.contextmanager
def leftovers(prefix: str) -> Iterator[Leftovers]:
    """Make a folder that only this user can read. It is gone at the end, whatever the end is."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        start_new_session=True,
    )
    pipe = cast("IO[bytes]", guard.stdin)
    try:
        yield Leftovers(folder, pipe)
    finally:
        guard.kill()  # first: by now the programs are stopped, and their numbers may be others'
        guard.wait()
        pipe.close()
        shutil.rmtree(folder, ignore_errors=True)
