"""Cuts the beginning off the audit: into a file first, then signed off in the chain that stays.

Knows no HTTP: whoever prunes owns the files. The row that says what was cut off is part of the chain, so `verify` can
begin behind the cut, and the file proves itself against it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from actions.domain.actor import Actor
from actions.store.audit import COLUMNS, PRUNE, Audit, AuditBroken, Head, cuts, follow, verify_rows
from actions.store.database import Storage

_STAYS: Final = "audit_rows_stay"
"""The trigger that stops deletes; it is put back in the same transaction."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was cut off."""

    rows: int
    through: Head


async def prune(
    storage: Storage, audit: Audit, *, before_ms: int, archive: Path, actor: Actor
) -> Pruned | None:
    """Move rows older than `before_ms` into a new file; None if there are none that may go.

    What stays: everything from the first younger row on, from the first intent without an outcome on, and the last
    row. Raises AuditBroken (a broken chain is left as it is), StorageFailed, OSError (FileExistsError too).
    """
    through = await storage.read(lambda db: _last_to_go(db, before_ms))
    if through is None:
        return None
    rows = await storage.read(lambda db: _write(db, through, archive))
    entry = await storage.write(lambda db: _cut(db, audit, through, rows, actor))
    audit.published(entry)
    return Pruned(rows, through)


async def verify_archive(storage: Storage, archive: Path) -> Head:
    """Check a file that `prune` wrote: unbroken, and signed off by a row that stayed. Raises AuditBroken, OSError."""
    last = await asyncio.to_thread(_follow_file, archive)
    if not await storage.read(lambda db: last in cuts(db)):
        raise AuditBroken(last.seq, f"no row of the audit says that {archive} was cut off there")
    return last


def _follow_file(archive: Path) -> Head:
    try:
        rows = [json.loads(line) for line in archive.read_text(encoding="utf-8").splitlines()]
        return follow(rows, Head(rows[0]["seq"] - 1, rows[0]["previous"]))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise AuditBroken(0, f"{archive} is not an archive of the audit") from error


def _last_to_go(db: sqlite3.Connection, before_ms: int) -> Head | None:
    verify_rows(db, None)
    (limit,) = db.execute(
        "SELECT min(seq) FROM ("
        " SELECT min(seq) AS seq FROM audit WHERE at_ms >= ?"
        " UNION ALL SELECT max(seq) FROM audit"
        " UNION ALL SELECT min(seq) FROM audit AS begun WHERE kind = 'intent' AND NOT EXISTS"
        "  (SELECT 1 FROM audit WHERE operation = begun.operation AND kind = 'outcome'))",
        (before_ms,),
    ).fetchone()
    row = db.execute(
        "SELECT seq, hash FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT 1", (limit,)
    ).fetchone()
    return Head(row["seq"], row["hash"]) if row is not None else None


def _write(db: sqlite3.Connection, through: Head, archive: Path) -> int:
    descriptor = os.open(archive, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    count = 0
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        for row in _rows(db, through):
            file.write(json.dumps(row) + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def _rows(db: sqlite3.Connection, through: Head) -> Iterable[Mapping[str, Any]]:
    for row in db.execute("SELECT * FROM audit WHERE seq <= ? ORDER BY seq", (through.seq,)):
        yield {column: row[column] for column in (*COLUMNS, "hash")}


def _cut(db: sqlite3.Connection, audit: Audit, through: Head, rows: int, actor: Actor) -> Any:
    row = db.execute("SELECT hash FROM audit WHERE seq = ?", (through.seq,)).fetchone()
    if row is None or row["hash"] != through.hash:
        raise AuditBroken(through.seq, "changed while it was being pruned")
    detail = {"seq": through.seq, "hash": through.hash, "rows": rows}
    entry = audit.append(db, "event", actor=actor, action=PRUNE, subject="audit", detail=detail)
    (trigger,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (_STAYS,)).fetchone()
    db.execute(f"DROP TRIGGER {_STAYS}")
    db.execute("DELETE FROM audit WHERE seq <= ?", (through.seq,))
    db.execute(trigger)
    return entry
