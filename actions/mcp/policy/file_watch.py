"""Reads the policy file again when it changed. What cannot be read changes nothing: the older policy stays in force.

Knows no rule. A file that is still being written is not read: it must look the same twice, and not change while it is
read. One that is gone counts as broken, for a policy that vanishes must not open anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from actions.mcp.file_signature import mark_of
from actions.mcp.policy import file
from actions.metrics import Metrics
from actions.store.database import StorageFailed
from exporter.catalogue import mcp as rows

log = logging.getLogger(__name__)

PERIOD_S: Final = 1.0

Take = Callable[[file.GateConfig, str], Awaitable[None]]
"""Puts a policy in force, given with the SHA-256 of its file. Raises StorageFailed."""


class PolicyWatch:
    """Looks at one policy file. Reads it once when made: raises PolicyError."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self.path = path
        self._metrics = metrics
        self._judged = self._seen = mark_of(path)
        self.config = file.load(path)
        """As first read."""
        self.problem: str | None = None
        """Why the file as it is now is not in force."""
        metrics.set(rows.POLICY_LOADED, 1)

    async def run(self, take: Take, *, period_s: float = PERIOD_S) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(period_s)
            try:
                await self.look(take)
            except Exception as error:  # noqa: BLE001 - a watcher that ended would leave rules stale, unsaid
                self._say(f"a bug of ours: {type(error).__name__}: {error}")

    async def look(self, take: Take) -> None:
        """Look once; take the file if it changed and has settled."""
        mark = await asyncio.to_thread(mark_of, self.path)
        settled = mark == self._seen
        self._seen = mark
        if mark == self._judged or not settled:
            return
        try:
            config, digest = await asyncio.to_thread(self._read)
            if await asyncio.to_thread(mark_of, self.path) != mark:
                return  # it changed while it was read
            await take(config, digest)
        except StorageFailed as error:  # no record, no change; the next look tries again
            self._say(f"it cannot be put on record: {error}")
        except file.PolicyError as error:
            self._judged = mark
            self._say(str(error))
        else:
            self._judged = mark
            self._say(None)

    def to_json(self) -> dict[str, Any]:
        """Describe what is known."""
        return {"file": str(self.path), "loaded": self.problem is None, "problem": self.problem}

    def _read(self) -> tuple[file.GateConfig, str]:
        config = file.load(self.path)
        try:
            return config, hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as error:
            raise file.PolicyError(f"{self.path} cannot be read: {error}") from error

    def _say(self, problem: str | None) -> None:
        self._metrics.set(rows.POLICY_LOADED, 1 if problem is None else 0)
        if problem is None:
            log.info("the policy file is in force", extra={"file": str(self.path)})
        elif problem != self.problem:
            log.error("the policy file is not in force; the older policy is", extra={"problem": problem})
        self.problem = problem
