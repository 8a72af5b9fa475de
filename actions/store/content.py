"""Tells whether a database holds what this process has seen of it, and no triggers but the program's own."""

from __future__ import annotations

import functools
import sqlite3
from typing import Final

from actions.store import chain
from actions.store.migrations import MIGRATIONS

REPLACED: Final = "stop the service, put the right file back, and start it again"

Head = tuple[int, str]
"""Sequence number and hash of an audit row."""


class Changed(sqlite3.DatabaseError):
    """Another program changed, replaced or restored the database; or prepared it for this one."""


class Content:
    """What a process has seen of one database."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Look at a database that was just migrated."""
        self._shape = _shape(db)
        self._version = _version(db)
        self.head = last_row(db)
        """The last audit row that this process has seen."""

    def require_same(self, db: sqlite3.Connection, head: Head | None) -> None:
        """Compare tables and audit with what was seen; `head` as it was before the transaction. Raises Changed."""
        version = _version(db)
        if version != self._version:
            if _shape(db) != self._shape:
                raise Changed(f"another program changed the tables; {REPLACED}")
            self._version = version  # a VACUUM, for example
        if head is None:
            return
        seq, row_hash = head
        row = db.execute("SELECT hash FROM audit WHERE seq = ?", (seq,)).fetchone()
        is_archived = row is None and any(cut.through.seq >= seq for cut in chain.cuts(db))
        if not is_archived and (row is None or row["hash"] != row_hash):
            raise Changed(
                f"audit row {seq} of this process is not there, so the file was replaced; {REPLACED}"
            )


def require_own_programs(db: sqlite3.Connection, version: int) -> None:
    """Refuse what another program has the file do at every change. Raises Changed."""
    own = _own_programs(version)
    odd = sorted(name for name, sql in _programs(db).items() if own.get(name) != sql)
    if odd:
        raise Changed(
            f"{odd[0][:100]!r}, a trigger or view of another program, would run with changes of this one; "
            "restore a backup"
        )


def last_row(db: sqlite3.Connection) -> Head | None:
    """Return the end of the chain."""
    row = db.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    return (row["seq"], row["hash"]) if row is not None else None


def _version(db: sqlite3.Connection) -> int:
    """Return the number that every change of tables changes."""
    return int(db.execute("PRAGMA schema_version").fetchone()[0])


def _shape(db: sqlite3.Connection) -> str:
    """Write down tables, indexes and triggers of the file."""
    rows = db.execute("SELECT name, coalesce(sql, '') FROM main.sqlite_master ORDER BY name")
    return "\n".join(f"{name} {sql}" for name, sql in rows)


def _programs(db: sqlite3.Connection) -> dict[str, str]:
    """Name what the file has SQLite do on its own."""
    return dict(
        tuple(row)
        for row in db.execute("SELECT name, sql FROM main.sqlite_master WHERE type IN ('trigger', 'view')")
    )


@functools.cache
def _own_programs(version: int) -> dict[str, str]:
    """Name those that the migrations make, up to a version."""
    db = sqlite3.connect(":memory:")
    try:
        for script in MIGRATIONS[:version]:
            db.executescript(script)
        return _programs(db)
    finally:
        db.close()
