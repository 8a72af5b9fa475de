"""The audit log: actor, command, decision and result, as a chain of hashes.

`append` runs inside the caller's transaction, so that an intent and its row are on disk together or not at all. How
rows are hashed and verified is in chain.py.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from actions.domain.actor import Actor
from actions.store import chain, covered
from actions.store.chain import AuditBroken, Entry, Head, Kind
from actions.store.database import Storage, StorageFailed

MAX_PAGE_BYTES: Final = 512 * 1024
"""A page of rows ends here, after one row at least."""


class Audit:
    """Appends to and reads from the audit log of one database.

    `sinks` receive every entry after its transaction has committed (OTLP logs, for example); they must not raise.
    """

    def __init__(self, storage: Storage, *, clock_ms: Callable[[], int] | None = None) -> None:
        self._storage = storage
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self.sinks: list[Callable[[Entry], None]] = []
        storage.listeners.append(self.published)

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
        covers: Mapping[str, str | None] | None = None,
    ) -> Entry:
        """Append inside the transaction of `db`; call `published` with the result once it has committed."""
        return chain.append(
            db,
            kind,
            at_ms=self._clock_ms(),
            actor=actor,
            action=action,
            subject=subject,
            operation=operation,
            detail=detail,
            covers={**(covers or {}), **covered.take(db)},
        )

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

    async def read(
        self, *, since: int | None = None, before: int | None = None, limit: int = 100
    ) -> tuple[Entry, ...]:
        """Read rows after `since`, oldest first; without it the last ones before `before`, newest first.

        A page ends at `limit` rows or MAX_PAGE_BYTES. Asking again with the last `seq` seen misses none. Raises
        StorageFailed.
        """
        order = "DESC" if since is None else "ASC"

        def page(db: sqlite3.Connection) -> tuple[Entry, ...]:
            found: list[Entry] = []
            size = 0
            for row in db.execute(
                f"SELECT * FROM audit WHERE seq > ? AND seq < ? ORDER BY seq {order} LIMIT ?",  # noqa: S608 - one of two words
                (since or 0, before if before is not None else 2**62, limit),
            ):
                entry = chain.entry_of(row)
                size += entry.size_bytes
                if found and size > MAX_PAGE_BYTES:
                    break
                found.append(entry)
            return tuple(found)

        try:
            return await self._storage.read_page(page)
        except AuditBroken as error:
            raise StorageFailed(f"{error}; see: daemonpulse actions audit verify") from error

    async def verify(self, *, expected: Head | None = None) -> Head | None:
        """Recompute the whole chain and what it covers; return its head, None for an empty audit.

        `expected` is a head noted elsewhere: it must still be part of the chain. Raises AuditBroken, StorageFailed.
        """
        head, *_ = await self._storage.scan(lambda db: chain.verify_rows(db, expected))
        return head


__all__ = ["MAX_PAGE_BYTES", "Audit", "AuditBroken", "Entry", "Head", "Kind"]
