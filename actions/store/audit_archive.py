"""Moves the beginning of the audit into an archive file, signed off by a row of the remaining chain.

The file is written and verified first. Archives and database together prove the whole chain: each archive begins where
the one before it ends, and the last ends where the database begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import json
import os
import re
import sqlite3
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from actions.domain.actor import Actor
from actions.store import chain, covered
from actions.store.audit import Audit
from actions.store.chain import PRUNE, AuditBroken, Cut, Entry, Head, follow
from actions.store.database import Storage

FOLDER: Final = "audit-archive"
"""Within the state folder: where rotated rows go."""
_NAME: Final = re.compile(r"audit-([0-9]{12,18})\.jsonl\.gz")
_DAY_MS: Final = 24 * 3600 * 1000
_MAX_LINE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was moved into an archive."""

    rows: int
    through: Head


@dataclass(frozen=True, slots=True)
class Archived:
    """An archive that was read and holds: the row before its first, and its last."""

    file: Path
    after: Head
    through: Head


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification of database and archives found."""

    head: Head | None
    cuts: tuple[Cut, ...]
    archives: tuple[Archived, ...]
    missing_through: int
    """Rows 1 to this one are neither in the database nor in a given archive; 0 if every row is there."""
    is_vouched: bool
    """Whether a head that was noted after the cut proves that the missing rows were moved and not deleted."""
    uncompared: int
    """Rows that the audit covers (gates, tokens, operations) and that were changed since the missing rows, which alone
    could tell whether another program had changed them before; 0 if every row is there."""


async def prune(
    storage: Storage,
    audit: Audit,
    *,
    before_ms: int,
    now_ms: int,
    archive: Path,
    actor: Actor,
    most_rows: int = 2**62,
) -> Pruned | None:
    """Move the oldest rows, those older than `before_ms`, into a new file; None if no row may be moved.

    What stays: the first younger row and what follows, the first intent whose outcome can still come and what follows,
    and the last row. A row of a day that is yet to come, by a clock that was wrong, holds nothing up. A name in .gz is
    compressed. Raises AuditBroken (nothing is moved), StorageFailed, and OSError (FileExistsError too).
    """
    moved = await storage.scan(lambda db: _write_archive(db, archive, before_ms, now_ms, most_rows))
    if moved is None:
        return None
    entries = await storage.write(lambda db: _cut(db, audit, moved, archive.name, actor))
    audit.published(*entries)
    return moved


async def verify_all(storage: Storage, archives: Sequence[Path], *, expected: Head | None = None) -> Report:
    """Recompute the chain of the database and of archives. Raises AuditBroken, StorageFailed, OSError."""

    def of_database(db: sqlite3.Connection) -> tuple[Head | None, tuple[Cut, ...], covered.Told, Head]:
        start = chain.start_of(db)
        within = expected if expected is None or expected.seq >= start.seq else None
        return (*chain.verify_rows(db, within), start)

    head, cuts, said, start = await storage.scan(of_database)
    read = [
        await asyncio.to_thread(read_archive, file, expected)
        for file in archives
        if not _is_left_over(file, storage.path.parent, start)
    ]
    if expected is not None and expected.seq < start.seq and not any(found for _, found in read):
        raise chain.elsewhere(expected)
    known = {cut.through for cut in cuts}
    by_end = {one.through: one for one, _ in read}
    used: list[Archived] = []
    while start.seq > 0 and start in by_end:
        used.append(by_end.pop(start))
        start = used[-1].after
        await asyncio.to_thread(_ask_archive, said, used[-1])
    if start.seq == 0:
        said.ask_no_more()
    for one in by_end.values():
        if one.through not in known:
            raise AuditBroken(one.through.seq, f"no row of the audit says that {one.file} was moved there")
    vouched = expected is not None and any(
        cut.through.seq >= start.seq and expected.seq >= cut.signed_by for cut in cuts
    )
    return Report(head, cuts, tuple(reversed(used)), start.seq, vouched, len(said.asked))


def _ask_archive(said: covered.Told, archive: Archived) -> None:
    """Look in an archive for what rows were before what `said` was told. Raises AuditBroken, OSError.

    It is read a second time, so that the digests of one archive at most are in memory.
    """
    older = covered.Told(AuditBroken)
    read_archive(archive.file, note=older.take)
    said.ask(older)


def name_of(first: int) -> str:
    """Name the archive in the state folder that begins with a row."""
    return f"audit-{first:012d}.jsonl.gz"


def _is_left_over(file: Path, state: Path, start: Head) -> bool:
    """Tell whether a rotation that was killed left an archive: the database has its rows, which begin after `start`."""
    named = _NAME.fullmatch(file.name)
    return named is not None and file.parent == state / FOLDER and int(named[1]) > start.seq


def read_archive(
    file: Path, expected: Head | None = None, note: Callable[[Mapping[str, Any]], None] = lambda _row: None
) -> tuple[Archived, bool]:
    """Check a file that `prune` wrote, and whether the row of `expected` is in it; `note` is given each row.

    Raises AuditBroken, OSError, and what `note` raises.
    """
    found = False

    def rows() -> Iterator[Mapping[str, Any]]:
        nonlocal found
        with _opened(file) as lines:
            while line := lines.readline(_MAX_LINE_BYTES):
                row = json.loads(line)
                if expected is not None and row["seq"] == expected.seq:
                    if not expected.is_of(row["hash"]):
                        raise AuditBroken(expected.seq, f"in {file} differs from the head noted earlier")
                    found = True
                row = {"covers": None, **row}
                note(row)
                yield row

    try:
        reading = rows()
        first = next(reading)
        after = Head(first["seq"] - 1, first["previous"])
        through = follow(_with(first, reading), after)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        StopIteration,
        RecursionError,
        EOFError,
    ) as error:
        raise AuditBroken(0, f"{file} is not an archive of the audit") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise AuditBroken(0, f"{file} is damaged") from error
    return Archived(file, after, through), found


def _with(first: Mapping[str, Any], rest: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    yield first
    yield from rest


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a plain file, without waiting for what is none. Raises OSError."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as raw:
        if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", str(file))
        if file.suffix != ".gz":
            yield raw
            return
        with gzip.open(raw) as unpacked:
            yield cast("IO[bytes]", unpacked)


def _write_archive(
    db: sqlite3.Connection, archive: Path, before_ms: int, now_ms: int, most_rows: int
) -> Pruned | None:
    """Write and verify the archive; a file that cannot be finished is removed."""
    first = db.execute("SELECT seq, previous FROM audit ORDER BY seq LIMIT 1").fetchone()
    last = _last_to_go(db, before_ms, now_ms, most_rows)
    if first is None or last is None:
        return None
    start = Head(first["seq"] - 1, first["previous"])
    descriptor = os.open(archive, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as raw:
            packed: Any = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) if archive.suffix == ".gz" else None
            through = follow(_written(db, last, packed or raw), start)
            if packed is not None:
                packed.close()
            raw.flush()
            os.fsync(raw.fileno())
        _require_equal(read_archive(archive)[0].through, through, archive)
        _sync_folder(archive.parent)
    except BaseException:
        archive.unlink(missing_ok=True)
        raise
    return Pruned(through.seq - start.seq, through)


def _sync_folder(folder: Path) -> None:
    """Put a new name on disk: a crash may lose a file whose content alone was synced."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_equal(read: Head, written: Head, archive: Path) -> None:
    if read != written:
        raise AuditBroken(written.seq, f"{archive} does not read back as it was written")


