"""One SQLite file for everything that must survive us: opened, migrated, read and written, each in its own thread.

Knows no table (migrations.py does). A commit has reached the disk when `write` returns: WAL with synchronous=FULL
means one fsync per transaction. Whatever SQLite says when the disk is full, read-only or broken becomes StorageFailed.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from actions.store.migrations import MIGRATIONS

T = TypeVar("T")

FILE_NAME: Final = "actions.sqlite3"

BUSY_TIMEOUT_S: Final = 5.0
"""How long a writer waits for another process (`daemonpulse actions token ...`) to finish its transaction."""

PROBE_AFTER_S: Final = 30.0
"""A success older than this is not believed any more: `check_writable` writes again."""


class StorageFailed(Exception):
    """The database cannot be read or written: disk full, read-only, locked for too long, or damaged."""


class StorageTooNew(StorageFailed):
    """The database was written by a newer version of us."""


class Storage:
    """An open database. Make it with `open()`, and `close()` it.

    `write` and `read` take a function of a connection; it runs in a thread of its own, inside one transaction, and its
    result is returned. An exception of its own, and sqlite3.IntegrityError, rolls back and comes out as it is.
    """

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._monotonic = monotonic
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="storage-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="storage-read")
        self._write_connection: sqlite3.Connection
        self._read_connection: sqlite3.Connection
        self._glance_connection: sqlite3.Connection
        self._last_write_worked: bool | None = None
        self._last_write_at = float("-inf")

    @classmethod
    async def open(cls, folder: Path, *, monotonic: Callable[[], float] = time.monotonic) -> Storage:
        """Open, creating folder (0700) and file (0600) if needed, and migrate. Raises StorageFailed."""
        storage = cls(folder / FILE_NAME, monotonic=monotonic)
        loop = asyncio.get_running_loop()
        try:
            storage._write_connection = await loop.run_in_executor(storage._writer, storage._open_and_migrate)
            storage._read_connection = await loop.run_in_executor(storage._reader, storage._connect)
            storage._glance_connection = storage._connect(timeout_s=0)
        except (sqlite3.Error, OSError) as error:
            storage._shut_down()
            raise StorageFailed(f"{storage.path} cannot be opened: {error}") from error
        except BaseException:
            storage._shut_down()
            raise
        return storage

    @property
    def is_writable(self) -> bool:
        """Whether the last write worked; True before the first, for opening has written."""
        return self._last_write_worked is not False

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in an immediate transaction; it is on disk when this returns. Raises StorageFailed.

        A caller that is cancelled does not stop the transaction: it is done or not done, never half.
        """
        return await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(self._writer, self._write, work)
        )

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on a consistent view of what is committed. Raises StorageFailed."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._read, work)

    async def glance(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read, in one statement, the few rows that every request asks for, without the way to a thread and back.

        The kernel has their pages in memory, for they were read a moment ago. Where SQLite would have to wait, a
        thread does. Raises StorageFailed.
        """
        try:
            return work(self._glance_connection)
        except sqlite3.Error:
            return await self.read(work)

    async def check_writable(self) -> bool:
        """Find out whether writing works, by writing if that was not seen to work lately."""
        if self.is_writable and self._monotonic() - self._last_write_at < PROBE_AFTER_S:
            return True
        now_ms = time.time_ns() // 1_000_000
        try:
            await self.write(lambda db: db.execute("UPDATE heartbeat SET at_ms = ?", (now_ms,)))
        except StorageFailed:
            return False
        return True

    async def close(self) -> None:
        """Finish what is queued and close the file."""
        loop = asyncio.get_running_loop()
        self._glance_connection.close()
        await loop.run_in_executor(self._reader, self._read_connection.close)
        await loop.run_in_executor(self._writer, self._write_connection.close)
        self._shut_down()

    def _shut_down(self) -> None:
        self._reader.shutdown(wait=False)
        self._writer.shutdown(wait=False)

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._write_connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
        except sqlite3.IntegrityError:  # a rule of the schema: says nothing about the disk
            _roll_back(connection)
            raise
        except sqlite3.Error as error:
            _roll_back(connection)
            self._last_write_worked = False
            raise StorageFailed(f"{self.path} cannot be written: {error}") from error
        except BaseException:
            _roll_back(connection)
            raise
        self._last_write_worked, self._last_write_at = True, self._monotonic()
        return result

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._read_connection
        try:
            connection.execute("BEGIN")
            result = work(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(connection)
            raise StorageFailed(f"{self.path} cannot be read: {error}") from error
        except BaseException:
            _roll_back(connection)
            raise
        return result

    def _open_and_migrate(self) -> sqlite3.Connection:
        _make_private(self.path.parent)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, *, timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=timeout_s, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._known_version(connection)
            for script in MIGRATIONS[version:]:
                for statement in _statements(script):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def _known_version(self, connection: sqlite3.Connection) -> int:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(MIGRATIONS):
            raise StorageTooNew(
                f"{self.path} has version {version} and this program knows {len(MIGRATIONS)}; "
                "use the newer program, or another state folder"
            )
        return version


def _make_private(folder: Path) -> None:
    """Make a folder and those above it for their owner only; mkdir(parents=True) leaves those above to the umask."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _statements(script: str) -> list[str]:
    """Cut a script where its statements end: executescript() would commit in between."""
    statements: list[str] = []
    current = ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    if current.strip():
        raise ValueError(f"a migration ends in the middle of a statement: {current.strip()[:80]}")
    return statements


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.rollback()
