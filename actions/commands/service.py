"""The order of things: command, decision, intent on disk, daemon, outcome on disk, metric.

Knows no HTTP. Whatever cannot be put on record is not done (StorageFailed becomes 503); what was left without an
outcome by a former process is resolved by looking at the daemon.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from actions.capacity.load_history import Experience
from actions.commands.daemon_session import SNAPSHOT_MAX_AGE_S, Cancelled, Controlled, find, in_hand
from actions.commands.download_probe import Transfers
from actions.commands.load_eject import Runner, already_loaded, described
from actions.domain.actor import RECOVERY, Actor
from actions.domain.command import Command, Download, Eject, EjectAll, Load, Probe
from actions.domain.errors import Problem, from_daemon, invalid, not_found
from actions.domain.policy import Decision, Facts, decide
from actions.domain.preflight import Preflight
from actions.domain.timeouts import Timing
from actions.metrics import Metrics
from actions.store.audit import Audit
from actions.store.database import Storage, StorageFailed
from actions.store.desired_state import DesiredStore
from actions.store.operations import Operation, Operations, State
from exporter.catalogue import actions as rows
from exporter.llmster.commands import namespace_of
from exporter.llmster.errors import LlmsterError
from exporter.llmster.state import Listing

log = logging.getLogger(__name__)

WRITING: Final = "waiting to write the outcome"

Sink = Callable[[Operation], None]
"""Hears of every finished operation, for spans. Must not raise."""


class Service:
    """Every command goes through here, a person's, the keeper's and the command line's alike."""

    def __init__(
        self,
        *,
        storage: Storage,
        audit: Audit,
        daemons: Mapping[str, Controlled],
        experience: Experience,
        desired: DesiredStore,
        metrics: Metrics,
        timing: Timing,
    ) -> None:
        self.storage = storage
        self.audit = audit
        self.daemons = daemons
        self.desired = desired
        self.metrics = metrics
        self.operations = Operations(storage, audit)
        self.sinks: list[Sink] = []
        self._timing = timing
        self._runners = {
            name: Runner(daemon, self.operations, experience, timing) for name, daemon in daemons.items()
        }
        self._transfers = {
            name: Transfers(daemon, self.operations, timing) for name, daemon in daemons.items()
        }
        self._left: list[Operation] = []
        self._group: asyncio.TaskGroup | None = None
        audit.sinks.append(lambda entry: metrics.count(rows.AUDIT_ENTRIES, entry.kind))

    async def prepare(self) -> None:
        """Take up what a former process left without an outcome, before anybody can ask. Raises StorageFailed."""
        self._left = await self.operations.unfinished()

    async def run(self) -> None:
        """Own every operation's task, so that they end with us and their bugs are ours; until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for operation in self._left:
                log.warning(
                    "an operation has no outcome; looking at the daemon",
                    extra={"operation": operation.id, "action": operation.command.ACTION},
                )
                self._spawn(operation, RECOVERY, recovered=True)
            await asyncio.Event().wait()

    def daemon(self, name: str) -> Controlled:
        """Find a daemon. Raises Problem."""
        if name not in self.daemons:
            raise not_found("daemon", name, tuple(self.daemons))
        return self.daemons[name]

    async def preflight(self, command: Load) -> Preflight:
        """Judge a load without doing it. Raises Problem."""
        daemon = self.daemon(command.daemon)
        model = await daemon.model(command.model)
        self._require_suited(command, namespace_of(model))
        verdict = await daemon.preflight(command, model=model)
        self.metrics.count(rows.PREFLIGHTS, verdict.verdict.value)
        return verdict

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
        daemon = self.daemon(command.daemon)
        try:
            if key is not None:
                earlier = await self.operations.find_by_key(actor, key, command)
                if earlier is not None:
                    return earlier
            decision = decide(actor, command, Facts())  # what needs no daemon is decided without it
            if decision.allowed:
                decision = await self._decide(actor, command, daemon)
            if not decision.allowed:
                await self._deny(actor, command, decision)
            if isinstance(command, Eject | EjectAll) and not command.is_internal:
                await self.desired.suspend(command.daemon, getattr(command, "instance_id", None))
            operation, is_new = await self.operations.begin(actor, command, key=key, rule=decision.rule)
        except StorageFailed as error:
            raise self.unrecordable(error) from error
        if is_new:
            if isinstance(command, EjectAll):
                self._cancel_others(operation)
            if still_wanted is not None and not await _holds(still_wanted):
                operation.cancel.set()
            self._spawn(operation, actor, recovered=False)
        return operation

    async def cancel(self, actor: Actor, operation: Operation) -> None:
        """Ask an operation to stop; it ends as cancelled, or as done if it was too late. Raises Problem."""
        if operation.is_finished:
            raise Problem("not-cancellable", f"operation {operation.id} is {operation.state} already")
        if isinstance(operation.command, Download):
            raise Problem("not-cancellable", "the daemon's API has no way to stop a download")
        if isinstance(operation.command, EjectAll):
            raise Problem("not-cancellable", "eject-all is the kill switch and runs to its end")
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
        """Say that nothing is done because nothing can be recorded."""
        log.error("the audit cannot be written; refusing actions", extra={"problem": str(error)})
        return Problem("audit-unavailable", f"{error}; free some space or make it writable")

    # Before -----------------------------------------------------------------------------------------------------------

    async def _decide(self, actor: Actor, command: Command, daemon: Controlled) -> Decision:
        """Decide with all that is known; a conflict with what is loaded is a denial too. Raises other Problems."""
        try:
            facts = await self._facts(daemon, command)
        except Problem as problem:
            if problem.status == HTTPStatus.CONFLICT:
                return Decision(problem.slug, problem)
            raise
        return decide(actor, command, facts)

    async def _facts(self, daemon: Controlled, command: Command) -> Facts:
        """Find out what the decision needs, and refuse what cannot be meant. Raises Problem."""
        match command:
            case Load():
                model = await daemon.model(command.model)
                self._require_suited(command, namespace_of(model))
                if await already_loaded(daemon, command, model, but_not=command.replace) is not None:
                    return Facts()
                return Facts(await self.preflight(command), await self._queued(daemon, command.replace))
            case Probe():
                model = await daemon.model(command.model)
                if namespace_of(model) != "llm":
                    raise invalid("model", command.model, "an embedding model does not chat; probe an LLM")
                snapshot = await daemon.snapshot(max_age_s=SNAPSHOT_MAX_AGE_S)
                if any(one.info.model_key == model.model_key for one in snapshot.instances):
                    return Facts()
                return Facts(await self.preflight(Load(daemon=command.daemon, model=command.model)))
            case Eject():
                snapshot = await daemon.snapshot()
                instances = tuple(one.info for one in snapshot.instances)
                if find(Listing(instances, snapshot.unreadable_instances), command.instance_id) is None:
                    known = tuple(info.identifier for info in instances)
                    raise not_found("instance", command.instance_id, known)
                return Facts()
            case _:
                await daemon.snapshot(
                    max_age_s=SNAPSHOT_MAX_AGE_S
                )  # a daemon that is down is said to be so now
                return Facts()

    async def _queued(self, daemon: Controlled, names: tuple[str, ...]) -> dict[str, int | None]:
        snapshot = await daemon.snapshot()
        states = {one.info.identifier: one.processing for one in snapshot.instances}
        for name in names:
            if name not in states:
                raise not_found("instance", name, tuple(states))
        return {name: in_hand(state) if state else None for name, state in states.items() if name in names}

    @staticmethod
    def _require_suited(command: Load, namespace: Any) -> None:
        unsuited = command.unsuited(namespace)
        if unsuited is not None:
            raise invalid(unsuited, None, "an embedding model has no such setting; leave it out")

    async def _deny(self, actor: Actor, command: Command, decision: Decision) -> None:
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

    def _cancel_others(self, switch: Operation) -> None:
        """Stop what could load something after the kill switch has looked."""
        for operation in self.operations.live.values():
            same = operation.command.daemon == switch.command.daemon
            if same and not isinstance(operation.command, EjectAll | Download):
                operation.cancel.set()

    # While and after --------------------------------------------------------------------------------------------------

    def _spawn(self, operation: Operation, actor: Actor, *, recovered: bool) -> None:
        assert self._group is not None  # noqa: S101 - run() comes first
        self._group.create_task(
            self._carry_out(operation, actor, recovered=recovered), name=f"operation {operation.id}"
        )

    async def _carry_out(self, operation: Operation, actor: Actor, *, recovered: bool) -> None:
        action = operation.command.ACTION
        self.metrics.count(rows.OPERATIONS_IN_PROGRESS, action)
        state: State = "failed"
        result: Mapping[str, Any] | None = None
        problem: Problem | None = None
        try:
            result = await (self._resolve(operation) if recovered else self._do(operation))
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
            log.exception("an operation failed by a bug of ours", extra={"operation": operation.id})
            problem = Problem("internal", "the service's log has it")
        finally:
            self.metrics.count(rows.OPERATIONS_IN_PROGRESS, action, by=-1)
        if recovered:
            result = {**(result or {}), "resolved": "by looking at the daemon after a restart of ours"}
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
                    log.error("an outcome cannot be written; trying again", extra={"problem": str(error)})  # noqa: TRY400
                operation.phase = WRITING
                await asyncio.sleep(self._timing.store_retry_s)
            else:
                break
        took_s = time.monotonic() - operation.started
        self.metrics.count(rows.ACTIONS, operation.command.ACTION, state)
        self.metrics.observe(rows.ACTION_DURATION, took_s, operation.command.ACTION)
        self._count_probe(operation)
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

    async def _do(self, operation: Operation) -> Mapping[str, Any]:
        runner = self._runners[operation.command.daemon]
        transfers = self._transfers[operation.command.daemon]
        match operation.command:
            case Load() as command:
                return await runner.load(operation, command)
            case Eject() as command:
                return await runner.eject(operation, command)
            case EjectAll() as command:
                return await runner.eject_all(operation, command)
            case Download() as command:
                return await transfers.download(operation, command)
            case Probe() as command:
                return await transfers.probe(operation, command)
            case command:
                raise TypeError(f"nothing carries out {command.ACTION}")

    async def _resolve(self, operation: Operation) -> Mapping[str, Any]:
        """Find out what became of an operation of a former process. Nothing is done again."""
        name = operation.command.daemon
        if name not in self.daemons:
            raise Problem("interrupted", f"daemon {name} is not configured any more")
        if operation.state == "pending":
            raise Problem("interrupted", "the service stopped before the daemon was told anything")
        finder = self._runners[name].finder
        match operation.command:
            case Load() as command:
                return described(await finder.loaded(operation, command, cause=None))
            case Eject() | EjectAll():
                return await finder.ejected(operation)
            case Download() as command:
                await finder.until_readable(operation)
                return await self._transfers[name].follow(operation, command)
            case _:
                raise Problem("interrupted", "the service stopped while it was probing")

    def _count_probe(self, operation: Operation) -> None:
        if not isinstance(operation.command, Probe) or operation.state != "done" or operation.result is None:
            return
        labels = (operation.command.daemon, operation.command.model)
        result = operation.result
        self.metrics.set(rows.PROBE_FIRST_TOKEN, result.get("time_to_first_token_seconds"), *labels)
        self.metrics.set(rows.PROBE_REASONING, result.get("reasoning_seconds"), *labels)
        self.metrics.set(rows.PROBE_LOAD, result.get("load_seconds"), *labels)
        self.metrics.set(rows.PROBE_TIMESTAMP, time.time(), *labels)


async def _holds(still_wanted: Callable[[], Awaitable[bool]]) -> bool:
    """Ask; what cannot be read is no yes, and must not leave behind an operation that nobody carries out."""
    try:
        return await still_wanted()
    except StorageFailed:
        return False
