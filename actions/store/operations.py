"""Operations: every command that takes a while, as a row that outlives the process and an object to wait for.

A row and its audit entry are written in one transaction: there is no action without its intent.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from actions.domain.actor import RECOVERY, Actor
from actions.domain.command import Command, from_json
from actions.domain.errors import Problem, not_found
from actions.store.audit import MAX_PAGE_BYTES, Audit, Entry
from actions.store.covered import OPERATIONS_KEPT_MS
from actions.store.database import Storage
from actions.store.sizes import MAX_RESULT_BYTES, bounded, canonical

log = logging.getLogger(__name__)

State = Literal["pending", "running", "done", "failed", "cancelled"]
FINISHED: Final[frozenset[State]] = frozenset({"done", "failed", "cancelled"})

KEPT_MS: Final = OPERATIONS_KEPT_MS
"""Finished operations are deleted after a month; the audit keeps what they were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable(Command):
    """Stands for a stored command that this version of the program cannot read."""

    action: str
    about: str
    stored: Mapping[str, Any] = field(default_factory=dict)
    """The content of the row, as far as it is JSON."""

    @property
    def subject(self) -> str:
        """The stored subject."""
        return self.about

    def to_json(self) -> dict[str, Any]:
        """Write what was stored."""
        return dict(self.stored)


@dataclass(slots=True, eq=False)
class Operation:
    """One operation. While it is unfinished, `progress` and `phase` are only here and not in the database."""

    id: str
    command: Command
    actor: str
    person: str | None
    state: State
    created_ms: int
    before: Mapping[str, Any] = field(default_factory=dict)
    """What the daemon had loaded before the command, and what recovery needs."""
    phase: str = ""
    progress: float | None = None
    result: Mapping[str, Any] | None = None
    problem: Mapping[str, Any] | None = None
    finished_ms: int | None = None
    started: float = field(default_factory=time.monotonic)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    cancel: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def action(self) -> str:
        """The name of what is done."""
        return self.command.action if isinstance(self.command, Unreadable) else self.command.ACTION

    @property
    def is_finished(self) -> bool:
        """Whether it came to an end, good or bad."""
        return self.state in FINISHED

    def to_json(self) -> dict[str, Any]:
        """Write it as the API answers it."""
        command = self.command.to_json()
        return {
            "id": self.id,
            "daemon": self.command.daemon,
            "action": self.action,
            "subject": self.command.subject,
            "state": self.state,
            "phase": self.phase or None,
            "progress": self.progress,
            "actor": self.actor,
            "person": self.person,
            "parameters": {key: value for key, value in command.items() if key not in {"action", "daemon"}},
            "result": dict(self.result) if self.result is not None else None,
            "problem": dict(self.problem) if self.problem is not None else None,
            "created_ms": self.created_ms,
            "finished_ms": self.finished_ms,
        }


