"""Writes the audit rows of many calls together: callers wait for the disk and share one fsync.

Does not depend on tools. A row without a waiting caller (an outcome) is written with the next row that has one, or
alone a moment later, and is kept until that works, as long as memory allows; without it, its intent shows for ever
that the end is not known.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from actions.domain.actor import Actor
from actions.store.audit import Audit, Entry, Kind
from actions.store.database import Storage, StorageFailed

log = logging.getLogger(__name__)

BATCH: Final = 256
"""Rows in one transaction, with and without a waiting caller."""

_KEPT: Final = 10_000
_RETRY_S: Final = 1.0
_BEHIND_S: Final = 0.05
"""How long a row without a waiting caller is held for one that has one, to share its fsync."""


@dataclass(frozen=True, slots=True)
class Row:
    """One audit row to be."""

    kind: Kind
    actor: Actor
    action: str
    subject: str
    operation: str | None
    detail: Mapping[str, Any]


_Waiting = tuple[Row, asyncio.Future[None] | None]


class Journal:
    """Writes rows in batches. `run` must be running."""

    def __init__(self, storage: Storage, audit: Audit, *, retry_s: float = _RETRY_S) -> None:
        self._storage = storage
        self._audit = audit
        self._retry_s = retry_s
        self._waited_for: deque[_Waiting] = deque()
        self._behind: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._closing = False

    async def write(self, row: Row) -> None:
        """Put a row on disk. Raises StorageFailed."""
        if self._closing:
            raise StorageFailed("the audit is closed, because the service is shutting down")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waited_for.append((row, done))
        self._wake.set()
        await done

    def write_soon(self, row: Row) -> None:
        """Put a row on disk without waiting for it."""
        if len(self._behind) >= _KEPT:
            log.error("an outcome is lost to the audit", extra={"operation": row.operation or ""})
            return
        self._behind.append((row, None))
        self._arrange(_BEHIND_S)

    async def run(self) -> None:
        """Write until cancelled, then write what is left."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if await self._flush() and self._behind:
                    self._wake.set()
                if self._waited_for:
                    self._wake.set()
        finally:
            self._closing = True
            while (self._waited_for or self._behind) and await self._flush():
                pass

    def _arrange(self, delay_s: float) -> None:
        """Write the held rows, if no row with a waiting caller did."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._wake.set)

    def _take(self) -> list[_Waiting]:
        """Take a batch of both."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return [
            rows.popleft() for rows in (self._behind, self._waited_for) for _ in range(min(BATCH, len(rows)))
        ]

    async def _flush(self) -> bool:
        """Write one batch; return whether it worked.

        A failure is raised in the waiting callers; the other rows are kept.
        """
        batch = self._take()
        try:
            entries = await self._storage.write(
                lambda db: [self._append(db, row) for row, _ in batch], audit_only=True
            )
        except asyncio.CancelledError:
            for _, done in batch:
                if done is not None:
                    done.cancel()
            raise
        except (StorageFailed, sqlite3.IntegrityError) as error:
            self._put_back(batch, error if isinstance(error, StorageFailed) else StorageFailed(str(error)))
            return False
        except Exception:  # noqa: BLE001 - a row that the schema rejects must not cost the others
            for one in batch:
                await self._write_alone(*one)
            return True
        for _, done in batch:
            if done is not None and not done.done():
                done.set_result(None)
        self._audit.published(*entries)
        return True

    def _put_back(self, batch: list[_Waiting], fault: StorageFailed) -> None:
        """Tell those who wait, keep the others for later."""
        self._behind.extendleft(one for one in reversed(batch) if one[1] is None)
        if self._behind:
            self._arrange(self._retry_s)
        for _, done in batch:
            if done is not None and not done.done():
                done.set_exception(fault)

    async def _write_alone(self, row: Row, done: asyncio.Future[None] | None) -> None:
        """Write one row of a batch that could not be written; what cannot be written alone either is given up."""
        try:
            entry = await self._storage.write(lambda db: self._append(db, row), audit_only=True)
        except asyncio.CancelledError:
            if done is not None:
                done.cancel()
            raise
        except Exception as error:
            log.exception("a row cannot be written to the audit", extra={"operation": row.operation or ""})
            if done is not None and not done.done():
                done.set_exception(StorageFailed(f"this row cannot be written: {error}"))
            return
        if done is not None and not done.done():
            done.set_result(None)
        self._audit.published(entry)

    def _append(self, db: sqlite3.Connection, row: Row) -> Entry:
        return self._audit.append(
            db,
            row.kind,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            operation=row.operation,
            detail=row.detail,
        )
