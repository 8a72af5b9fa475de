"""The audit's chain of hashes: how a row is written, hashed and verified, and which rows of other tables it covers.

Functions over a SQLite connection. A row's hash covers the row and the hash before it. `covers` holds the digests of
rows of other tables (tokens, gates, operations) that changed with it, so that a later change outside the program shows.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from actions.domain.actor import DATABASE, Actor
from actions.store import covered, sizes
from actions.store.sizes import canonical

Kind = Literal["intent", "outcome", "denied", "event"]
"""intent: about to act. outcome: the result. denied: refused. event: an observation, or a change of settings."""

GENESIS: Final = "0" * 64
"""`previous` of the first row."""

PRUNE: Final = "audit.prune"
"""Action of a row that signs off an archive: the number and hash of the last row moved."""

COVER: Final = "audit.cover"
"""Action of a row that only covers rows of other tables."""
COVERS_PER_ROW: Final = 128

FINGERPRINT_DIGITS: Final = 13
"""Hex digits of a hash that a float64 holds exactly: 52 bits."""

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
ALL_COLUMNS: Final = (*COLUMNS, "covers", "hash")


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. `detail` holds no prompt, no secret, and no tool argument unless its capture is on."""

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
    covers: Mapping[str, str | None] | None
    hash: str
    size_bytes: int = field(default=0, compare=False)
    """Of its texts; what a page of rows is measured by."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain, as noted elsewhere. `hash` is the whole SHA-256, or None where only its fingerprint is."""

    seq: int
    hash: str | None
    fingerprint: int | None = None

    def is_of(self, row_hash: str) -> bool:
        """Tell whether a row's hash is the one noted."""
        if self.hash is not None:
            return self.hash == row_hash
        return self.fingerprint == fingerprint(row_hash)


@dataclass(frozen=True, slots=True)
class Cut:
    """The beginning of the chain that was moved into an archive, by the row that signs it off."""

    through: Head
    """The last row that went."""
    signed_by: int
    """The row that signs it off."""
    at_ms: int
    actor: str
    rows: int
    archive: str


class AuditBroken(Exception):
    """The chain does not hold: a row was changed, removed or inserted. `seq` is the first that does not fit."""

    def __init__(self, seq: int, what: str) -> None:
        self.seq = seq
        super().__init__(f"audit row {seq}: {what}")


def fingerprint(row_hash: str) -> int:
    """Give the part of a hash that a metric's sample holds exactly."""
    return int(row_hash[:FINGERPRINT_DIGITS], 16)


def append(
    db: sqlite3.Connection,
    kind: Kind,
    *,
    at_ms: int,
    actor: Actor,
    action: str,
    subject: str,
    operation: str | None = None,
    detail: Mapping[str, Any] | None = None,
    covers: Mapping[str, str | None] | None = None,
) -> Entry:
    """Append a row inside the transaction of `db`. Texts and detail are cut to their bounds."""
    last = db.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    said = {**(detail or {}), **({"grafana": dict(actor.grafana)} if actor.grafana is not None else {})}
    told, written = sizes.bounded(said, sizes.MAX_DETAIL_BYTES)
    seq, previous = (last["seq"] + 1, last["hash"]) if last else (1, GENESIS)
    values: dict[str, Any] = {
        "seq": seq,
        "at_ms": at_ms,
        "kind": kind,
        "operation": _text(operation),
        "actor": sizes.text(actor.name),
        "token_id": _text(actor.token_id),
        "person": _text(actor.person),
        "address": _text(actor.address),
        "action": sizes.text(action),
        "subject": sizes.text(subject),
        "detail": written,
        "previous": previous,
        "covers": canonical(covers) if covers else None,
    }
    values["hash"] = row_hash(values)
    db.execute(
        f"INSERT INTO audit ({', '.join(ALL_COLUMNS)}) VALUES ({', '.join('?' * len(ALL_COLUMNS))})",  # noqa: S608 - fixed column names
        tuple(values[column] for column in ALL_COLUMNS),
    )
    size = len(written) + len(values["covers"] or "") + len(values["subject"])
    return Entry(**{**values, "detail": told, "covers": covers or None, "size_bytes": size})


def cover(
    db: sqlite3.Connection, digests: Mapping[str, str | None], detail: Mapping[str, Any] | None = None
) -> list[Entry]:
    """Put on record what changed without an audit row of its own, inside the transaction of `db`."""
    return [
        append(
            db,
            "event",
            at_ms=time.time_ns() // 1_000_000,
            actor=DATABASE,
            action=COVER,
            subject="database",
            detail=detail,
            covers=some,
        )
        for some in covered.chunks(digests, COVERS_PER_ROW)
    ]


