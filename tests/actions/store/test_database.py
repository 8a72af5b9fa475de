"""The database: what is written is on disk, what cannot be written is said, what is newer is left alone."""

import contextlib
import sqlite3
import stat
from pathlib import Path

import pytest

from actions.domain.actor import Actor, Scope
from actions.store import database as storage_module
from actions.store import migrations
from actions.store.audit import Audit
from actions.store.database import FILE_NAME, Storage, StorageFailed, StorageTooNew


async def test_folder_and_file_are_created_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "state"
    storage = await Storage.open(folder)
    await storage.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600


async def test_every_table_is_strict_and_the_journal_is_a_synced_wal(storage: Storage) -> None:
    tables = await storage.read(
        lambda db: [tuple(row) for row in db.execute("SELECT name, strict FROM pragma_table_list")]
    )
    assert all(strict for name, strict in tables if not name.startswith("sqlite_"))
    mode, sync = await storage.write(
        lambda db: (
            db.execute("PRAGMA journal_mode").fetchone()[0],
            db.execute("PRAGMA synchronous").fetchone()[0],
        )
    )
    assert (mode, sync) == ("wal", 2)


async def test_the_content_of_a_deleted_row_is_not_in_the_file(storage: Storage) -> None:
    secret = "marker-of-a-deleted-row"

    def insert(db: sqlite3.Connection) -> None:
        assert db.execute("PRAGMA secure_delete").fetchone()[0] == 1
        db.execute("INSERT INTO desired (daemon, instance_id, request) VALUES ('box', 'one', ?)", (secret,))

    def checkpoint() -> bytes:
        with contextlib.closing(sqlite3.connect(storage.path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return storage.path.read_bytes()

    await storage.write(insert)
    assert secret.encode() in checkpoint()
    await storage.write(lambda db: db.execute("DELETE FROM desired"))
    assert secret.encode() not in checkpoint()


async def test_opening_again_keeps_what_was_written(tmp_path: Path) -> None:
    for expected in (0, 1):
        storage = await Storage.open(tmp_path)
        count = await storage.read(lambda db: db.execute("SELECT count(*) FROM reaper").fetchone()[0])
        assert count == expected
        await storage.write(lambda db: db.execute("INSERT OR IGNORE INTO reaper VALUES ('box', 1.0)"))
        await storage.close()


async def test_a_write_that_raises_leaves_nothing_behind(storage: Storage) -> None:
    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO reaper VALUES ('box', 1.0)")
        raise LookupError

    with pytest.raises(LookupError):
        await storage.write(half)
    assert await storage.read(lambda db: db.execute("SELECT count(*) FROM reaper").fetchone()[0]) == 0
    assert storage.is_writable


async def test_a_full_disk_is_said_and_seen_to_be_over(storage: Storage) -> None:
    def fill(db: sqlite3.Connection) -> None:
        for number in range(1000):
            db.execute("INSERT INTO reaper VALUES (?, 1.0)", (f"{number:0500}",))

    await storage.write(
        lambda db: db.execute("PRAGMA max_page_count = 1")
    )  # SQLite makes it the pages in use
    with pytest.raises(StorageFailed, match="full"):
        await storage.write(fill)
    assert not storage.is_writable
    await storage.write(lambda db: db.execute("PRAGMA max_page_count = 100000"))
    await storage.write(fill)
    assert storage.is_writable


async def test_a_read_only_database_is_said_to_be_one(storage: Storage) -> None:
    await storage.read(lambda db: db.execute("SELECT 1").fetchone())
    storage._writer.submit(storage._write_connection.execute, "PRAGMA query_only = ON").result()
    assert not await _writable_after_a_while(storage)
    storage._writer.submit(storage._write_connection.execute, "PRAGMA query_only = OFF").result()
    assert await storage.check_writable()


async def _writable_after_a_while(storage: Storage) -> bool:
    storage._last_write_at = float("-inf")
    return await storage.check_writable()


async def test_a_database_of_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    storage = await Storage.open(tmp_path)
    await storage.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    with pytest.raises(StorageTooNew, match="999"):
        await Storage.open(tmp_path)


async def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 100)
    with pytest.raises(StorageFailed, match="cannot be opened"):
        await Storage.open(tmp_path)


async def test_an_older_database_gets_only_the_steps_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await Storage.open(tmp_path)
    await storage.close()
    newer = (*migrations.MIGRATIONS, "CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT;")
    monkeypatch.setattr(storage_module, "MIGRATIONS", newer)
    storage = await Storage.open(tmp_path)
    assert await storage.read(lambda db: db.execute("PRAGMA user_version").fetchone()[0]) == len(newer)
    assert await storage.read(lambda db: db.execute("SELECT count(*) FROM later").fetchone()[0]) == 0
    await storage.close()


async def test_a_step_that_fails_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await Storage.open(tmp_path)
    await storage.close()
    good = migrations.MIGRATIONS
    broken = "CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT;\nINSERT INTO nowhere VALUES (1);"
    monkeypatch.setattr(storage_module, "MIGRATIONS", (*good, broken))
    with pytest.raises(StorageFailed):
        await Storage.open(tmp_path)
    monkeypatch.setattr(storage_module, "MIGRATIONS", good)
    storage = await Storage.open(tmp_path)
    assert await storage.read(lambda db: db.execute("PRAGMA user_version").fetchone()[0]) == len(good)
    await storage.close()


async def test_a_locked_database_is_waited_for_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "BUSY_TIMEOUT_S", 0.05)
    storage = await Storage.open(tmp_path)
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageFailed, match="locked"):
        await storage.write(lambda db: db.execute("SELECT 1").fetchone())
    other.execute("ROLLBACK")
    other.close()
    await storage.write(lambda db: db.execute("SELECT 1").fetchone())
    await storage.close()


