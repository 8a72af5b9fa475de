"""Intent and outcome of one call in the audit: the outcome is written after its intent, or not at all."""

from __future__ import annotations

import asyncio
import time

from actions.store.audit_batch import Journal, Row, settle
from actions.store.database import StorageFailed


class CallRecord:
    """What the audit gets of one call."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._is_on_disk = False
        self._fault: StorageFailed | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._outcome: Row | None = None
        self.since = 0.0
        """When the intent was on disk; before that, when its writing began. In the time of time.monotonic()."""

    def begin(self, intent: Row) -> None:
        """Begin to write the intent."""
        self.since = time.monotonic()
        self._journal.begin(intent, self._written)

    async def on_disk(self) -> None:
        """Wait until the intent is on disk; a cancelled call's is written all the same. Raises StorageFailed."""
        if self._fault is not None:
            raise self._fault
        if not self._is_on_disk:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting

    @property
    def has_failed(self) -> bool:
        """Whether the intent cannot be written."""
        return self._fault is not None

    def end(self, outcome: Row) -> None:
        """Write the outcome, once the intent is on disk."""
        self._outcome = outcome
        self._write_outcome()

    def _written(self, fault: StorageFailed | None) -> None:
        self._is_on_disk, self._fault = fault is None, fault
        if self._waiting is not None:
            settle(self._waiting, fault)
        if fault is None:
            self.since = time.monotonic()
            self._write_outcome()

    def _write_outcome(self) -> None:
        if self._is_on_disk and self._outcome is not None:
            self._journal.write_soon(self._outcome)
            self._outcome = None
