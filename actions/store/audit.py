"""The audit: who asked for what, whether it was allowed, and what came of it, as a chain of hashes.

Knows no HTTP and no daemon. `append` runs inside the caller's transaction, so that an intent and the row it speaks of
are on disk together or not at all.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from actions.domain.actor import Actor
from actions.store.database import Storage

Kind = Literal["intent", "outcome", "denied", "event"]
"""intent: about to act. outcome: what came of it. denied: refused. event: noticed, or something about ourselves."""

GENESIS: Final = "0" * 64
"""`previous` of the first row."""

PRUNE: Final = "audit.prune"
"""Action of a row that says up to which row, by number and hash, the beginning was cut off."""

COLUMNS: Final = (
    "seq",
    "at_ms",
    "kind",
    "operation",
    "actor",
    "token_id",
    "person",
    "address",
    "action",
    "subject",
    "detail",
    "previous",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. `detail` holds no prompt, no secret, no tool argument unless its capture was switched on."""

    seq: int
    at_ms: int
    kind: Kind
    operation: str | None
    actor: str
    token_id: str | None
    person: str | None
    address: str | None
    action: str
    subject: str
    detail: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain. Kept elsewhere, it also shows that rows were cut off the end."""

    seq: int
    hash: str


class AuditBroken(Exception):
    """The chain does not hold: a row was changed, removed or put in. `seq` is the first that does not fit."""

    def __init__(self, seq: int, what: str) -> None:
        self.seq = seq
        super().__init__(f"audit row {seq}: {what}")


class Audit:
    """Appends to and reads from the audit of one database.

    `sinks` are told of every entry after its transaction has committed (OTLP logs, say); they must not raise.
    """

    def __init__(self, storage: Storage, *, clock_ms: Callable[[], int] | None = None) -> None:
        self._storage = storage
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self.sinks: list[Callable[[Entry], None]] = []

    def append(
        self,
        db: sqlite3.Connection,
        kind: Kind,
        *,
        actor: Actor,
        action: str,
        subject: str,
        operation: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Append inside the transaction of `db`; call `published` with the result once it has committed."""
        last = db.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        told = dict(detail or {}) | ({"grafana": dict(actor.grafana)} if actor.grafana is not None else {})
        seq, previous = (last["seq"] + 1, last["hash"]) if last else (1, GENESIS)
        values: dict[str, Any] = {
            "seq": seq,
            "at_ms": self._clock_ms(),
            "kind": kind,
            "operation": operation,
            "actor": actor.name,
            "token_id": actor.token_id,
            "person": actor.person,
            "address": actor.address,
            "action": action,
            "subject": subject,
            "detail": canonical(told),
            "previous": previous,
        }
        hashed = row_hash(values)
        db.execute(
            f"INSERT INTO audit ({', '.join(COLUMNS)}, hash) VALUES ({', '.join('?' * len(COLUMNS))}, ?)",  # noqa: S608 - fixed column names
            (*(values[column] for column in COLUMNS), hashed),
        )
        return Entry(**{**values, "detail": told, "hash": hashed})

    async def record(
        self,
        kind: Kind,
        *,
        actor: Actor,
        action: str,
        subject: str,
        operation: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Append in a transaction of its own; on disk when this returns. Raises StorageFailed."""
        entry = await self._storage.write(
            lambda db: self.append(
                db, kind, actor=actor, action=action, subject=subject, operation=operation, detail=detail
            )
        )
        self.published(entry)
        return entry

    def published(self, *entries: Entry) -> None:
        """Tell the sinks of entries whose transaction has committed."""
        for entry in entries:
            for sink in self.sinks:
                sink(entry)

    async def read(self, *, since: int | None = None, limit: int = 100) -> tuple[Entry, ...]:
        """Read the entries right after `since`, oldest first; without it the last ones, newest first.

        Whoever asks again with the last `seq` seen misses none. Raises StorageFailed.
        """
        order = "DESC" if since is None else "ASC"
        rows = await self._storage.read(
            lambda db: db.execute(
                f"SELECT * FROM audit WHERE seq > ? ORDER BY seq {order} LIMIT ?",  # noqa: S608 - one of two words
                (since or 0, limit),
            ).fetchall()
        )
        return tuple(_entry(row) for row in rows)

    async def verify(self, *, expected: Head | None = None) -> Head | None:
        """Recompute the whole chain; return its head, None when it is empty.

        `expected` is a head noted earlier: it must still be part of the chain. Raises AuditBroken, StorageFailed.
        """
        return await self._storage.read(lambda db: verify_rows(db, expected))


def canonical(value: Any) -> str:
    """Write JSON the one way that is hashed: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def row_hash(values: Mapping[str, Any]) -> str:
    """Hash a row: SHA-256 over the canonical JSON of every column but the hash itself."""
    return hashlib.sha256(canonical([values[column] for column in COLUMNS]).encode()).hexdigest()


def verify_rows(db: sqlite3.Connection, expected: Head | None) -> Head | None:
    """Recompute the chain from its beginning, or from where it was cut off by a row of its own. Raises AuditBroken."""
    start = start_of(db)
    head = follow(db.execute("SELECT * FROM audit ORDER BY seq"), start)
    if expected is not None and expected != start:
        if expected.seq < start.seq:
            raise AuditBroken(expected.seq, "was cut off; verify the archive it went into")
        row = db.execute("SELECT hash FROM audit WHERE seq = ?", (expected.seq,)).fetchone()
        if row is None or row["hash"] != expected.hash:
            raise AuditBroken(
                expected.seq, "is not what was noted earlier: rows were cut off or written anew"
            )
    return head if head != start else None


def follow(rows: Iterable[Mapping[str, Any] | sqlite3.Row], start: Head) -> Head:
    """Recompute rows that come after `start`; return the last, `start` without any. Raises AuditBroken."""
    head = start
    for row in rows:
        seq = head.seq + 1
        if row["seq"] != seq:
            raise AuditBroken(seq, f"is missing; the next one there is {row['seq']}")
        if row["previous"] != head.hash:
            raise AuditBroken(seq, "does not follow from the row before it")
        if row["hash"] != row_hash({column: row[column] for column in COLUMNS}):
            raise AuditBroken(seq, "was changed after it was written")
        head = Head(seq, row["hash"])
    return head


def start_of(db: sqlite3.Connection) -> Head:
    """Say what the first row follows: nothing, or what a row of the chain says was cut off."""
    first = db.execute("SELECT seq, previous FROM audit ORDER BY seq LIMIT 1").fetchone()
    if first is not None and first["seq"] > 1:
        cut = Head(first["seq"] - 1, first["previous"])
        if cut in cuts(db):
            return cut
    return Head(0, GENESIS)


def cuts(db: sqlite3.Connection) -> Iterator[Head]:
    """Yield the rows up to which, as rows of the chain say, it was cut off."""
    for row in db.execute("SELECT detail FROM audit WHERE action = ? AND kind = 'event'", (PRUNE,)):
        told = json.loads(row["detail"])
        yield Head(told.get("seq"), told.get("hash"))


def _entry(row: sqlite3.Row) -> Entry:
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118 - a Row iterates over its values
    return Entry(**{**values, "detail": json.loads(row["detail"])})
