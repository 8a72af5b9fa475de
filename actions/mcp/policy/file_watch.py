"""Reads the policy file again when it changed; what cannot be read leaves the older policy in force, over restarts too.

Does not know rules. A file that is still being written is not read: it must look the same twice, and not change while
it is read. One that is gone counts as broken, for a policy that vanishes must not open anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from actions.mcp.file_signature import mark_of
from actions.mcp.policy import file
from actions.mcp.policy.rules import KINDS, Decision, Policy
from actions.metrics import Metrics
from actions.store.database import StorageFailed
from exporter.catalogue import mcp as rows

log = logging.getLogger(__name__)

PERIOD_S: Final = 1.0

Take = Callable[[file.PolicyFile], Awaitable[None]]
"""Puts a policy in force, and keeps it. Raises StorageFailed."""

NOTHING_ALLOWED: Final = file.PolicyFile(
    file.McpConfig(policy=Policy(defaults=dict.fromkeys(KINDS, Decision.DENY))), sha256="deny"
)
"""Is in force where a policy was kept, and cannot be read any more."""


class PolicyWatch:
    """Looks at one policy file."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self.path = path
        self._metrics = metrics
        self._judged: object = None
        self._seen: object = None
        self.problem: str | None = None
        """Why the file as it is now is not in force."""

    def first(self, kept: tuple[str, str] | None) -> file.PolicyFile:
        """Choose what is in force at the start: the file, else the one that was kept, else nothing is allowed.

        Without a file and a kept one there never was one: then the defaults hold. Raises PolicyError for a file that
        cannot be read where none was kept.
        """
        self._judged = self._seen = mark_of(self.path)
        try:
            found = file.load(self.path)
        except file.PolicyError as error:
            if kept is None and not isinstance(error, file.PolicyMissing):
                raise
            if kept is None:
                found = file.PolicyFile(file.McpConfig())
            else:
                return self._instead(kept, str(error))
        self._say(None)
        return found

    def _instead(self, kept: tuple[str, str], why: str) -> file.PolicyFile:
        try:
            found = file.restore(*kept)
        except file.PolicyError as error:
            self._say(f"{why}; {error}; nothing is allowed")
            return NOTHING_ALLOWED
        missing = f", without {', '.join(found.left_out)}: a secret is not kept" if found.left_out else ""
        self._say(f"{why}; the policy that was last in force is (sha256 {found.sha256[:12]}){missing}")
        return found

    async def run(self, take: Take, *, period_s: float = PERIOD_S) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(period_s)
            try:
                await self.look(take)
            except Exception as error:  # noqa: BLE001 - a watcher that ended would leave rules stale, unsaid
                self._say(f"internal error: {type(error).__name__}: {error}")

    async def look(self, take: Take) -> None:
        """Look once; take the file if it changed and has settled."""
        mark = await asyncio.to_thread(mark_of, self.path)
        settled = mark == self._seen
        self._seen = mark
        if mark == self._judged or not settled:
            return
        try:
            found = await asyncio.to_thread(file.load, self.path)
            if await asyncio.to_thread(mark_of, self.path) != mark:
                return  # it changed while it was read
            await take(found)
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

    def _say(self, problem: str | None) -> None:
        self._metrics.set(rows.POLICY_LOADED, 1 if problem is None else 0)
        if problem is None:
            log.info("policy file loaded", extra={"file": str(self.path)})
        elif problem != self.problem:
            log.error("policy file not loaded, an older policy stays in force", extra={"problem": problem})
        self.problem = problem