class Operations:
    """The operations of one database; the unfinished ones are kept as live objects."""

    def __init__(self, storage: Storage, audit: Audit) -> None:
        self._storage = storage
        self._audit = audit
        self.live: dict[str, Operation] = {}

    async def find_by_key(self, actor: Actor, key: str, command: Command) -> Operation | None:
        """Find what this Idempotency-Key began. Raises Problem when it was for something else."""
        row = await self._storage.read(lambda db: _by_key(db, actor, key))
        return self._same_request(row, key, command) if row is not None else None

    async def begin(
        self, actor: Actor, command: Command, *, key: str | None, rule: str
    ) -> tuple[Operation, bool]:
        """Write the operation and its intent, synced to disk; or find what the same key began a moment ago.

        Returns it and whether it is new. Raises StorageFailed, and Problem for a key of another request.
        """
        operation = Operation(
            id=secrets.token_hex(10),
            command=command,
            actor=actor.name,
            person=actor.person,
            state="pending",
            created_ms=time.time_ns() // 1_000_000,
        )

        def write(db: sqlite3.Connection) -> Entry | sqlite3.Row:
            earlier = _by_key(db, actor, key) if key is not None else None
            if earlier is not None:
                return earlier
            _forget_old(db, operation.created_ms)
            db.execute(
                "INSERT INTO operations (id, daemon, action, subject, state, actor, owner, person, idempotency_key,"
                " digest, request, before, created_ms) VALUES (?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?, '{}', ?)",
                (
                    operation.id,
                    command.daemon,
                    command.ACTION,
                    command.subject,
                    actor.name,
                    actor.owner,
                    actor.person,
                    key,
                    _digest(command),
                    canonical(command.to_json()),
                    operation.created_ms,
                ),
            )
            return self._audit.append(
                db,
                "intent",
                actor=actor,
                action=command.ACTION,
                subject=command.subject,
                operation=operation.id,
                detail={"rule": rule, "parameters": command.to_json()},
            )

        written = await self._storage.write(write)
        if isinstance(written, sqlite3.Row):
            return self._same_request(written, key or "", command), False
        self._audit.published(written)
        self.live[operation.id] = operation
        return operation, True

    async def start(self, operation: Operation, before: Mapping[str, Any]) -> None:
        """Write that the command starts, and what the daemon has loaded now; synced to disk."""
        text = canonical(dict(before))
        await self._storage.write(
            lambda db: db.execute(
                "UPDATE operations SET state = 'running', before = ? WHERE id = ?", (text, operation.id)
            )
        )
        operation.state, operation.before = "running", dict(before)

    async def finish(
        self,
        operation: Operation,
        state: State,
        *,
        actor: Actor,
        result: Mapping[str, Any] | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the end of an operation and its outcome in the audit. Raises StorageFailed, and can be repeated."""
        finished_ms = time.time_ns() // 1_000_000
        result, result_text = _bounded(result)
        problem, problem_text = _bounded(problem)

        def write(db: sqlite3.Connection) -> Entry:
            db.execute(
                "UPDATE operations SET state = ?, result = ?, problem = ?, finished_ms = ? WHERE id = ?",
                (state, result_text, problem_text, finished_ms, operation.id),
            )
            return self._audit.append(
                db,
                "outcome",
                actor=actor,
                action=operation.action,
                subject=operation.command.subject,
                operation=operation.id,
                detail={"state": state, "result": _brief(result), "problem": _brief(problem)},
            )

        self._audit.published(await self._storage.write(write))
        operation.state, operation.result, operation.problem = state, result, problem
        operation.finished_ms, operation.progress = finished_ms, 1.0 if state == "done" else None
        operation.phase = ""
        self.live.pop(operation.id, None)
        operation.done.set()

    async def get(self, operation_id: str) -> Operation:
        """Find an operation. Raises Problem when there is none."""
        if operation_id in self.live:
            return self.live[operation_id]
        row = await self._storage.read(
            lambda db: db.execute("SELECT * FROM operations WHERE id = ?", (operation_id,)).fetchone()
        )
        if row is None:
            raise not_found("operation", operation_id)
        return self.live.get(operation_id) or _operation(row)

    async def recent(self, *, daemon: str | None, limit: int, before: str | None = None) -> list[Operation]:
        """List operations, newest first; with `before`, those older than that operation.

        A page ends at `limit` operations or MAX_PAGE_BYTES. Raises Problem for an unknown `before`, StorageFailed.
        """

        def page(db: sqlite3.Connection) -> list[Operation]:
            last = 2**62
            if before is not None:
                row = db.execute("SELECT rowid FROM operations WHERE id = ?", (before,)).fetchone()
                if row is None:
                    raise not_found("operation", before)
                last = row["rowid"]
            found: list[Operation] = []
            size = 0
            of_daemon, values = ("AND daemon = ?", (daemon,)) if daemon is not None else ("", ())
            for row in db.execute(
                f"SELECT * FROM operations WHERE rowid < ? {of_daemon} ORDER BY rowid DESC LIMIT ?",  # noqa: S608 - fixed
                (last, *values, limit),
            ):
                size += sum(len(row[name] or "") for name in ("request", "result", "problem"))
                if found and size > MAX_PAGE_BYTES:
                    break
                found.append(_operation(row))
            return found

        found = await self._storage.recall(("operations", daemon, limit, before), page, is_page=True)
        return [self.live.get(one.id, one) for one in found]

    async def unfinished(self) -> list[Operation]:
        """Take up again what a former process left without an outcome, oldest first."""
        rows = await self._storage.write(
            lambda db: db.execute(
                "SELECT * FROM operations WHERE finished_ms IS NULL ORDER BY rowid"
            ).fetchall()
        )
        operations = [_operation(row) for row in rows]
        for operation in operations:
            if isinstance(operation.command, Unreadable):
                what = "another version of the program wrote this operation, and this one cannot read it"
                await self.finish(
                    operation, "failed", actor=RECOVERY, problem=Problem("interrupted", what).body()
                )
        operations = [operation for operation in operations if not operation.is_finished]
        self.live.update({operation.id: operation for operation in operations})
        return operations

    def _same_request(self, row: sqlite3.Row, key: str, command: Command) -> Operation:
        if row["digest"] != _digest(command):
            raise Problem(
                "idempotency-key-reused",
                f"Idempotency-Key {key[:80]} began operation {row['id']} with other parameters; use a new key",
                operation=row["id"],
            )
        return self.live.get(row["id"]) or _operation(row)


def _forget_old(db: sqlite3.Connection, now_ms: int) -> None:
    """Delete what finished a month ago, with every new operation."""
    limit_ms = now_ms - KEPT_MS
    # What was begun later cannot have finished earlier; this is the column that has an index.
    db.execute("DELETE FROM operations WHERE created_ms < ? AND finished_ms < ?", (limit_ms, limit_ms))


def _by_key(db: sqlite3.Connection, actor: Actor, key: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM operations WHERE owner = ? AND idempotency_key = ?", (actor.owner, key)
    ).fetchone()
    return row


def _digest(command: Command) -> str:
    return hashlib.sha256(canonical(command.to_json()).encode()).hexdigest()


def _command(row: sqlite3.Row, stored: Mapping[str, Any]) -> Command:
    """Read a stored command; one of another version of the program costs this row, and not the program."""
    try:
        return from_json(stored)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning(
            "stored operation unreadable",
            extra={
                "operation": row["id"],
                "action": row["action"],
                "problem": f"{type(error).__name__}: {error}",
            },
        )
        return Unreadable(daemon=row["daemon"], action=row["action"], about=row["subject"], stored=stored)


def _column(row: sqlite3.Row, name: str) -> dict[str, Any] | None:
    """Read a column of JSON; None where it is empty or holds no JSON object."""
    try:
        found = json.loads(row[name] or "null")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else None


def _operation(row: sqlite3.Row) -> Operation:
    operation = Operation(
        id=row["id"],
        command=_command(row, _column(row, "request") or {}),
        actor=row["actor"],
        person=row["person"],
        state=row["state"],
        created_ms=row["created_ms"],
        before=_column(row, "before") or {},
        result=_column(row, "result"),
        problem=_column(row, "problem"),
        finished_ms=row["finished_ms"],
    )
    if operation.is_finished:
        operation.progress = 1.0 if operation.state == "done" else None
        operation.done.set()
    return operation


def _bounded(value: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, str | None]:
    return bounded(value, MAX_RESULT_BYTES) if value is not None else (None, None)


def _brief(value: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Leave the numbers of a pre-flight out of the audit; the operation has them."""
    return {key: item for key, item in value.items() if key != "preflight"} if value is not None else None
