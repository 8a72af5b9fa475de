"""Reloads the policy file when it changes. An invalid or missing file leaves the last policy in force, also at a start.

A file is read when two looks found it unchanged. A missing file counts as invalid, so that its removal allows nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from actions.mcp.file_signature import signature_of
from actions.mcp.policy import file
from actions.mcp.policy.rules import KINDS, Decision, Policy
from actions.metrics import Metrics
from actions.store.database import StorageFailed
from exporter.catalogue import mcp as rows

log = logging.getLogger(__name__)

PERIOD_S: Final = 1.0

Take = Callable[[file.PolicyFile], Awaitable[None]]
"""Applies a policy and keeps it. Raises StorageFailed."""

NOTHING_ALLOWED: Final = file.PolicyFile(
    file.McpConfig(policy=Policy(defaults=dict.fromkeys(KINDS, Decision.DENY))), sha256="deny"
)
"""In force when neither the file nor the kept policy can be read."""


class PolicyWatch:
    """Watches one policy file."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self.path = path
        self._metrics = metrics
        self._judged: object = None
        self._seen: object = None
        self._looking = asyncio.Lock()
        self.problem: str | None = None
        """Why the present file is not in force; None if it is."""

    def first(self, kept: tuple[str, str] | None) -> file.PolicyFile:
        """Return the policy at the start: the file, else the kept one, else one that denies everything.

        Without a file and a kept policy the defaults apply. Raises PolicyError for an invalid file without a kept
        policy.
        """
        self._judged = self._seen = signature_of(self.path)
        try:
            found = file.load(self.path)
        except file.PolicyError as error:
            if kept is None and not isinstance(error, file.PolicyMissing):
                raise
            if kept is None:
                found = file.PolicyFile(file.McpConfig())
            else:
                return self._instead(kept, str(error))
        self._report(None)
        return found

    def _instead(self, kept: tuple[str, str], why: str) -> file.PolicyFile:
        try:
            found = file.restore(*kept)
        except file.PolicyError as error:
            self._report(f"{why}; {error}; everything is denied")
            return NOTHING_ALLOWED
        missing = (
            f", without server {', '.join(found.left_out)}: secrets are not kept" if found.left_out else ""
        )
        self._report(f"{why}; the last policy is in force (sha256 {found.sha256[:12]}){missing}")
        return found

    async def run(self, take: Take, *, period_s: float = PERIOD_S) -> None:
        """Look every `period_s` until cancelled."""
        while True:
            await asyncio.sleep(period_s)
            try:
                await self.look(take)
            except Exception as error:  # noqa: BLE001 - the watcher must go on
                self._report(f"internal error: {type(error).__name__}: {error}")

    async def look(self, take: Take) -> None:
        """Look once; apply the file if it changed and is stable. One look at a time: the last one decides."""
        async with self._looking:
            await self._look(take)

    async def _look(self, take: Take) -> None:
        mark = await asyncio.to_thread(signature_of, self.path)
        settled = mark == self._seen
        self._seen = mark
        if mark == self._judged or not settled:
            return
        try:
            found = await asyncio.to_thread(file.load, self.path)
            if await asyncio.to_thread(signature_of, self.path) != mark:
                return  # it changed while it was read
            await take(found)
        except StorageFailed as error:  # the next look tries again
            self._report(f"the audit cannot be written: {error}")
        except file.PolicyError as error:
            self._judged = mark
            self._report(str(error))
        else:
            self._judged = mark
            self._report(None)

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the API."""
        return {"file": str(self.path), "loaded": self.problem is None, "problem": self.problem}

    def _report(self, problem: str | None) -> None:
        self._metrics.set(rows.POLICY_LOADED, 1 if problem is None else 0)
        if problem is None:
            log.info("policy file loaded", extra={"file": str(self.path)})
        elif problem != self.problem:
            log.error("policy file not loaded, last policy stays in force", extra={"problem": problem})
        self.problem = problem
