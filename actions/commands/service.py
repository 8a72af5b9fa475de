"""Runs commands in this order: decision, intent on disk, daemon, outcome on disk, metric.

Does not depend on HTTP. What cannot be recorded is not done (StorageFailed becomes 503). Operations that a former
process left without an outcome are resolved by reading the daemon.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final

from actions.commands import load_plan
from actions.commands.action import Action, Result, Tools
from actions.commands.daemon_session import Cancelled, DaemonSession
from actions.commands.fit import Fit
from actions.commands.recovery import Recovery
from actions.commands.registry import actions_of
from actions.domain.actor import RECOVERY, Actor
from actions.domain.command import Command, Eject, EjectAll, Load
from actions.domain.errors import Problem, from_daemon, not_found, unrecordable
from actions.domain.policy import CommandDecision, Facts, decide
from actions.domain.preflight import Preflight
from actions.domain.timeouts import Timeouts
from actions.metrics import Metrics
from actions.store.audit import Audit
from actions.store.chain import fingerprint
from actions.store.database import Storage, StorageFailed
from actions.store.desired_state import DesiredStore
from actions.store.fleet_state import FleetStore
from actions.store.operations import Operation, Operations, State
from exporter.catalogue import actions as rows
from exporter.llmster.errors import LlmsterError

log = logging.getLogger(__name__)

WRITING: Final = "waiting to write the outcome"

Sink = Callable[[Operation], None]
"""Hears of every finished operation, for spans. Must not raise."""


class Service:
    """Runs every command: of people, of the reconciler and of the command line."""

    def __init__(
        self,
        *,
        storage: Storage,
        audit: Audit,
        daemons: Mapping[str, DaemonSession],
        desired: DesiredStore,
        fleet: FleetStore,
        metrics: Metrics,
        timeouts: Timeouts,
    ) -> None:
        self.storage = storage
        self.audit = audit
        self.daemons = daemons
        self.desired = desired
        self.fleet = fleet
        self.metrics = metrics
        self.operations = Operations(storage, audit)
        self.sinks: list[Sink] = []
        self._timeouts = timeouts
        self._actions = {
            name: actions_of(
                Tools(daemon, self.operations, self._suspend, metrics, timeouts, Recovery(daemon, timeouts))
            )
            for name, daemon in daemons.items()
        }
        for name in daemons:
            for action in (Eject, EjectAll):
                metrics.count(rows.REQUESTS_ENDED, name, action.ACTION, by=0)
        self._left: list[Operation] = []
        self._group: asyncio.TaskGroup | None = None
        audit.sinks.append(lambda entry: metrics.count(rows.AUDIT_ENTRIES, entry.kind))

    async def prepare(self) -> None:
        """Read what a former process left without an outcome, before requests are served. Raises StorageFailed."""
        self._left = await self.operations.unfinished()

    async def run(self) -> None:
        """Own the task of every operation, so that they end with the service; until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for operation in self._left:
                log.warning(
                    "operation without outcome found, looking at the daemon",
                    extra={"operation": operation.id, "action": operation.command.ACTION},
                )
                self._spawn(operation, RECOVERY, self._resolve(operation), recovered=True)
            await asyncio.Event().wait()

    def daemon(self, name: str) -> DaemonSession:
        """Find a daemon. Raises Problem."""
        if name not in self.daemons:
            raise not_found("daemon", name, tuple(self.daemons))
        return self.daemons[name]

    async def measured(self) -> Metrics:
        """Give the numbers, with those that are read when they are asked for."""
        self.metrics.set(rows.AUDIT_WRITABLE, await self.storage.check_writable())
        head = self.storage.head
        self.metrics.set(rows.AUDIT_HEAD_SEQUENCE, head[0] if head else None)
        self.metrics.set(rows.AUDIT_HEAD_FINGERPRINT, fingerprint(head[1]) if head else None)
        return self.metrics

    async def kept(self, daemon: str) -> frozenset[str]:
        """Name the instances that must stay on a daemon: pinned, or wanted by a group. Raises StorageFailed."""
        pinned = {one.instance_id for one in (await self.desired.get(daemon)).instances if not one.suspended}
        return await self.fleet.kept(daemon, self.daemons[daemon].site) | pinned

    async def _suspend(self, daemon: str, instance_id: str | None) -> None:
        await self.desired.suspend(daemon, instance_id)
        await self.fleet.suspend(daemon, instance_id)

    async def preflight(self, command: Load) -> Preflight:
        """Judge a load without doing it. Raises Problem."""
        daemon = self.daemon(command.daemon)
        model = await load_plan.suited_model(daemon, command)
        listing = await daemon.instances()
        need = await daemon.estimate(command, model)
        verdict = await load_plan.judged(daemon, command, model, need, listing.read)
        self.metrics.count(rows.PREFLIGHTS, verdict.verdict.value)
        return verdict

    async def fit(self, command: Load) -> dict[str, Any]:
        """Tell which context fits now, and what would have to go for more. Raises Problem."""
        return await Fit(self.daemon(command.daemon), self.kept).answer(command)

    async def submit(
        self,
        actor: Actor,
        command: Command,
        *,
        key: str | None = None,
        still_wanted: Callable[[], Awaitable[bool]] | None = None,
    ) -> Operation:
        """Decide, put the intent on record, and begin. Raises Problem for what is denied or cannot be.

        `still_wanted` is asked once the kill switch can see the operation: what it switched off before that is known
        by then, and what it switches off later it cancels itself.
        """
        self.daemon(command.daemon)
        action = self._action(command)
        facts = Facts()
        try:
            if key is not None:
                earlier = await self.operations.find_by_key(actor, key, command)
                if earlier is not None:
                    return earlier
            decision = decide(actor, command, facts)  # what needs no daemon is decided without it
            if decision.allowed:
                decision, facts = await self._decide(actor, command, action)
            if not decision.allowed:
                await self._deny(actor, command, decision)
            await action.before_intent(command)
            operation, is_new = await self.operations.begin(actor, command, key=key, rule=decision.rule)
        except StorageFailed as error:
            raise self.unrecordable(error) from error
        if is_new:
            action.begun(operation)
            if still_wanted is not None and not await _holds(still_wanted):
                operation.cancel.set()
            self._spawn(operation, actor, action.run(operation, command, facts), recovered=False)
        return operation

    async def cancel(self, actor: Actor, operation: Operation) -> None:
        """Ask an operation to stop; it ends as cancelled, or as done if it was too late. Raises Problem."""
        if operation.is_finished:
            raise Problem("not-cancellable", f"operation {operation.id} is {operation.state} already")
        if operation.command.daemon in self._actions:
            refusal = self._action(operation.command).cancel_refusal(operation)
            if refusal is not None:
                raise Problem("not-cancellable", refusal)
        try:
            await self.audit.record(
                "event",
                actor=actor,
                action="cancel",
                subject=operation.command.subject,
                operation=operation.id,
            )
        except StorageFailed as error:
            raise self.unrecordable(error) from error
        operation.cancel.set()

    def unrecordable(self, error: StorageFailed) -> Problem:
        """Log, and say, that nothing is done because nothing can be recorded."""
        log.error("audit not writable, actions refused", extra={"problem": str(error)})
        return unrecordable(error)

    # Before -----------------------------------------------------------------------------------------------------------

    def _action(self, command: Command) -> Action[Any]:
        return self._actions[command.daemon][type(command)]

    async def _decide(
        self, actor: Actor, command: Command, action: Action[Any]
    ) -> tuple[CommandDecision, Facts]:
        """Decide with all that is known; a conflict with what is loaded is a denial too. Raises other Problems."""
        try:
            facts = await action.facts(command)
        except Problem as problem:
            if problem.status == HTTPStatus.CONFLICT:
                return CommandDecision(problem.slug, problem), Facts()
            raise
        return decide(actor, command, facts), facts

    async def _deny(self, actor: Actor, command: Command, decision: CommandDecision) -> None:
        problem = decision.problem
        if problem is None:
            return
        self.metrics.count(rows.ACTIONS, command.ACTION, "denied")
        if decision.rule == "scope":
            self.metrics.count(rows.AUTH_FAILURES, "scope")
        detail = {"rule": decision.rule, "reason": decision.reason, "parameters": command.to_json()}
        await self.audit.record(
            "denied", actor=actor, action=command.ACTION, subject=command.subject, detail=detail
        )
        raise problem

    # While and after --------------------------------------------------------------------------------------------------

    def _spawn(
        self, operation: Operation, actor: Actor, work: Coroutine[Any, Any, Result], *, recovered: bool
    ) -> None:
        assert self._group is not None  # noqa: S101 - run() comes first
        self._group.create_task(
            self._carry_out(operation, actor, work, recovered=recovered), name=f"operation {operation.id}"
        )

    async def _carry_out(
        self, operation: Operation, actor: Actor, work: Coroutine[Any, Any, Result], *, recovered: bool
    ) -> None:
        action = operation.command.ACTION
        self.metrics.count(rows.OPERATIONS_IN_PROGRESS, action)
        state: State = "failed"
        result: Mapping[str, Any] | None = None
        problem: Problem | None = None
        try:
            result = await work
            state = "done"
        except Cancelled:
            state, problem = "cancelled", Problem("cancelled", f"operation {operation.id} was cancelled")
        except Problem as error:
            problem = error
        except StorageFailed as error:
            problem = self.unrecordable(error)
        except LlmsterError as error:
            problem = from_daemon(error, daemon=operation.command.daemon)
        except Exception:
            log.exception("operation failed by an internal error", extra={"operation": operation.id})
            problem = Problem("internal", "the service's log has it")
        finally:
            self.metrics.count(rows.OPERATIONS_IN_PROGRESS, action, by=-1)
        if recovered:
            result = {**(result or {}), "resolved": "by looking at the daemon after a restart of the service"}
        await self._finish(operation, state, actor, result, problem)

    async def _finish(
        self,
        operation: Operation,
        state: State,
        actor: Actor,
        result: Mapping[str, Any] | None,
        problem: Problem | None,
    ) -> None:
        """Write the outcome, for as long as it takes: until then the operation counts as unfinished."""
        while True:
            try:
                await self.operations.finish(
                    operation,
                    state,
                    actor=actor,
                    result=result,
                    problem=problem.body() if problem is not None else None,
                )
            except StorageFailed as error:
                if operation.phase != WRITING:
                    log.error("audit write failed, retrying", extra={"problem": str(error)})  # noqa: TRY400
                operation.phase = WRITING
                await asyncio.sleep(self._timeouts.store_retry_s)
            else:
                break
        took_s = time.monotonic() - operation.started
        self.metrics.count(rows.ACTIONS, operation.command.ACTION, state)
        self.metrics.observe(rows.ACTION_DURATION, took_s, operation.command.ACTION)
        if operation.command.daemon in self._actions:
            self._action(operation.command).finished(operation)
        log.info(
            "operation ended",
            extra={
                "operation": operation.id,
                "action": operation.command.ACTION,
                "state": state,
                "problem": problem.slug if problem else "",
            },
        )
        for sink in self.sinks:
            sink(operation)

    async def _resolve(self, operation: Operation) -> Result:
        """Find out what became of an operation of a former process. Nothing is done again."""
        name = operation.command.daemon
        if name not in self.daemons:
            raise Problem("interrupted", f"daemon {name} is not configured any more")
        if operation.state == "pending":
            raise Problem("interrupted", "the service stopped before the daemon received the command")
        return await self._action(operation.command).recover(operation, operation.command)


async def _holds(still_wanted: Callable[[], Awaitable[bool]]) -> bool:
    """Ask; an error counts as no, so that no operation stays pending for ever."""
    try:
        return await still_wanted()
    except StorageFailed:
        return False
