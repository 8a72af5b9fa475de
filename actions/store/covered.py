"""Digests of rows outside the audit that its chain covers: tokens, gates, pins, the kept policy, desired, operations.

Temporary triggers on the program's own connections note every row that changes; the next audit row, in the same
transaction, holds `NEW<OLD`: the digests after and before. A change by another program notes nothing, so the digest in
the chain stays another one, also when the program changes the row later: then OLD is not what the chain has.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    Table("mcp_policy", ("id",)),
    Table("desired", ("daemon", "instance_id")),
    Table("reaper", ("daemon",)),
    Table("fleet", ("name",)),
    Table("operations", ("id",), when="NEW.finished_ms IS NOT NULL"),
)
_BY_NAME: Final = {table.name: table for table in TABLES}

Covers = dict[str, str | None]
"""`table/key` to `NEW<OLD`, each empty where there is no row; a digest alone, or None, does not tell OLD."""

_DIGEST: Final = "covered_digest"
"""SQL function of a table's name and the values of a row."""


def watch(db: sqlite3.Connection) -> None:
    """Note, on this connection, the rows that change. Tables that an older schema lacks are left out."""
    columns = {
        table.name: tuple(row["name"] for row in db.execute(f"PRAGMA main.table_info({table.name})"))
        for table in TABLES
    }

    def digest(name: str, *values: Any) -> str:
        return _digest(_BY_NAME[name], dict(zip(columns[name], values, strict=True)))

    db.create_function(_DIGEST, -1, digest, deterministic=True)
    db.execute("PRAGMA recursive_triggers = ON")  # so that INSERT OR REPLACE tells of the row that it deletes
    db.execute(
        "CREATE TEMP TABLE IF NOT EXISTS touched (name TEXT, key TEXT, was TEXT, PRIMARY KEY (name, key)) STRICT"
    )
    for table in TABLES:
        if not columns[table.name]:
            continue
        for event, when in (
            ("INSERT", "1"),
            ("UPDATE", table.when),
            ("DELETE", "1" if table.name != "operations" else "0"),
        ):
            _watch(db, table, columns[table.name], event, when)


def _watch(db: sqlite3.Connection, table: Table, columns: tuple[str, ...], event: str, when: str) -> None:
    """Note, at one kind of event, the row's key, and its digest before the transaction."""
    row = "NEW" if event == "INSERT" else "OLD"
    key = f"json_array({', '.join(f'{row}.{column}' for column in table.key)})"
    values = ", ".join(f"OLD.{column}" for column in columns)
    was = "NULL" if event == "INSERT" else f"{_DIGEST}('{table.name}', {values})"
    # Not INSERT OR IGNORE: a statement with OR REPLACE takes its own rule into its triggers.
    note = (
        f"INSERT INTO touched SELECT '{table.name}', {key}, {was} "  # noqa: S608 - fixed names
        f"WHERE NOT EXISTS (SELECT 1 FROM touched WHERE name = '{table.name}' AND key = {key})"
    )
    db.execute(
        f"CREATE TEMP TRIGGER IF NOT EXISTS touched_{table.name}_{event.lower()} "
        f"AFTER {event} ON main.{table.name} WHEN {when} BEGIN {note}; END"
    )


def take(db: sqlite3.Connection) -> Covers:
    """Return the digests of what changed in this transaction since the last time."""
    changed = db.execute("SELECT name, key, was FROM temp.touched").fetchall()
    if not changed:
        return {}
    db.execute("DELETE FROM temp.touched")
    return {
        f"{name}/{key}": f"{_digest_of(db, _BY_NAME[name], json.loads(key)) or ''}<{was or ''}"
        for name, key, was in changed
    }


