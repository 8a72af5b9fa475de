"""Eject everything, busy or not: the kill switch. Loads under way are cancelled first."""

from __future__ import annotations

import asyncio
import time

from actions.commands.action import Action, Result
from actions.commands.daemon_session import SNAPSHOT_MAX_AGE_S, unread
from actions.commands.recovery import noted
from actions.commands.unload import unload
from actions.domain.command import EjectAll
from actions.domain.errors import Problem
from actions.domain.evidence import LISTED, LOADING, STATE, knows_less, refuses
from actions.domain.policy import Facts
from actions.store.operations import Operation
from actions.store.sizes import mark
from exporter.catalogue import actions as rows
from exporter.llmster.listing import Listing
from exporter.llmster.state import InstanceInfo

COUNT_S = 1.0
"""How long the kill switch may spend on counting what it ends."""
LOOKS = 3
"""How often what is being loaded is asked for where the answer cannot be read; one is seen just as a load starts."""
OPTIONAL_S = 1.0
"""Time for an optional namespace to open, so that the kill switch sees its instances."""


class EjectAllAction(Action[EjectAll]):
    """The kill switch."""

    COMMAND = EjectAll
    EVIDENCE = (
        refuses("not-verified", "listLoaded", *LISTED),
        knows_less("getInstanceProcessingState", *STATE, when="requests are in flight"),
        knows_less("GET /api/v0/models", *LOADING),
    )

    async def facts(self, _command: EjectAll) -> Facts:
        """Say at once when the daemon is down."""
        await self.daemon.snapshot(max_age_s=SNAPSHOT_MAX_AGE_S)
        return Facts()

    async def before_intent(self, command: EjectAll) -> None:
        """Suspend every pin: a kill switch that is undone in seconds is none."""
        await self.tools.suspend(command.daemon, None)

    def begun(self, operation: Operation) -> None:
        """Cancel what could load something after the kill switch has looked."""
        for other in self.tools.operations.live.values():
            if other.command.daemon == operation.command.daemon and other.command.STOPPED_BY_KILL_SWITCH:
                other.cancel.set()

    async def run(self, operation: Operation, command: EjectAll, _facts: Facts) -> Result:
        """Unload everything now."""
        operation.phase = "ejecting"
        async with self.daemon.turn(operation.cancel, wait_s=self.tools.timeouts.kill_wait_s):
            left = await self.daemon.instances(optional_within_s=OPTIONAL_S, in_part=True)
            before = {
                "pid": self.daemon.process_id(),
                "references": noted(left.read),
            }
            await self.tools.operations.start(operation, before)
            ended = await self._in_flight(left)
            ejected, left, loading = await self._empty(left)
            self.tools.metrics.count(
                rows.REQUESTS_ENDED,
                command.daemon,
                command.ACTION,
                by=sum(ended.get(name, 0) for name in ejected),
            )
            names = [mark(info.identifier) for info in left.read]
            if not left.is_complete:
                raise Problem("not-verified", unread(left), still_loaded=names)
            if names:
                raise Problem("not-verified", f"still loaded: {', '.join(names)}", still_loaded=names)
            if loading:
                raise Problem("not-verified", f"still loading: {', '.join(loading)}", still_loading=loading)
            return {
                "ejected": sorted(ejected),
                "requests_ended": {name: count for name, count in sorted(ended.items()) if count},
                "still_loading": loading,  # None: the daemon does not tell
            }

    async def _empty(
        self, left: Listing[InstanceInfo]
    ) -> tuple[set[str], Listing[InstanceInfo], list[str] | None]:
        """Unload until nothing is listed and nothing is being loaded; return what went, what is left, what still loads.

        A load may end in between, also one of another client, or one that did not heed its cancel. What still loads is
        None where the daemon did not tell it LOOKS times in a row.
        """
        ejected: set[str] = set()
        untold = 0
        deadline = time.monotonic() + self.tools.timeouts.verify_s
        while True:
            outcomes = await asyncio.gather(
                *(unload(self.tools, info) for info in left.read), return_exceptions=True
            )
            for info, outcome in zip(left.read, outcomes, strict=True):
                if outcome is None:
                    ejected.add(info.identifier)
                elif not isinstance(outcome, Problem):
                    raise outcome
            # In this order: what ends between the two is listed.
            loading, is_told = await self._loading()
            untold = 0 if is_told else untold + 1
            left = await self.daemon.instances(in_part=True)
            is_over = not left.read and not loading and (is_told or untold >= LOOKS)
            if is_over or time.monotonic() >= deadline:
                return ejected, left, loading if loading or is_told else None
            if not left.read:
                await asyncio.sleep(self.tools.timeouts.poll_s)

    async def recover(self, operation: Operation, _command: EjectAll) -> Result:
        """Look whether anything is left, or on its way."""
        loading, is_told = await self._loading()
        found = await self.tools.recovery.ejected(operation, everything=True)
        if loading:
            raise Problem("interrupted", f"still loading: {', '.join(loading)}", still_loading=loading)
        return {**found, "still_loading": [] if is_told else None}

    async def _loading(self) -> tuple[list[str], bool]:
        """Name what the daemon is loading, and say whether it tells of everything."""
        told = await self.tools.recovery.loading(within_s=COUNT_S)
        names = sorted(mark(model) for model, is_loading in (told or {}).items() if is_loading)
        return names, told is not None and None not in told.values()

    async def _in_flight(self, listing: Listing[InstanceInfo]) -> dict[str, int]:
        """Count the requests in flight by instance, for those that answer in time."""

        async def count(info: InstanceInfo) -> tuple[str, int | None]:
            return info.identifier, await self.daemon.queued(info)

        tasks = [asyncio.create_task(count(info)) for info in listing.read]
        if not tasks:
            return {}
        done, late = await asyncio.wait(tasks, timeout=COUNT_S)
        for task in late:
            task.cancel()
        found = [task.result() for task in done if task.exception() is None]
        return {name: queued for name, queued in found if queued is not None}
