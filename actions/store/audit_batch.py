"""Writes the audit rows of many calls together: callers wait for the disk and share one fsync.

Does not depend on tools. A row without a waiting caller (an outcome) is written with the next row that has one, or
alone a moment later, and is kept until that works, as long as memory allows; without it, its intent shows for ever
that the end is not known.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
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


Told = Callable[[StorageFailed | None], None]
"""Called once in the event loop, when a row is on disk or with why it is not. Must not raise."""

_Waiting = tuple[Row, Told | None]


class Journal:
    """Writes rows in batches, one at a time. `run` must be running."""

    def __init__(self, storage: Storage, audit: Audit, *, retry_s: float = _RETRY_S) -> None:
        self._storage = storage
        self._audit = audit
        self._retry_s = retry_s
        self._waited_for: deque[_Waiting] = deque()
        self._behind: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[bool] | None = None
        """The batch that is being written; its result is whether that worked."""
        self._alone: asyncio.Future[None] | None = None
        self._running = False
        self._closing = False

    def begin(self, row: Row, told: Told) -> None:
        """Begin to put a row on disk; `told` says when it is there."""
        if self._closing:
            told(StorageFailed("the audit is closed, because the service is shutting down"))
        else:
            self._waited_for.append((row, told))
            self._flush()

    async def write(self, row: Row) -> None:
        """Put a row on disk. Cancelling it does not stop the row. Raises StorageFailed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begin(row, functools.partial(settle, done))
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
        self._running = True
        self._flush()
        try:
            await asyncio.Event().wait()
        finally:
            self._closing, works = True, True
            while self._writing is not None or (works and (self._waited_for or self._behind)):
                self._flush()
                if self._writing is not None:
                    works = await self._writing
            self._running = False

    def _arrange(self, delay_s: float) -> None:
        """Write the held rows, if no row with a waiting caller did."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._due)

    def _due(self) -> None:
        self._timer = None
        self._flush()

    def _take(self) -> list[_Waiting]:
        """Take a batch of both."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return [
            rows.popleft() for rows in (self._behind, self._waited_for) for _ in range(min(BATCH, len(rows)))
        ]

    def _flush(self) -> None:
        """Begin to write a batch, unless one is being written: then its end does."""
        if not self._running or self._writing is not None or not (self._waited_for or self._behind):
            return
        batch = self._take()
        self._writing = asyncio.get_running_loop().create_future()
        self._storage.submit(
            lambda db: [self._append(db, row) for row, _ in batch],
            functools.partial(self._written, batch),
            audit_only=True,
        )

    def _written(
        self, batch: list[_Waiting], entries: list[Entry] | None, error: BaseException | None
    ) -> None:
        """Tell the waiting callers. After a failure of the storage the rows of others are kept."""
        if entries is not None:
            for _, told in batch:
                if told is not None:
                    told(None)
            self._audit.published(*entries)
        elif isinstance(error, StorageFailed | sqlite3.IntegrityError):
            self._put_back(batch, error if isinstance(error, StorageFailed) else StorageFailed(str(error)))
        else:  # a row that the schema rejects must not cost the others
            self._alone = asyncio.ensure_future(self._write_each(batch))
            return
        self._next(works=entries is not None)

    def _next(self, *, works: bool) -> None:
        """End a batch, and begin the next one if a caller waits for it."""
        if self._writing is not None and not self._writing.done():
            self._writing.set_result(works)
        self._writing = None
        if self._waited_for:
            self._flush()
        elif self._behind:
            self._arrange(_BEHIND_S)

    def _put_back(self, batch: list[_Waiting], fault: StorageFailed) -> None:
        """Tell those who wait, keep the others for later."""
        self._behind.extendleft(one for one in reversed(batch) if one[1] is None)
        if self._behind:
            self._arrange(self._retry_s)
        for _, told in batch:
            if told is not None:
                told(fault)

    async def _write_each(self, batch: list[_Waiting]) -> None:
        try:
            for one in batch:
                await self._write_alone(*one)
        finally:
            self._next(works=True)

    async def _write_alone(self, row: Row, told: Told | None) -> None:
        """Write one row of a batch that could not be written; what cannot be written alone either is given up."""
        tell = told or (lambda _fault: None)
        try:
            entry = await self._storage.write(lambda db: self._append(db, row), audit_only=True)
        except asyncio.CancelledError:
            tell(StorageFailed("the service is shutting down"))
            raise
        except Exception as error:
            log.exception("a row cannot be written to the audit", extra={"operation": row.operation or ""})
            tell(StorageFailed(f"this row cannot be written: {error}"))
            return
        tell(None)
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


def settle(done: asyncio.Future[None], fault: StorageFailed | None) -> None:
    """Let a future say what became of a row."""
    if done.done():  # its caller was cancelled
        return
    if fault is None:
        done.set_result(None)
    else:
        done.set_exception(fault)
