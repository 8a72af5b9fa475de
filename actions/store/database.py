"""Opens, migrates, reads and writes the SQLite database of the actions service, each in a thread of its own.

A commit has reached the disk when `write` returns: WAL with synchronous=FULL means one fsync per transaction. What
SQLite reports when the disk is full, read-only or damaged becomes StorageFailed, and so does a database that was
deleted, replaced or changed in its shape by another program.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from actions.store import chain, covered, file_identity
from actions.store.chain import Entry
from actions.store.content import REPLACED, Changed, Content, last_row, require_own_programs
from actions.store.file_identity import Identity, WalIndex
from actions.store.migrations import MIGRATIONS, statements

T = TypeVar("T")

FILE_NAME: Final = "actions.sqlite3"

BUSY_TIMEOUT_S: Final = 5.0
"""How long a writer waits for another process (`daemonpulse actions token ...`) to finish its transaction."""

PROBE_AFTER_S: Final = 30.0
"""A success older than this has expired: `check_writable` writes again."""


class StorageFailed(Exception):
    """The database cannot be read or written: disk full, read-only, locked for too long, or damaged."""


class StorageTooNew(StorageFailed):
    """The database was written by a newer version of the program."""


class StorageMissing(StorageFailed):
    """There is no database in this folder, and none was to be made."""


_MAX_RECALLED: Final = 32


class Storage:
    """An open database. Make it with `open()`, and `close()` it.

    `write` and `read` take a function of a connection; it runs in the storage's thread, inside one transaction, and
    its result is returned. Its exceptions, and sqlite3.IntegrityError, roll back and are raised unchanged.
    """

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._monotonic = monotonic
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="storage-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="storage-read")
        self._lister = ThreadPoolExecutor(1, thread_name_prefix="storage-list")
        self._opened: list[tuple[ThreadPoolExecutor, sqlite3.Connection]] = []
        self._write_connection: sqlite3.Connection
        self._read_connection: sqlite3.Connection
        self._list_connection: sqlite3.Connection
        self._identity: Identity = ()
        self._wal_index: WalIndex | None = None
        self._content: Content
        self._recalled: dict[Hashable, tuple[bytes, Any]] = {}
        self.listeners: list[Callable[[Entry], None]] = []
        """Receive, in the event loop, audit rows that a transaction got besides those its caller appended."""
        self._last_write_worked: bool | None = None
        self._last_write_at = float("-inf")

    @classmethod
    async def open(
        cls, folder: Path, *, create: bool = True, monotonic: Callable[[], float] = time.monotonic
    ) -> Storage:
        """Open and migrate; with `create`, make folder (0700) and file (0600) if needed. Raises StorageFailed."""
        storage = cls(folder / FILE_NAME, monotonic=monotonic)
        try:
            storage._write_connection = await storage._in(
                storage._writer, lambda: storage._open_and_migrate(create)
            )
            storage._read_connection = await storage._in(storage._reader, storage._connect)
            storage._list_connection = await storage._in(storage._lister, storage._connect)
            storage._identity = file_identity.of(storage.path)
            storage._wal_index = WalIndex(storage.path)
        except (sqlite3.Error, OSError, ValueError) as error:
            await storage.close()
            raise StorageFailed(f"{storage.path} cannot be opened: {error}") from error
        except BaseException:
            await storage.close()
            raise
        return storage

    async def _in(
        self, thread: ThreadPoolExecutor, connect: Callable[[], sqlite3.Connection]
    ) -> sqlite3.Connection:
        """Open a connection in a thread, where `close` closes it."""
        connection = await asyncio.get_running_loop().run_in_executor(thread, connect)
        self._opened.append((thread, connection))
        return connection

    @property
    def head(self) -> tuple[int, str] | None:
        """Sequence number and hash of the last audit row that this process has seen."""
        return self._content.head

    @property
    def is_writable(self) -> bool:
        """Whether the last write worked; True before the first, for opening has written."""
        return self._last_write_worked is not False

    async def write(self, work: Callable[[sqlite3.Connection], T], *, audit_only: bool = False) -> T:
        """Run `work` in an immediate transaction; it is on disk when this returns. Raises StorageFailed.

        With `audit_only`, `work` changes the audit alone, and what is recalled of other tables stays valid.

        A caller that is cancelled does not stop the transaction: it is done or not done, never half.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if error is not None and not done.done():
                done.set_exception(error)
            elif not done.done():  # else the caller was cancelled
                done.set_result(cast("T", result))

        self.submit(work, settle, audit_only=audit_only)
        return await done

    def submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        then: Callable[[T | None, BaseException | None], None],
        *,
        audit_only: bool = False,
    ) -> None:
        """Begin to write as `write` does; `then` gets the result or the exception, in the event loop."""
        loop = asyncio.get_running_loop()

        def announce(result: tuple[T, list[Entry]] | None, error: BaseException | None) -> None:
            if result is None:
                then(None, error)
                return
            for entry in result[1]:
                for listener in self.listeners:
                    listener(entry)
            then(result[0], None)

        def run() -> None:
            try:
                result = self._write(work, audit_only)
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                loop.call_soon_threadsafe(announce, None, error)
            else:
                loop.call_soon_threadsafe(announce, result, None)

        self._writer.submit(run)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on a consistent view of what is committed. Raises StorageFailed."""
        return await asyncio.get_running_loop().run_in_executor(
            self._reader, self._read, self._read_connection, work
        )

    async def read_page(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read a page as `read` does, behind other pages only: who asks for many delays no token and no command."""
        return await asyncio.get_running_loop().run_in_executor(
            self._lister, self._read, self._list_connection, work
        )

    async def recall(
        self, key: Hashable, work: Callable[[sqlite3.Connection], T], *, is_page: bool = False
    ) -> T:
        """Read as `read` does (a page as `read_page`), and answer from memory as long as no process has written.

        The result is shared: callers must not change it. `key` stands for `work`, which does not read the audit. Raises
        StorageFailed.
        """
        stamp = self.stamp()
        known = self._recalled.get(key)
        if known is not None and known[0] == stamp:
            return cast("T", known[1])
        result = await (self.read_page(work) if is_page else self.read(work))
        if len(self._recalled) >= _MAX_RECALLED:
            self._recalled.clear()
        self._recalled[key] = stamp, result
        return result

    async def scan(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run long reads on a separate connection, so that they delay no other. Raises StorageFailed."""
        return await asyncio.to_thread(self._scan, work)

    def stamp(self) -> bytes:
        """Return what every commit changes; look at the files, too. Raises StorageFailed."""
        try:
            file_identity.require_same(self._identity)
            return self._commits()
        except OSError as error:
            raise self._was_replaced(error) from error

    def _commits(self) -> bytes:
        """Return what every commit changes. Raises OSError."""
        return self._wal_index.read() if self._wal_index is not None else b""

    async def check_writable(self) -> bool:
        """Find out whether writing works, by writing if that was not seen to work lately."""
        try:
            self.stamp()
        except StorageFailed:
            return False
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
        for thread, connection in reversed(self._opened):
            with contextlib.suppress(sqlite3.Error):  # of a damaged file: there is nothing left to save
                await loop.run_in_executor(thread, connection.close)
        for thread in (self._reader, self._lister, self._writer):
            thread.shutdown(wait=False)
        if self._wal_index is not None:
            self._wal_index.close()
            self._wal_index = None

    def _write(self, work: Callable[[sqlite3.Connection], T], audit_only: bool) -> tuple[T, list[Entry]]:  # noqa: FBT001
        connection = self._write_connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            before = self.stamp()
            self._content.require_same(connection, self._content.head)
            result = work(connection)
            entries = chain.cover(connection, covered.take(connection))
            head = last_row(connection)
            connection.execute("COMMIT")
        except sqlite3.IntegrityError:  # a constraint of the schema, and no fault of the disk
            _roll_back(connection)
            raise
        except sqlite3.Error as error:
            _roll_back(connection)
            self._last_write_worked = False
            raise StorageFailed(f"{self.path} cannot be written: {error}") from error
        except BaseException as error:
            _roll_back(connection)
            self._last_write_worked = self._last_write_worked and not isinstance(error, StorageFailed)
            raise
        self._last_write_worked, self._last_write_at = True, self._monotonic()
        self._content.head = head
        if audit_only:
            self._still_valid(before)
        return result, entries

    def _still_valid(self, before: bytes) -> None:
        """Keep what is recalled over a commit to the audit, if no other process has committed meanwhile."""
        with contextlib.suppress(OSError):
            after = self._commits()
            if file_identity.commits_between(before, after) == 1:
                for key, (stamp, value) in list(self._recalled.items()):
                    if stamp == before:
                        self._recalled[key] = after, value

    def _was_replaced(self, error: OSError) -> StorageFailed:
        return StorageFailed(
            f"{self.path} was deleted or replaced while it was in use ({error.strerror}); {REPLACED}"
        )

    def _read(self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
        self.stamp()
        return self._transact(connection, work, seen=self._content)

    def _scan(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self.stamp()
        try:
            connection = self._connect()
        except sqlite3.Error as error:
            raise StorageFailed(f"{self.path} cannot be read: {error}") from error
        with contextlib.closing(connection):
            return self._transact(connection, work)  # whatever it holds: this is how it is verified

    def _transact(
        self,
        connection: sqlite3.Connection,
        work: Callable[[sqlite3.Connection], T],
        seen: Content | None = None,
    ) -> T:
        head = seen.head if seen is not None else None  # before the transaction, which therefore sees it
        try:
            connection.execute("BEGIN")
            if seen is not None:
                seen.require_same(connection, head)
            result = work(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(connection)
            if isinstance(error, Changed):
                self._last_write_worked = False
            raise StorageFailed(f"{self.path} cannot be read: {error}") from error
        except BaseException:
            _roll_back(connection)
            raise
        return result

    def _open_and_migrate(self, create: bool) -> sqlite3.Connection:  # noqa: FBT001 - run by an executor
        if create:
            file_identity.make_private(self.path.parent)
            file_identity.require_private(self.path)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
        elif not self.path.exists():
            raise StorageMissing(
                f"{self.path} does not exist; name the folder with --state, or make a database: "
                "daemonpulse actions token new"
            )
        file_identity.require_private(self.path)
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            self._migrate(connection)
            covered.watch(connection)
            self._content = Content(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")  # deleted rows are overwritten with zeros
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._known_version(connection)
            require_own_programs(connection, version)
            for script in MIGRATIONS[version:]:
                for statement in statements(script):
                    connection.execute(statement)
            if version < len(MIGRATIONS):
                connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
                _cover_all(connection)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def _known_version(self, connection: sqlite3.Connection) -> int:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(MIGRATIONS):
            raise StorageTooNew(
                f"{self.path} has version {version} and this program supports {len(MIGRATIONS)}; "
                "use the newer program, or another state folder"
            )
        return version


def _cover_all(connection: sqlite3.Connection) -> None:
    """Put on record every covered row of a database whose shape was just changed."""
    chain.cover(connection, dict(covered.all_rows(connection)), detail={"reason": "migration"})


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.rollback()
