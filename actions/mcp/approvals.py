"""Approvals: pending calls that require a person's decision. No decision in time denies the call; a restart ends it.

Does not depend on MCP or on rules. The database decides races: an approval is settled once, by the update that finds it
pending.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from actions.domain.actor import RECOVERY, Actor
from actions.domain.errors import Problem, not_found
from actions.domain.rate_limit import gives_way
from actions.mcp.approval import Approval, ApprovalRequest, State
from actions.mcp.policy.rules import Decision, Subject
from actions.mcp.policy.store import PolicyStore
from actions.metrics import Metrics
from actions.store.audit import Audit, Entry
from actions.store.database import Storage
from actions.store.operations import KEPT_MS
from exporter.catalogue import mcp as rows

log = logging.getLogger(__name__)

OUTCOMES: Final[tuple[State, ...]] = ("approved", "denied", "expired", "cancelled", "interrupted")

MAX_PENDING: Final = 500
MAX_PENDING_OF_SERVER: Final = 100
"""Of all tokens. Beyond it the oldest call of the token with the most gives way, or else the new one is refused."""

MAX_PENDING_OF_TOKEN: Final = 50

MAX_SETTLED: Final = 10_000
"""Settled approvals that are kept, the newest; the audit has every decision."""

MAX_SETTLED_PREVIEW: Final = 4_096
"""Characters of the arguments of a settled approval, where the policy keeps arguments."""

MAX_LIST_CHARS: Final = 2 * 1024 * 1024
"""Of arguments and definitions in one response, which holds at least one approval."""

MAX_SUBJECT: Final = 300
"""Characters kept of the name of a tool or the URI of a resource."""


class TooManyPending(Exception):
    """A limit of pending approvals is reached: the call was not let in, or gave way to another token's."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    owner: str
    server: str
    answer: asyncio.Future[State | None]
    """None: the call gives way."""


