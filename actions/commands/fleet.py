"""Commands for several daemons at once, and groups kept as desired: one operation per daemon, one group id.

It reads shared snapshots and submits ordinary commands, each decided and audited by
itself. What one daemon refuses is a part of the result.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from actions.commands.daemon_session import DaemonSession, in_hand
from actions.commands.retries import Retries
from actions.commands.service import Service
from actions.domain.actor import Actor, Scope
from actions.domain.command import Command, Load
from actions.domain.errors import Problem
from actions.domain.fleet import FleetPlan, Has, Member, plan, selected
from actions.domain.timeouts import Timeouts
from actions.store.database import StorageFailed
from actions.store.fleet_state import Group
from actions.store.operations import Operation
from exporter.catalogue import actions as rows

log = logging.getLogger(__name__)

FLEET: Final = Actor("fleet", Scope.ADMIN)
"""Who loads for a group; what is desired was allowed when it was set."""
_BUSY: Final = "instance-busy"
"""No failure: a request came before the idle instance of another configuration could be replaced."""
_AT_ONCE: Final = 32
"""Daemons that are read or told something at the same time."""


async def submit_all(
    service: Service, actor: Actor, commands: Sequence[Command], *, key: str | None
) -> tuple[str, list[Operation | Problem]]:
    """Submit one command per daemon under one group id; a refusal takes its place in the result.

    With an Idempotency-Key the group id is the same again, and so is each operation.
    """
    group = hashlib.sha256(f"{actor.owner}/{key}".encode()).hexdigest()[:20] if key else secrets.token_hex(10)
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(command: Command) -> Operation | Problem:
        async with room:
            try:
                return await service.submit(
                    actor,
                    dataclasses.replace(command, group=group),
                    key=f"{key}/{command.daemon}" if key else None,
                )
            except Problem as problem:
                return problem

    return group, list(await asyncio.gather(*map(one, commands)))


class Fleet:
    """The groups of a service. `run()` keeps them as desired."""

    def __init__(self, service: Service, timeouts: Timeouts) -> None:
        self.service = service
        self.store = service.fleet
        self.max_age_s = min(timeouts.tick_s, 5.0) / 2
        """A quiet pass reads nothing newer; before something is begun, everything is read anew."""
        self._tick_s = timeouts.tick_s
        self._retries = Retries(timeouts)
        self._loading: dict[tuple[str, str], Operation] = {}
        """The reconciler's loads in progress, by group and daemon."""
        self._reported: set[str] = set()
        """Groups with a series of GROUP_MISSING."""

    @property
    def sites(self) -> Mapping[str, str]:
        """The site of each daemon."""
        return {name: daemon.site for name, daemon in self.service.daemons.items()}

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            try:
                await self.tick()
            except StorageFailed as error:
                self.service.unrecordable(error)
            await asyncio.sleep(self._tick_s)

    async def tick(self) -> None:
        """Plan every group once and begin its steps. Raises StorageFailed."""
        missing: dict[str, int] = {}
        for group in await self.store.all():
            try:
                planned = await self.planned(group, max_age_s=self.max_age_s)
                if planned.steps:  # what ended since may be in no shared snapshot yet
                    planned = await self.planned(group)
            except Problem as problem:
                log.warning("group not planned", extra={"group": group.name, "problem": problem.detail})
                continue
            missing[group.name] = max(0, group.goal.at_least - planned.serving)
            for step in planned.steps:
                await self._load(group, step.daemon, replaces=step.replaces)
        self._report(missing)

    def _report(self, missing: Mapping[str, int]) -> None:
        for gone in self._reported - missing.keys():
            self.service.metrics.set(rows.GROUP_MISSING, None, gone)
        for name, count in missing.items():
            self.service.metrics.set(rows.GROUP_MISSING, count, name)
        self._reported = set(missing)

    async def planned(self, group: Group, *, max_age_s: float = 0.0) -> FleetPlan:
        """Read the daemons of a group and plan, without doing anything. Raises Problem when it selects none."""
        names = selected(self.sites, daemons=group.daemons, site=group.site)
        room = asyncio.Semaphore(_AT_ONCE)

        async def look(name: str) -> Member:
            async with room:
                return await self._member(group, self.service.daemons[name], max_age_s)

        return plan(group.goal, await asyncio.gather(*map(look, names)))

    async def _member(self, group: Group, daemon: DaemonSession, max_age_s: float) -> Member:
        """Describe a daemon. Configurations are compared by what the shared snapshot holds, without a call."""
        known = Member(
            daemon.name,
            daemon.site,
            failed_lately=not self._retries.may_try(self._settled(group, daemon.name)),
            is_suspended=daemon.name in group.suspended,
        )
        try:
            snapshot = await daemon.snapshot(max_age_s=max_age_s)
        except Problem:
            return dataclasses.replace(known, is_up=False)
        if snapshot.unreadable_instances:
            return dataclasses.replace(known, is_up=False)
        found = next((one for one in snapshot.instances if one.info.identifier == group.instance_id), None)
        has = Has.NONE
        if self._is_loading(group, daemon.name):
            has = Has.LOADING
        elif found is not None:
            config = found.config.fields if found.config is not None else None
            differs = config is not None and group.load.compared(found.info, config).different
            has = Has.OTHER if differs else Has.WANTED
        return dataclasses.replace(
            known,
            has=has,
            is_busy=found is not None and (found.processing is None or in_hand(found.processing) > 0),
            loaded=len(snapshot.instances) - (found is not None),
        )

    def _settled(self, group: Group, daemon: str) -> tuple[str, str]:
        """Learn from a load that has ended; return the name under which its failures are kept."""
        place = group.name, daemon
        operation = self._loading.get(place)
        if operation is not None and operation.is_finished:
            del self._loading[place]
            if operation.state == "done":
                self._retries.succeeded(place)
            elif not str((operation.problem or {}).get("type", "")).endswith(_BUSY):
                self._retries.failed(place)
        return place

    def _is_loading(self, group: Group, daemon: str) -> bool:
        """Whether a load of this instance is in progress, of the group or of another actor."""
        return any(
            isinstance(operation.command, Load)
            and operation.command.daemon == daemon
            and group.instance_id in {operation.command.instance_id, operation.command.model}
            for operation in self.service.operations.live.values()
        )

    async def _load(self, group: Group, daemon: str, *, replaces: bool) -> None:
        place = group.name, daemon
        load = dataclasses.replace(group.on(daemon), replace=(group.instance_id,) if replaces else ())
        try:
            self._loading[place] = await self.service.submit(
                FLEET, load, still_wanted=functools.partial(self._is_wanted, group, daemon)
            )
        except Problem as problem:
            if problem.slug != _BUSY:
                self._retries.failed(place)
            log.warning(
                "instance of a group cannot be loaded",
                extra={"group": group.name, "daemon": daemon, "problem": problem.detail},
            )

    async def _is_wanted(self, group: Group, daemon: str) -> bool:
        now = next((one for one in await self.store.all() if one.name == group.name), None)
        return now is not None and daemon not in now.suspended