def _reapers(db: sqlite3.Connection) -> int:
    (row,) = db.execute("SELECT count(*) FROM reaper").fetchall()
    return int(row[0])


async def test_what_is_recalled_is_read_again_when_any_process_has_written(
    storage: Storage, tmp_path: Path
) -> None:
    assert await storage.recall("reapers", _reapers) == 0
    await storage.write(lambda db: db.execute("INSERT INTO reaper VALUES ('box', 1.0)"))
    assert await storage.recall("reapers", _reapers) == 1
    other = await Storage.open(tmp_path / "state")
    await other.write(lambda db: db.execute("INSERT INTO reaper VALUES ('other', 1.0)"))
    await other.close()
    assert await storage.recall("reapers", _reapers) == 2


async def test_what_is_recalled_costs_no_read_while_nobody_writes(storage: Storage, tmp_path: Path) -> None:
    reads = 0

    def counted(db: sqlite3.Connection) -> int:
        nonlocal reads
        reads += 1
        return _reapers(db)

    assert [await storage.recall("reapers", counted) for _ in range(5)] == [0] * 5
    assert reads == 1
    await storage.write(lambda db: db.execute("INSERT INTO reaper VALUES ('box', 1.0)"))
    assert await storage.recall("reapers", counted) == 1
    audit = Audit(storage)
    actor = Actor("me", Scope.READ)
    for number in range(5):
        await storage.write(
            lambda db: audit.append(db, "event", actor=actor, action="a", subject="s"), audit_only=True
        )
        assert (await storage.recall("reapers", counted), reads) == (1, 2), number
    other = await Storage.open(tmp_path / "state")
    await other.write(lambda db: db.execute("INSERT INTO reaper VALUES ('other', 1.0)"))
    await storage.write(
        lambda db: audit.append(db, "event", actor=actor, action="a", subject="s"), audit_only=True
    )
    assert await storage.recall("reapers", counted) == 2, "what another process wrote meanwhile is seen"
    await other.close()
    await storage.write(lambda db: db.execute("DELETE FROM reaper"))
    assert await storage.recall("reapers", counted) == 0