class Approvals:
    """The approvals of one database. Call `start` first and `close` last."""

    def __init__(
        self,
        storage: Storage,
        audit: Audit,
        policy_store: PolicyStore,
        metrics: Metrics,
        *,
        keep_preview: bool,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        self._storage = storage
        self._audit = audit
        self._policy_store = policy_store
        self._metrics = metrics
        self.keep_preview = keep_preview
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self._waiting: dict[str, _Waiting] = {}
        """By id, the oldest first."""
        self.is_closing = False
        """Whether the service is shutting down and all waiting calls were ended."""
        self._tails: set[asyncio.Future[tuple[State, bool]]] = set()

    async def start(self) -> None:
        """Mark approvals that a former process left pending as interrupted. Raises StorageFailed."""
        for outcome in OUTCOMES:
            self._metrics.count(rows.APPROVALS, outcome, by=0)
        self._count_pending()
        pending = await self._storage.read(
            lambda db: db.execute("SELECT id FROM mcp_approvals WHERE state = 'pending'").fetchall()
        )
        for row in pending:
            await self._settle(row["id"], "interrupted", RECOVERY)

    async def request(self, ask: ApprovalRequest, actor: Actor) -> tuple[str, State]:
        """Wait for a decision; return the approval's id and its final state. Raises StorageFailed, TooManyPending."""
        self._make_room(actor.owner, ask.subject)
        approval_id = secrets.token_hex(6)
        waiting = _Waiting(actor.owner, ask.subject.server, asyncio.get_running_loop().create_future())
        self._waiting[approval_id] = waiting
        self._count_pending()
        try:
            await self._insert(approval_id, ask, actor)
            if self.is_closing:
                return approval_id, (await self._settle(approval_id, "interrupted", RECOVERY))[0]
            try:
                async with asyncio.timeout(ask.timeout_s):
                    state = await waiting.answer
            except TimeoutError:
                return approval_id, (await self._settle(approval_id, "expired", actor))[0]
            if state is not None:
                return approval_id, state
            state, gave_way = await self._settle(approval_id, "interrupted", actor)
            if not gave_way:  # decided in the last moment
                return approval_id, state
            raise TooManyPending("too many calls of this token wait for approval; this one gave way")
        except asyncio.CancelledError:
            # The cancellation goes on; a task of its own finishes the record.
            tail = asyncio.ensure_future(self._settle(approval_id, "cancelled", actor))
            self._tails.add(tail)
            tail.add_done_callback(self._ended)
            raise
        finally:
            self._waiting.pop(approval_id, None)
            self._count_pending()

    def _make_room(self, owner: str, subject: Subject) -> None:
        """Let calls of tokens that have the most give way, where a limit is reached. Raises TooManyPending."""
        for most, whose, is_meant in (
            (MAX_PENDING_OF_TOKEN, f" of token {subject.token}", lambda one: one.owner == owner),
            (MAX_PENDING_OF_SERVER, f" to {subject.server}", lambda one: one.server == subject.server),
            (MAX_PENDING, "", lambda _: True),
        ):
            held = [(one.owner, place) for place, one in self._waiting.items() if is_meant(one)]
            if len(held) < most:
                continue
            leaving = gives_way(held, owner)
            if leaving is None:
                raise TooManyPending(f"{most} calls{whose} wait for approval already")
            answer = self._waiting.pop(leaving).answer
            if not answer.done():
                answer.set_result(None)

    async def decide(
        self, approval: Approval, *, approve: bool, always: bool, actor: Actor, now: tuple[str, str]
    ) -> Approval:
        """Approve or deny one call, or with `always` the tool. `now` holds the present digests of tool and policy.

        If these differ from what the approver saw, the call ends as interrupted. Raises Problem then, and if the
        approval is settled already; StorageFailed.
        """
        approval_id = approval.id
        if always and approval.kind != "tool":
            raise Problem("invalid-parameter", "always: only tools have overrides", parameter="always")
        rule = (
            (approval.server, approval.name, Decision.ALLOW if approve else Decision.DENY) if always else None
        )
        if approve and approval.state == "pending" and approval.bound_to != now:
            await self._settle(approval_id, "interrupted", actor)
            what = "tool" if approval.definition_sha256 != now[0] else "policy"
            raise Problem(
                "not-pending",
                f"approval {approval_id}: the {what} changed after the approval was requested; the call has ended",
                state="interrupted",
            )
        state: State = "approved" if approve else "denied"
        _, won = await self._settle(
            approval_id, state, actor, rule=rule, fingerprint=approval.definition_sha256 or None
        )
        if not won:
            approval = await self.get(approval_id)
            raise Problem(
                "not-pending", f"approval {approval_id} is {approval.state} already", state=approval.state
            )
        return await self.get(approval_id)

    async def get(self, approval_id: str) -> Approval:
        """Find one. Raises Problem, StorageFailed."""
        row = await self._storage.read(
            lambda db: db.execute("SELECT * FROM mcp_approvals WHERE id = ?", (approval_id,)).fetchone()
        )
        if row is None:
            raise not_found("approval", approval_id)
        return Approval.of(row)

    async def list(
        self, *, state: State | None = None, limit: int = 100
    ) -> tuple[tuple[Approval, ...], bool]:
        """List the newest, and tell whether there are more. Raises StorageFailed."""

        def read(db: sqlite3.Connection) -> tuple[tuple[Approval, ...], bool]:
            found: list[Approval] = []
            chars = 0
            for row in db.execute(
                "SELECT * FROM mcp_approvals WHERE ? IS NULL OR state = ? ORDER BY created_ms DESC, id LIMIT ?",
                (state, state, limit + 1),
            ):
                chars += len(row["preview"] or "") + len(row["definition"] or "")
                if len(found) == limit or (found and chars > MAX_LIST_CHARS):
                    return tuple(found), True
                found.append(Approval.of(row))
            return tuple(found), False

        return await self._storage.read(read)

    def shown(self, approval: Approval) -> dict[str, Any]:
        """Return the fields of the API as of now."""
        return approval.to_json(self._clock_ms())

    def close(self) -> None:
        """End every waiting call, at shutdown."""
        self.is_closing = True
        for one in self._waiting.values():
            if not one.answer.done():
                one.answer.set_result("interrupted")
        self._waiting.clear()

    async def _insert(self, approval_id: str, ask: ApprovalRequest, actor: Actor) -> None:
        now_ms = self._clock_ms()
        subject = ask.subject

        def insert(db: sqlite3.Connection) -> Entry:
            # Settled approvals expire as operations do; the audit keeps the decisions.
            db.execute(
                "DELETE FROM mcp_approvals WHERE state != 'pending' AND created_ms <= max(?, coalesce((SELECT"
                " created_ms FROM mcp_approvals ORDER BY created_ms DESC LIMIT 1 OFFSET ?), 0))",
                (now_ms - KEPT_MS - 1, MAX_SETTLED),
            )
            db.execute(
                "INSERT INTO mcp_approvals VALUES"
                " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', NULL, NULL, 0, ?, ?, ?)",
                (
                    approval_id,
                    subject.server,
                    subject.kind,
                    subject.name[:MAX_SUBJECT],
                    subject.token,
                    ask.rule,
                    ask.reason,
                    ask.preview,
                    ask.digest,
                    now_ms,
                    now_ms + int(ask.timeout_s * 1000),
                    ask.definition or None,
                    *ask.bound_to,
                ),
            )
            detail = {
                "rule": ask.rule,
                "arguments_digest": ask.digest,
                "definition_sha256": ask.definition_sha256,
                "policy_sha256": ask.policy_sha256,
            }
            return self._audit.append(
                db,
                "event",
                actor=actor,
                action="mcp.ask",
                subject=f"{subject.server}/{subject.name}"[:MAX_SUBJECT],
                operation=approval_id,
                detail=detail,
            )

        self._audit.published(await self._storage.write(insert))

    async def _settle(
        self,
        approval_id: str,
        state: State,
        actor: Actor,
        *,
        rule: tuple[str, str, Decision] | None = None,
        fingerprint: str | None = None,
    ) -> tuple[State, bool]:
        """Settle a pending approval; return its state, and whether this call settled it."""

        def settle(db: sqlite3.Connection) -> tuple[State, Entry | None, Callable[[], None] | None]:
            row = db.execute("SELECT * FROM mcp_approvals WHERE id = ?", (approval_id,)).fetchone()
            if row is None:
                return state, None, None
            if row["state"] != "pending":
                return row["state"], None, None
            db.execute(
                "UPDATE mcp_approvals SET state = ?, decided_by = ?, decided_ms = ?, standing = ?,"
                " definition = NULL, preview = CASE WHEN ? THEN substr(preview, 1, ?) END WHERE id = ?",
                (
                    state,
                    actor.person or actor.name,
                    self._clock_ms(),
                    int(rule is not None),
                    int(self.keep_preview),
                    MAX_SETTLED_PREVIEW,
                    approval_id,
                ),
            )
            committed = (
                self._policy_store.write_override(db, actor, rule, fingerprint) if rule is not None else None
            )
            entry = self._audit.append(
                db,
                "event",
                actor=actor,
                action=f"mcp.{state}",
                subject=f"{row['server']}/{row['name']}"[:MAX_SUBJECT],
                operation=approval_id,
                detail={"always": rule is not None},
            )
            return state, entry, committed

        ended, entry, committed = await self._storage.write(settle)
        if entry is not None:
            self._audit.published(entry)
            self._metrics.count(rows.APPROVALS, ended)
        if committed is not None:
            committed()
        waiting = self._waiting.get(approval_id)
        if waiting is not None and not waiting.answer.done():
            waiting.answer.set_result(ended)
        return ended, entry is not None

    def _ended(self, tail: asyncio.Future[tuple[State, bool]]) -> None:
        self._tails.discard(tail)
        if not tail.cancelled() and (error := tail.exception()) is not None:
            log.error("approval outcome not written", extra={"problem": str(error)})

    def _count_pending(self) -> None:
        self._metrics.set(rows.APPROVALS_PENDING, len(self._waiting))
