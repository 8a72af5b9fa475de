"""Digests of rows outside the audit that its chain covers: tokens, gates, pins, the desired state, operations.

Temporary triggers on the program's own connections note every row that changes; the next audit row, in the same
transaction, holds its digest. A change by another program notes nothing, so the digest in the chain stays another one.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from actions.store.sizes import canonical


@dataclass(frozen=True, slots=True)
class Table:
    """A covered table and its key."""

    name: str
    key: tuple[str, ...]
    when: str = "1"
    """SQL over the new row: which updates count."""


OPERATIONS_KEPT_MS: Final = 30 * 24 * 3600 * 1000
"""Finished operations are deleted after so long; the audit keeps what they were."""

_UNFINISHED: Final = (
    "id",
    "daemon",
    "action",
    "subject",
    "actor",
    "owner",
    "digest",
    "request",
    "created_ms",
)

TABLES: Final = (
    Table("tokens", ("id",)),
    Table("mcp_rules", ("server", "tool")),
    Table("mcp_pins", ("server", "tool")),
    Table("desired", ("daemon", "instance_id")),
    Table("reaper", ("daemon",)),
    Table("fleet", ("name",)),
    Table("operations", ("id",), when="NEW.finished_ms IS NOT NULL"),
)
_BY_NAME: Final = {table.name: table for table in TABLES}

Covers = dict[str, str | None]
"""`table/key` to the digest of the row; None for one that was deleted."""


def watch(db: sqlite3.Connection) -> None:
    """Note, on this connection, the rows that change. Tables that an older schema lacks are left out."""
    db.execute(
        "CREATE TEMP TABLE IF NOT EXISTS touched (name TEXT, key TEXT, PRIMARY KEY (name, key)) STRICT"
    )
    there = {row[0] for row in db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")}
    for table in TABLES:
        if table.name not in there:
            continue
        for event, row, when in (
            ("INSERT", "NEW", "1"),
            ("UPDATE", "NEW", table.when),
            ("DELETE", "OLD", "1" if table.name != "operations" else "0"),
        ):
            key = f"json_array({', '.join(f'{row}.{column}' for column in table.key)})"
            note = f"INSERT OR IGNORE INTO touched VALUES ('{table.name}', {key})"  # noqa: S608 - fixed names
            db.execute(
                f"CREATE TEMP TRIGGER IF NOT EXISTS touched_{table.name}_{event.lower()} "
                f"AFTER {event} ON main.{table.name} WHEN {when} BEGIN {note}; END"
            )


def take(db: sqlite3.Connection) -> Covers:
    """Return the digests of what changed in this transaction since the last time."""
    changed = db.execute("SELECT name, key FROM temp.touched").fetchall()
    if not changed:
        return {}
    db.execute("DELETE FROM temp.touched")
    return {f"{name}/{key}": _digest_of(db, _BY_NAME[name], json.loads(key)) for name, key in changed}


def all_rows(db: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield every covered row there is, with its digest."""
    for table in TABLES:
        for row in db.execute(f"SELECT * FROM {table.name}"):  # noqa: S608 - fixed names
            yield f"{table.name}/{json.dumps([row[column] for column in table.key])}", _digest(table, row)


def verify(db: sqlite3.Connection, broken: Callable[[int, str], Exception]) -> None:
    """Compare every covered row with the latest digest in the chain. Raises what `broken` makes."""
    latest: dict[str, tuple[str | None, int, int]] = {}
    for row in db.execute("SELECT seq, at_ms, covers FROM audit WHERE covers IS NOT NULL ORDER BY seq"):
        try:
            covers = json.loads(row["covers"])
            keys = {_same_key(key): digest for key, digest in covers.items()}
        except (ValueError, AttributeError, RecursionError) as error:
            raise broken(row["seq"], "its digests are not readable") from error
        for key, digest in keys.items():
            latest[key] = digest, row["seq"], row["at_ms"]
    (newest,) = db.execute("SELECT max(at_ms) FROM audit").fetchone()
    for key, digest in all_rows(db):
        known, seq, _ = latest.pop(_same_key(key), (None, 0, 0))
        if known is None:
            raise broken(seq, f"{_named(key)} is not on record: it was inserted by another program")
        if known != digest:
            raise broken(seq, f"{_named(key)} was changed by another program after this row recorded it")
    for key, (known, seq, at_ms) in latest.items():
        is_forgotten = key.startswith("operations/") and at_ms < newest - OPERATIONS_KEPT_MS + 86_400_000
        if known is not None and not is_forgotten:
            raise broken(seq, f"{_named(key)} was deleted by another program after this row recorded it")


def latest_before(db: sqlite3.Connection, seq: int) -> Covers:
    """Give the digests that would be lost with the rows up to `seq`: of rows that no later row covers."""
    found: Covers = {}
    for row in db.execute("SELECT seq, covers FROM audit WHERE covers IS NOT NULL ORDER BY seq"):
        for key, digest in json.loads(row["covers"]).items():
            if row["seq"] <= seq:
                found[key] = digest
            else:
                found.pop(key, None)
    return {key: digest for key, digest in found.items() if digest is not None and _is_there(db, key)}


def _is_there(db: sqlite3.Connection, key: str) -> bool:
    name, _, values = key.partition("/")
    return _digest_of(db, _BY_NAME[name], json.loads(values)) is not None


def _digest_of(db: sqlite3.Connection, table: Table, key: list[Any]) -> str | None:
    where = " AND ".join(f"{column} = ?" for column in table.key)
    row = db.execute(f"SELECT * FROM main.{table.name} WHERE {where}", key).fetchone()  # noqa: S608 - fixed names
    return _digest(table, row) if row is not None else None


def _digest(table: Table, row: sqlite3.Row) -> str:
    columns = row.keys()
    if table.name == "operations" and row["finished_ms"] is None:
        columns = list(_UNFINISHED)
    values = {name: row[name] for name in columns if row[name] is not None}
    plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()}
    return hashlib.sha256(canonical([table.name, plain]).encode()).hexdigest()[:32]


def _same_key(key: str) -> str:
    """Write a key one way: SQLite's json_array leaves no spaces."""
    name, _, values = key.partition("/")
    return f"{name}/{json.dumps(json.loads(values))}"


def _named(key: str) -> str:
    name, _, values = key.partition("/")
    return f"{name} row {'/'.join(map(str, json.loads(values)))[:200]}"


def chunks(covers: Mapping[str, str | None], size: int) -> Iterator[Covers]:
    """Split digests so that each audit row that holds some stays bounded."""
    items = list(covers.items())
    for start in range(0, len(items), size):
        yield dict(items[start : start + size])
