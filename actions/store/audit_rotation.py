"""Rotates the audit by size and age: the oldest rows go into compressed, verified archives in the state folder."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Final

from actions.domain.actor import internal
from actions.store.audit import Audit
from actions.store.audit_archive import FOLDER, name_of, prune
from actions.store.chain import AuditBroken
from actions.store.database import Storage, StorageFailed
from actions.store.file_identity import require_private_folder

log = logging.getLogger(__name__)

ROTATION: Final = internal("rotation")
CHECK_EVERY_S: Final = 600.0
ROWS_PER_ARCHIVE: Final = 50_000
"""Bounds the memory and the time of one step."""
_LEAST_ROWS: Final = 100
"""With fewer rows than this the size of the database is not the audit's."""
_DAY_MS: Final = 24 * 3600 * 1000
_ANY_AGE: Final = 2**62


class Rotation:
    """Keeps the database below `max_bytes` and the audit younger than `max_days`; 0 is no limit."""

    def __init__(
        self,
        storage: Storage,
        audit: Audit,
        *,
        max_bytes: int,
        max_days: int,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._storage = storage
        self._audit = audit
        self._max_bytes = max_bytes
        self._max_days = max_days
        self._clock_ms = clock_ms
        self.folder = storage.path.parent / FOLDER

    async def run(self) -> None:
        """Check now and every CHECK_EVERY_S, until cancelled. A failure is logged and tried again."""
        while True:
            try:
                while await self.rotate():
                    pass
            except (StorageFailed, AuditBroken, OSError) as error:
                log.error("audit rotation failed, retrying", extra={"problem": str(error)})  # noqa: TRY400
            await asyncio.sleep(CHECK_EVERY_S)

    async def rotate(self) -> bool:
        """Move one archive's worth of rows if a limit is exceeded; return whether rows were moved.

        Raises StorageFailed, AuditBroken, OSError.
        """
        now_ms = self._clock_ms()
        first, last, oldest_ms, used_bytes = await self._storage.scan(lambda db: _sizes(db, now_ms))
        if self._max_bytes and used_bytes > self._max_bytes and last - first >= _LEAST_ROWS:
            before_ms, most_rows = _ANY_AGE, max(1, (last - first) // 3)
        elif self._max_days and oldest_ms < now_ms - self._max_days * _DAY_MS:
            before_ms, most_rows = now_ms - self._max_days * _DAY_MS, ROWS_PER_ARCHIVE
        else:
            return False
        self.folder.mkdir(mode=0o700, exist_ok=True)
        require_private_folder(self.folder)
        archive = self.folder / name_of(first)
        archive.unlink(missing_ok=True)  # left by one that was killed; the rows are here still
        moved = await prune(
            self._storage,
            self._audit,
            before_ms=before_ms,
            now_ms=now_ms,
            archive=archive,
            actor=ROTATION,
            most_rows=min(most_rows, ROWS_PER_ARCHIVE),
        )
        if moved is not None:
            log.info("audit rotated", extra={"rows": moved.rows, "archive": str(archive)})
        return moved is not None


def _sizes(db: sqlite3.Connection, now_ms: int) -> tuple[int, int, int, int]:
    """Give the first and last row, the time of the first, and the bytes of the database that are in use.

    A row of a day that is yet to come was written by a clock that was wrong: the next one tells the time.
    """
    first, last = db.execute("SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM audit").fetchone()
    oldest = db.execute(
        "SELECT at_ms FROM audit WHERE at_ms <= ? ORDER BY seq LIMIT 1", (now_ms + _DAY_MS,)
    ).fetchone()
    page, pages, free = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    return first, last, oldest["at_ms"] if oldest is not None else 2**62, page * (pages - free)
