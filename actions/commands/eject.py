"""Eject one instance: drain its queue, unload it, verify that it is gone."""

from __future__ import annotations

import time

from actions.commands.action import Action, Result
from actions.commands.daemon_session import Cancelled, find
from actions.commands.recovery import noted
from actions.commands.unload import unload
from actions.domain.command import Eject
from actions.domain.errors import not_found
from actions.domain.evidence import LISTED, STATE, refuses
from actions.domain.policy import Facts, busy
from actions.domain.timeouts import sleep_unless
from actions.store.operations import Operation
from exporter.catalogue import actions as rows
from exporter.llmster.state import InstanceInfo


class EjectAction(Action[Eject]):
    """Ejects. A drain waits outside the daemon's turn, so that it holds up nothing else."""

    COMMAND = Eject
    EVIDENCE = (
        refuses("not-verified", "listLoaded", *LISTED),
        refuses("daemon-unreadable", "getInstanceProcessingState", *STATE),
    )

    async def facts(self, command: Eject) -> Facts:
        """Find the instance and count its requests in flight."""
        listing = await self.daemon.instances()
        target = find(listing, command.instance_id)
        if target is None:
            raise not_found("instance", command.instance_id, tuple(info.identifier for info in listing.read))
        return Facts(queued={command.instance_id: await self.daemon.queued(target)})

    async def before_intent(self, command: Eject) -> None:
        """Suspend the pin of what a person ejects; the reconciler would load it again."""
        if not command.is_internal:
            await self.tools.suspend(command.daemon, command.instance_id)

    async def run(self, operation: Operation, command: Eject, _facts: Facts) -> Result:
        """Drain, unload and verify."""
        deadline = time.monotonic() + command.drain_seconds
        while True:
            target = await self._target(command)
            if target is None:
                return {"ejected": [], "gone_before": [command.instance_id]}
            await self._drain(operation, target, deadline)
            operation.phase = "waiting for its turn"
            async with self.daemon.turn(operation.cancel):
                queued = await self.daemon.queued(target)
                if queued and time.monotonic() < deadline:
                    continue  # a request came while it waited for its turn
                return await self._eject(operation, command, target, queued)

    async def recover(self, operation: Operation, _command: Eject) -> Result:
        """Check whether it is gone."""
        return await self.tools.recovery.ejected(operation)

    async def _target(self, command: Eject) -> InstanceInfo | None:
        target = find(await self.daemon.instances(), command.instance_id)
        if target is None or command.reference not in {None, target.instance_reference}:
            return None
        return target

    async def _drain(self, operation: Operation, target: InstanceInfo, deadline: float) -> None:
        """Wait until nothing is in flight, at most until the deadline. Raises Cancelled."""
        operation.phase = "draining"
        while time.monotonic() < deadline and await self.daemon.queued(target) != 0:
            await sleep_unless(operation.cancel, self.tools.timeouts.poll_s)
            if operation.cancel.is_set():
                raise Cancelled

    async def _eject(
        self, operation: Operation, command: Eject, target: InstanceInfo, queued: int | None
    ) -> Result:
        if command.only_if_idle and queued != 0:
            raise busy(target.identifier, queued)
        if queued and not command.may_end_requests:
            raise busy(target.identifier, queued)
        before = {
            "pid": self.daemon.process_id(),
            "references": noted([target]),
        }
        await self.tools.operations.start(operation, before)
        operation.phase = "ejecting"
        await unload(self.tools, target)
        if queued:
            self.tools.metrics.count(rows.REQUESTS_ENDED, command.daemon, command.ACTION, by=queued)
        return {"ejected": [target.identifier], "queued_when_ejected": queued}
