"""Load a model: eject what it replaces, load, follow the progress, measure the memory it took."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from actions.capacity.load_history import measure
from actions.commands import load_plan
from actions.commands.action import Action, Result
from actions.commands.daemon_session import Cancelled
from actions.commands.recovery import LOST, noted
from actions.commands.unload import unload
from actions.domain.command import Load
from actions.domain.errors import Problem, from_daemon
from actions.domain.evidence import ESTIMATE, LISTED, PROCESS, STATE, as_ever, knows_less, refuses
from actions.domain.load_plan import LoadPlan
from actions.domain.policy import Facts
from actions.domain.preflight import MemoryReading
from actions.store.database import StorageFailed
from actions.store.operations import Operation
from exporter.catalogue import actions as rows
from exporter.llmster.commands import load_namespace_of
from exporter.llmster.errors import CallFailed, LlmsterError
from exporter.llmster.state import InstanceInfo

log = logging.getLogger(__name__)

IS_LOADED: Final = "the model is loaded"


class LoadAction(Action[Load]):
    """Loads. One load costs the daemon 6 calls and those of what it replaces."""

    COMMAND = Load
    EVIDENCE = (
        refuses("daemon-unreadable", "listLoaded", *LISTED),
        refuses("instance-exists", "listLoaded", "contextLength", when=IS_LOADED),
        refuses("daemon-unreadable", "getLoadConfig", "fields", "fields.key", when=IS_LOADED),
        refuses("instance-exists", "getLoadConfig", "fields.value", when=IS_LOADED),
        as_ever("listLoaded", "path", when=IS_LOADED),
        as_ever("info", *PROCESS, when=IS_LOADED),
        as_ever("estimateModelUsage", *ESTIMATE, "memory.confidence", when=IS_LOADED),
        refuses("daemon-unreadable", "getInstanceProcessingState", *STATE, when="it replaces"),
        *load_plan.EVIDENCE,
        as_ever("loadModel", "type", "info", *(f"info.{path}" for path in LISTED)),
        knows_less("loadModel", "info.ttlMs", "info.contextLength"),
    )

    async def facts(self, command: Load) -> Facts:
        """Build the plan."""
        plan = await load_plan.build(self.daemon, command)
        if plan.preflight is not None:
            self.tools.metrics.count(rows.PREFLIGHTS, plan.preflight.verdict.value)
        return Facts(plan.preflight, plan.queued, plan)

    async def run(self, operation: Operation, command: Load, facts: Facts) -> Result:
        """Load, unless it is loaded already as asked."""
        operation.phase = "waiting for its turn"
        async with self.daemon.turn(operation.cancel):
            started = time.monotonic()
            operation.phase = "checking memory"
            first = facts.plan or await load_plan.build(self.daemon, command)
            plan = await load_plan.refresh(self.daemon, first)
            if plan.existing is not None or plan.preflight is None:
                return {**described(plan.existing), "already_loaded": True} if plan.existing else {}
            plan.require_room()
            await self.tools.operations.start(operation, self._before(plan))
            replaced = [await self._replace(operation, plan, name) for name in command.replace]
            info = await self._load(operation, plan)
            return {
                **described(info),
                "already_loaded": False,
                "replaced": [name for name in replaced if name],
                "took_seconds": round(time.monotonic() - started, 3),
                "preflight": plan.preflight.to_json(),
            }

    async def recover(self, operation: Operation, command: Load) -> Result:
        """Look for the new instance."""
        return described(await self.tools.recovery.loaded(operation, command, cause=None))

    def _before(self, plan: LoadPlan) -> dict[str, Any]:
        """Note what recovery needs: the instance references, and the daemon's pid."""
        return {
            "pid": self.daemon.process_id(),
            "references": noted(plan.instances),
        }

    async def _replace(self, operation: Operation, plan: LoadPlan, name: str) -> str | None:
        """Eject one instance to make room; None when it is already gone."""
        target = next((info for info in plan.instances if info.identifier == name), None)
        if target is None:
            return None
        queued = await self.daemon.queued(target)
        if queued and not plan.command.force:
            raise Problem(
                "instance-busy",
                f"{name} has {queued} requests in flight by now",
                instance_id=name,
                queued=queued,
            )
        operation.phase = f"ejecting {name}"
        await unload(self.tools, target)
        return name

    async def _load(self, operation: Operation, plan: LoadPlan) -> InstanceInfo:
        command, model = plan.command, plan.model
        kept = tuple(info for info in plan.instances if info.identifier not in command.replace)
        memory = await self.daemon.memory(kept, model)
        operation.phase, operation.progress = "loading", 0.0

        def progressed(share: float) -> None:
            operation.progress = share

        try:
            info = await self.daemon.commands.load(
                command.request(load_namespace_of(model), model.device_identifier),
                on_progress=progressed,
                cancel=operation.cancel,
                timeout_s=self.tools.timeouts.load_s,
                cancel_timeout_s=self.tools.timeouts.cancel_s,
            )
        except (TimeoutError, CallFailed, *LOST) as error:
            info = await self._looked_up(operation, command, error)
        except LlmsterError as error:
            raise from_daemon(error, daemon=self.daemon.name) from error
        else:
            info = info or await self.tools.recovery.given_up(operation, command, is_confirmed=True)
        if info is None:
            raise Cancelled
        await self._learn(plan, info, kept, memory)
        return info

    async def _looked_up(
        self, operation: Operation, command: Load, error: LlmsterError | TimeoutError
    ) -> InstanceInfo | None:
        """Look what became of a load that did not end with success; None where it was cancelled and given up.

        After a cancel, an error, a closed channel and silence alike leave open what the daemon does.
        """
        is_refused = isinstance(error, CallFailed)
        if isinstance(error, TimeoutError):
            found = await self.tools.recovery.given_up(operation, command, is_confirmed=False)
            if found is None and not operation.cancel.is_set():
                limit_s = self.tools.timeouts.load_s
                raise Problem("timeout", f"{command.model} was not loaded within {limit_s:g} s")
            return found
        if operation.cancel.is_set():
            return await self.tools.recovery.given_up(operation, command, is_confirmed=is_refused)
        if is_refused:
            raise from_daemon(error, daemon=self.daemon.name) from error
        operation.phase = "recovering"
        return await self.tools.recovery.loaded(operation, command, cause=error)

    async def _learn(
        self,
        plan: LoadPlan,
        info: InstanceInfo,
        kept: tuple[InstanceInfo, ...],
        before: MemoryReading | str,
    ) -> None:
        """Store the measured memory, where one new process was found."""
        try:
            after = await self.daemon.memory((*kept, info), plan.model)
        except Problem:
            return
        estimate = plan.preflight.estimate if plan.preflight is not None else None
        if isinstance(before, str) or isinstance(after, str) or estimate is None:
            return
        measured = measure(before, after)
        if measured is None:
            return
        try:
            await self.daemon.history.remember(
                daemon=self.daemon.name,
                model=plan.model.model_key,
                instance_reference=info.instance_reference,
                estimated_bytes=estimate.vram_bytes,
                measured=measured,
            )
        except StorageFailed as error:  # the load is done all the same; its outcome is what must be written
            log.warning("load measurement lost", extra={"problem": str(error)})


def described(info: InstanceInfo) -> dict[str, Any]:
    """Describe an instance in a result."""
    return {
        "instance_id": info.identifier,
        "instance_reference": info.instance_reference,
        "model": info.model_key,
        "context_length": info.context_length,
        "ttl_seconds": info.ttl_ms / 1000 if info.ttl_ms is not None else None,
    }
