"""Adopts mcp.json and undoes it as an action: makes a token for the daemon, audits the change, opens endpoints.

Does not depend on HTTP; adopt.py plans and carries out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, Final

from actions.auth.tokens import TokenStore
from actions.domain.actor import Actor, Scope
from actions.domain.errors import Problem
from actions.mcp.mcp_json.adopt import (
    McpJson,
    NotAdoptable,
    Plan,
    carry_out_adoption,
    carry_out_undo,
    plan_adoption,
    plan_undo,
    read,
    tokens_in,
)
from actions.mcp.mcp_json.drift import Drift
from actions.mcp.server_pool import ServerPool
from actions.store.audit import Audit
from actions.store.database import Storage

TOKEN_NAME: Final = "llmster-mcp"  # noqa: S105 - its name, not the token

_PLACEHOLDER: Final = "dp_made-when-adopted"


class Adoption:
    """The adoption of one mcp.json. `gate_url` returns the gate's URL once the port is known."""

    def __init__(
        self,
        path: Path,
        *,
        pool: ServerPool,
        storage: Storage,
        audit: Audit,
        tokens: TokenStore,
        gate_url: Callable[[], str],
    ) -> None:
        self.path = path
        self.drift = Drift(path, gate_url=gate_url, metrics=pool.metrics)
        self._pool = pool
        self._storage = storage
        self._audit = audit
        self._tokens = tokens
        self._gate_url = gate_url
        self._lock = asyncio.Lock()

    async def run(self, actor: Actor, *, undo: bool, dry_run: bool) -> dict[str, Any]:
        """Adopt or undo; with `dry_run` only plan. Raises Problem, StorageFailed."""
        async with self._lock:
            try:
                return await (
                    self._undo(actor, dry_run=dry_run) if undo else self._adopt(actor, dry_run=dry_run)
                )
            except (NotAdoptable, OSError) as error:
                raise Problem("not-adoptable", str(error)) from error

    def move(self, path: Path) -> None:
        """Use another mcp.json."""
        if path != self.path:
            self.path = path
            self.drift.move(path)

    async def _adopt(self, actor: Actor, *, dry_run: bool) -> dict[str, Any]:
        file = await asyncio.to_thread(read, self.path)
        adopted = self._pool.registry.adopted
        kept, stale = await self._tokens_of(file, adopted)
        planned = partial(
            plan_adoption,
            file,
            gate_url=self._gate_url(),
            taken=frozenset(self._pool.config.servers),
            adopted=adopted,
            stale=stale,
        )
        plan = planned(token=kept or _PLACEHOLDER)
        if dry_run or not plan.changes:
            return _described(plan, done=False, backup=None)
        plan = planned(token=kept or await self._new_token(actor))
        await self._record(actor, "mcp.adopt", plan)
        backup = await asyncio.to_thread(carry_out_adoption, plan, self._pool.registry)
        self._pool.sync()
        await self.drift.look()
        return _described(plan, done=True, backup=backup)

    async def _undo(self, actor: Actor, *, dry_run: bool) -> dict[str, Any]:
        file = await asyncio.to_thread(read, self.path)
        plan = plan_undo(file, self._pool.registry, gate_url=self._gate_url())
        if dry_run or not plan.changes:
            return _described(plan, done=False, backup=None)
        await self._record(actor, "mcp.undo", plan)
        await asyncio.to_thread(carry_out_undo, plan, self._pool.registry)
        self._pool.sync()
        await self.drift.look()
        return _described(plan, done=True, backup=None)

    async def _tokens_of(self, file: McpJson, adopted: Collection[str]) -> tuple[str | None, frozenset[str]]:
        """Find a token in the file that still works, and those that do not."""
        found = dict.fromkeys(tokens_in(file, adopted))
        good = [token for token in found if (await self._tokens.check(token)).actor is not None]
        return (good[0] if good else None), frozenset(found) - set(good)

    async def _new_token(self, actor: Actor) -> str:
        """Make a token that may look and call tools, and nothing else: mcp.json is a file that leaks."""

        def make(db: Any) -> tuple[str, Any]:
            token, text = self._tokens.add(db, name=TOKEN_NAME, scope=Scope.READ)
            detail = {"name": TOKEN_NAME, "scope": token.scope.value, "expires_ms": None}
            return text, self._audit.append(
                db, "event", actor=actor, action="token-new", subject=token.id, detail=detail
            )

        text, entry = await self._storage.write(make)
        self._audit.published(entry)
        return text

    async def _record(self, actor: Actor, action: str, plan: Plan) -> None:
        await self._audit.record(
            "event",
            actor=actor,
            action=action,
            subject=str(self.path),
            detail={"servers": plan.names},
        )


def _described(plan: Plan, *, done: bool, backup: Path | None) -> dict[str, Any]:
    return {
        "done": done,
        "mcp_json": str(plan.file.path),
        "servers": plan.names,
        "skipped": dict(plan.skipped),
        "diff": plan.diff(),
        "backup": str(backup) if backup is not None else None,
        "warning": plan.warning,
    }