def _written(db: sqlite3.Connection, last: int, out: IO[bytes]) -> Iterator[Mapping[str, Any]]:
    """Write rows, and yield each."""
    for row in db.execute("SELECT * FROM audit WHERE seq <= ? ORDER BY seq", (last,)):
        values = {column: row[column] for column in chain.ALL_COLUMNS}
        out.write(json.dumps(values).encode() + b"\n")
        yield values


def _last_to_go(db: sqlite3.Connection, before_ms: int, now_ms: int, most_rows: int) -> int | None:
    """Name the last row that may be moved.

    A day-old intent without an unfinished operation has lost its outcome and may be moved.
    """
    tomorrow_ms = now_ms + _DAY_MS
    (limit,) = db.execute(
        "SELECT min(seq) FROM ("
        " SELECT min(seq) AS seq FROM audit WHERE at_ms >= ? AND at_ms <= ?"
        " UNION ALL SELECT max(seq) FROM audit"
        " UNION ALL SELECT min(seq) + ? FROM audit"
        " UNION ALL SELECT min(seq) FROM audit AS begun WHERE kind = 'intent'"
        "  AND (at_ms BETWEEN ? AND ? OR operation IN (SELECT id FROM operations WHERE finished_ms IS NULL))"
        "  AND NOT EXISTS (SELECT 1 FROM audit WHERE operation = begun.operation AND kind = 'outcome'))",
        (before_ms, tomorrow_ms, min(most_rows, 2**40), now_ms - _DAY_MS, tomorrow_ms),
    ).fetchone()
    if limit is None:
        return None
    (last,) = db.execute("SELECT max(seq) FROM audit WHERE seq < ?", (limit,)).fetchone()
    return int(last) if last is not None else None


def _cut(db: sqlite3.Connection, audit: Audit, moved: Pruned, archive: str, actor: Actor) -> Iterable[Entry]:
    through = moved.through
    row = db.execute("SELECT hash FROM audit WHERE seq = ?", (through.seq,)).fetchone()
    if row is None or row["hash"] != through.hash:
        raise AuditBroken(through.seq, "changed while it was being moved")
    entries = [
        audit.append(db, "event", actor=actor, action=chain.COVER, subject="audit", covers=some)
        for some in covered.chunks(covered.latest_before(db, through.seq), chain.COVERS_PER_ROW)
    ]
    detail = {"seq": through.seq, "hash": through.hash, "rows": moved.rows, "archive": archive}
    entries.append(audit.append(db, "event", actor=actor, action=PRUNE, subject="audit", detail=detail))
    db.execute("UPDATE audit_cut SET through = ?", (through.seq,))
    db.execute("DELETE FROM audit WHERE seq <= ?", (through.seq,))
    return entries