def row_hash(values: Mapping[str, Any] | sqlite3.Row) -> str:
    """Hash a row: SHA-256 over the canonical JSON of every column but the hash; `covers` only where there is one."""
    fields = [values[column] for column in COLUMNS]
    if values["covers"] is not None:
        fields.append(values["covers"])
    return hashlib.sha256(canonical(fields).encode()).hexdigest()


def follow(rows: Iterable[Mapping[str, Any] | sqlite3.Row], start: Head) -> Head:
    """Recompute rows that come after `start`; return the last, `start` without any. Raises AuditBroken."""
    head = start
    for row in rows:
        seq = head.seq + 1
        if row["seq"] != seq:
            raise AuditBroken(seq, f"is missing; the next row is {row['seq']}")
        if row["previous"] != head.hash:
            raise AuditBroken(seq, "does not follow from the row before it")
        if row["hash"] != row_hash(row):
            raise AuditBroken(seq, "was changed after it was written")
        head = Head(seq, row["hash"])
    return head


def verify_rows(
    db: sqlite3.Connection, expected: Head | None
) -> tuple[Head | None, tuple[Cut, ...], covered.Told]:
    """Recompute the chain; return its head, the cuts that its rows name, and what it covers. Raises AuditBroken."""
    named = tuple(cuts(db))
    start = start_of(db)
    head = follow(db.execute("SELECT * FROM audit ORDER BY seq"), start)
    if expected is not None:
        _require(db, expected, start)
    said = covered.verify(db, AuditBroken)
    return (head if head != Head(0, GENESIS) else None), named, said


def cuts(db: sqlite3.Connection) -> Iterator[Cut]:
    """Yield the cuts that rows of the chain name, the latest first."""
    for row in db.execute(
        "SELECT * FROM audit WHERE action = ? AND kind = 'event' ORDER BY seq DESC", (PRUNE,)
    ):
        told = decoded(row)
        through = Head(told.get("seq", 0), str(told.get("hash")))
        yield Cut(
            through,
            row["seq"],
            row["at_ms"],
            row["actor"],
            told.get("rows", 0),
            str(told.get("archive", "")),
        )


def decoded(row: sqlite3.Row | Mapping[str, Any]) -> dict[str, Any]:
    """Read a row's detail. Raises AuditBroken."""
    try:
        detail = json.loads(row["detail"])
    except (ValueError, TypeError, RecursionError) as error:
        raise AuditBroken(row["seq"], "its detail is not JSON") from error
    if not isinstance(detail, dict):
        raise AuditBroken(row["seq"], "its detail is not an object")
    return detail


def entry_of(row: sqlite3.Row) -> Entry:
    """Read a row. Raises AuditBroken."""
    values = {key: row[key] for key in ALL_COLUMNS}
    size = len(str(row["detail"])) + len(row["covers"] or "") + len(str(row["subject"]))
    covers = json.loads(row["covers"]) if row["covers"] is not None else None
    return Entry(**{**values, "detail": decoded(row), "covers": covers, "size_bytes": size})


def start_of(db: sqlite3.Connection) -> Head:
    """Return what the first row follows: nothing, or the last archived row. Raises AuditBroken."""
    first = db.execute("SELECT seq, previous FROM audit ORDER BY seq LIMIT 1").fetchone()
    if first is not None and first["seq"] > 1:
        start = Head(first["seq"] - 1, first["previous"])
        if any(cut.through == start for cut in cuts(db)):
            return start
    return Head(0, GENESIS)


def _require(db: sqlite3.Connection, expected: Head, start: Head) -> None:
    if expected.seq == start.seq and start.hash is not None and expected.is_of(start.hash):
        return
    if expected.seq < start.seq:
        raise elsewhere(expected)
    row = db.execute("SELECT hash FROM audit WHERE seq = ?", (expected.seq,)).fetchone()
    if row is None or not expected.is_of(row["hash"]):
        raise AuditBroken(expected.seq, "differs from the head noted earlier: rows were cut off or rewritten")


def elsewhere(expected: Head) -> AuditBroken:
    """Say that the row of a noted head is in an archive that was not given."""
    return AuditBroken(
        expected.seq, "is not in the database any more; give the archive that it went into (--archive)"
    )


def _text(value: str | None) -> str | None:
    return sizes.text(value) if value is not None else None