def all_rows(db: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield every covered row there is, with its digest."""
    for table in TABLES:
        for row in db.execute(f"SELECT * FROM {table.name}"):  # noqa: S608 - fixed names
            yield f"{table.name}/{json.dumps([row[column] for column in table.key])}", _digest(table, row)


class Told:
    """What a stretch of the chain tells of covered rows, row after row."""

    def __init__(self, broken: Callable[[int, str], Exception]) -> None:
        self._broken = broken
        self.latest: dict[str, tuple[str | None, int, int]] = {}
        """The last digest of each, None where it is gone, with the row that tells it and its time."""
        self.asked: dict[str, tuple[str, int]] = {}
        """The digest before the stretch of what changed in it, and the row that tells it: to be found in older rows."""

    def take(self, row: Mapping[str, Any] | sqlite3.Row) -> None:
        """Take the next row of the audit; raises where something changed between two rows that tell of it."""
        if row["covers"] is None:
            return
        seq = row["seq"]
        try:
            told = [(_same_key(key), *_parts(value)) for key, value in json.loads(row["covers"]).items()]
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise self._broken(seq, "its digests are not readable") from error
        for key, digest, was in told:
            known, since, _ = self.latest.get(key, (None, 0, 0))
            if was is not None and since:
                self._compare(key, seq, was, known, since)
            # An operation's id is made once: nothing can have been there before it began.
            elif was is not None and (was or not key.startswith("operations/")):
                self.asked[key] = was, seq
            self.latest[key] = digest, seq, row["at_ms"]

    def ask(self, older: Told) -> None:
        """Look into the stretch right before this one; what it does not tell is to be found in still older rows."""
        unanswered = dict(self.asked)
        for key, (was, seq) in self.asked.items():
            if key in older.latest:
                digest, since, _ = older.latest[key]
                self._compare(key, seq, was, digest, since)
                del unanswered[key]
        self.asked = {**older.asked, **unanswered}

    def ask_no_more(self) -> None:
        """Say that there are no older rows: what is still asked for was not there."""
        for key, (was, seq) in self.asked.items():
            self._compare(key, seq, was, None, 0)
        self.asked = {}

    def _compare(self, key: str, seq: int, was: str, known: str | None, since: int) -> None:
        if was != (known or ""):
            raise self._broken(
                seq, f"{_named(key)} was changed by another program before this row, after row {since}"
            )


def verify(db: sqlite3.Connection, broken: Callable[[int, str], Exception]) -> Told:
    """Compare every covered row with the latest digest in the chain. Raises what `broken` makes.

    What older rows would have to tell is asked for in what is returned.
    """
    said = Told(broken)
    (first, newest) = db.execute("SELECT min(seq), max(at_ms) FROM audit").fetchone()
    for row in db.execute("SELECT seq, at_ms, covers FROM audit WHERE covers IS NOT NULL ORDER BY seq"):
        said.take(row)
    if first is None or first == 1:
        said.ask_no_more()
    latest = dict(said.latest)
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
    return said


def _parts(value: str | None) -> tuple[str | None, str | None]:
    """Read a digest, and the one before: None if that is not told, "" if there was no row."""
    digest, mark, was = (value or "").partition("<")
    return digest or None, was if mark else None


def latest_before(db: sqlite3.Connection, seq: int) -> Covers:
    """Give the digests that would be lost with the rows up to `seq`: of rows that no later row covers.

    Those of rows that another program deleted stay; only operations are deleted without a note.
    """
    found: Covers = {}
    for row in db.execute("SELECT seq, covers FROM audit WHERE covers IS NOT NULL ORDER BY seq"):
        for key, value in json.loads(row["covers"]).items():
            if row["seq"] <= seq:
                found[key] = _parts(value)[0]
            else:
                found.pop(key, None)
    return {
        key: digest
        for key, digest in found.items()
        if digest is not None and (not key.startswith("operations/") or _is_there(db, key))
    }


def _is_there(db: sqlite3.Connection, key: str) -> bool:
    name, _, values = key.partition("/")
    return _digest_of(db, _BY_NAME[name], json.loads(values)) is not None


def _digest_of(db: sqlite3.Connection, table: Table, key: list[Any]) -> str | None:
    where = " AND ".join(f"{column} = ?" for column in table.key)
    row = db.execute(f"SELECT * FROM main.{table.name} WHERE {where}", key).fetchone()  # noqa: S608 - fixed names
    return _digest(table, row) if row is not None else None


def _digest(table: Table, row: sqlite3.Row | Mapping[str, Any]) -> str:
    columns: Iterable[str] = row.keys()
    if table.name == "operations" and row["finished_ms"] is None:
        columns = _UNFINISHED
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
