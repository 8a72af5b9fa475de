"""Routes about several daemons at once: commands for a selection of them, and groups that are kept as desired.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from actions.api.authentication import Bearer
from actions.api.command_routes import requested_load, same_fields
from actions.api.desired import change, wanted
from actions.api.requests import (
    GroupDesired,
    GroupDesiredChange,
    GroupDownloadParameters,
    GroupEjectAllParameters,
    GroupEjectParameters,
    GroupLoadParameters,
    GroupProbeParameters,
    Reasoned,
    load_command,
)
from actions.api.responses import DesiredResponse, OperationResponse
from actions.api.shared import Key, require_options
from actions.auth.authenticator import Authenticator
from actions.commands.fleet import Fleet, submit_all
from actions.domain.actor import Actor, Scope
from actions.domain.command import Command, Download, Eject, EjectAll, Probe
from actions.domain.errors import Problem
from actions.domain.fleet import Goal, selected
from actions.store.database import StorageFailed
from actions.store.fleet_state import Group
from actions.store.operations import Operation


class GroupResult(BaseModel):
    """What came of a command on one daemon: an operation, or the problem that refused it."""

    daemon: str
    operation: OperationResponse | None
    problem: dict[str, Any] | None


class GroupResponse(BaseModel):
    """A command on several daemons. What one refuses does not stop the others."""

    group: str = Field(description="In the parameters of each operation, and in the audit.")
    done: int
    failed: int = Field(description="Refused, failed or cancelled.")
    running: int
    results: list[GroupResult]


class GroupChangeResult(BaseModel):
    """What is desired of one daemon after a change, or the problem that refused it."""

    daemon: str
    desired: DesiredResponse | None
    problem: dict[str, Any] | None


class GroupChangeResponse(BaseModel):
    """A change of what is desired of several daemons. What one refuses does not stop the others."""

    done: int
    failed: int
    results: list[GroupChangeResult]


class GroupDesiredResponse(BaseModel):
    """A group, and what would be done next for it."""

    group: dict[str, Any] | None = Field(
        description="Parameters of the load, goal and daemons; null when removed."
    )
    plan: dict[str, Any] | None = Field(description="Next steps, serving, missing, and why daemons wait.")
    problem: str | None = Field(default=None, description="Why there is no plan.")


class GroupsDesiredResponse(BaseModel):
    """All groups."""

    groups: list[GroupDesiredResponse]


def add_routes(router: APIRouter, fleet: Fleet, authenticator: Authenticator) -> None:
    """Add them to a router."""
    _add_commands(router, fleet, authenticator)
    _add_pin(router, fleet, authenticator)
    _add_groups(router, fleet, authenticator)


def _add_commands(router: APIRouter, fleet: Fleet, authenticator: Authenticator) -> None:
    actor_of = Annotated[Actor, Depends(Bearer(authenticator, Scope.OPERATE))]

    async def run(
        actor: Actor, query: Any, make: Callable[[str, Any], Command], response: Response, key: str | None
    ) -> GroupResponse:
        names = selected(fleet.sites, daemons=query.daemon, site=query.site)
        commands = [make(name, query) for name in names]
        first = commands[0]
        if not actor.scope.includes(first.needs):  # one refusal, not one for each daemon
            await authenticator.require(actor, first.needs, action=first.ACTION, subject=first.subject)
        if first.IS_RATE_LIMITED:
            authenticator.slow_down(actor)
        group, outcomes = await submit_all(fleet.service, actor, commands, key=key)
        if query.wait > 0 and authenticator.waits.take(actor.owner):
            try:
                await _ended(outcomes, query.wait)
            finally:
                authenticator.waits.give_back(actor.owner)
        answer = _answer(group, names, outcomes)
        response.status_code = HTTPStatus.ACCEPTED if answer.running else HTTPStatus.OK
        return answer

    def add(
        verb: str, description: str, parameters: type[Reasoned], make: Callable[[str, Any], Command]
    ) -> None:
        @router.post(f"/fleet/{verb}", description=description, tags=["fleet"])
        async def of_group(
            actor: actor_of,
            query: Annotated[parameters, Query()],  # type: ignore[valid-type]
            response: Response,
            key: Key = None,
        ) -> GroupResponse:
            return await run(actor, query, make, response, key)

    add("load", "Load a model on several daemons, where it fits.", GroupLoadParameters, requested_load)
    for verb, description, parameters, kind in _COMMANDS:
        add(verb, description, parameters, same_fields(kind, parameters))


_COMMANDS: Final[tuple[tuple[str, str, type[Reasoned], type[Command]], ...]] = (
    ("eject", "Eject an instance from several daemons.", GroupEjectParameters, Eject),
    ("eject-all", "Eject everything on several daemons, busy or not.", GroupEjectAllParameters, EjectAll),
    ("download", "Download a model on several daemons.", GroupDownloadParameters, Download),
    ("probe", "Send one short chat to a model on each of several daemons, and time it.", GroupProbeParameters, Probe),
)  # fmt: skip


def _add_pin(router: APIRouter, fleet: Fleet, authenticator: Authenticator) -> None:
    actor_of = Annotated[Actor, Depends(Bearer(authenticator, Scope.OPERATE))]

    @router.post("/fleet/pin", tags=["fleet"])
    async def pin(actor: actor_of, query: Annotated[GroupDesiredChange, Query()]) -> GroupChangeResponse:
        """Pin or unpin one instance on several daemons, or set when they eject what is idle."""
        names = selected(fleet.sites, daemons=query.daemon, site=query.site)
        await authenticator.require(actor, Scope.OPERATE, action="desired", subject=names[0])
        loads = {name: wanted(name, query) for name in names}
        await require_options(authenticator, actor, filter(None, loads.values()), action="desired")
        results = []
        for name, load in loads.items():
            try:
                state = await change(fleet.service, actor, name, query, load)
                results.append(GroupChangeResult(daemon=name, desired=state, problem=None))
            except Problem as problem:
                results.append(GroupChangeResult(daemon=name, desired=None, problem=problem.body()))
        failed = sum(one.desired is None for one in results)
        return GroupChangeResponse(done=len(results) - failed, failed=failed, results=results)


def _add_groups(router: APIRouter, fleet: Fleet, authenticator: Authenticator) -> None:
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]
    operator_of = Annotated[Actor, Depends(Bearer(authenticator, Scope.OPERATE))]

    @router.get("/fleet/desired", tags=["fleet"])
    async def desired(_actor: actor_of) -> GroupsDesiredResponse:
        """List the groups, and what would be done next for each."""
        groups = await fleet.store.all()
        return GroupsDesiredResponse(
            groups=[await _described(fleet, group, fleet.max_age_s) for group in groups]
        )

    @router.post("/fleet/desired", tags=["fleet"])
    async def set_desired(
        actor: operator_of, query: Annotated[GroupDesired, Query()]
    ) -> GroupDesiredResponse:
        """Set or remove a group, or with `dry_run` only plan it."""
        await authenticator.require(
            actor, Scope.READ if query.dry_run else Scope.OPERATE, action="fleet", subject=query.name
        )
        try:
            if query.at_least == 0:
                if not query.dry_run:
                    await fleet.store.remove(actor, query.name)
                return GroupDesiredResponse(group=None, plan=None)
            group = Group(
                query.name,
                load_command("", query),
                Goal(query.at_least, query.wave),
                tuple(query.daemon),
                query.site,
            )
            await require_options(authenticator, actor, [group.load], action="fleet")
            selected(fleet.sites, daemons=group.daemons, site=group.site)
            if not query.dry_run:
                await fleet.store.put(actor, group)
        except StorageFailed as error:
            raise fleet.service.unrecordable(error) from error
        return await _described(fleet, group, 0.0)


async def _ended(outcomes: Sequence[Operation | Problem], wait_s: float) -> None:
    """Wait for the end of every operation, at most so long."""
    waiting = [asyncio.create_task(one.done.wait()) for one in outcomes if isinstance(one, Operation)]
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=wait_s)
        for task in late:
            task.cancel()


def _answer(group: str, names: Sequence[str], outcomes: Sequence[Operation | Problem]) -> GroupResponse:
    results = [
        GroupResult(daemon=name, operation=OperationResponse.of(outcome), problem=_problem_of(outcome))
        if isinstance(outcome, Operation)
        else GroupResult(daemon=name, operation=None, problem=outcome.body())
        for name, outcome in zip(names, outcomes, strict=True)
    ]
    running = sum(isinstance(one, Operation) and not one.is_finished for one in outcomes)
    done = sum(isinstance(one, Operation) and one.state == "done" for one in outcomes)
    return GroupResponse(
        group=group, done=done, failed=len(outcomes) - done - running, running=running, results=results
    )


def _problem_of(operation: Operation) -> dict[str, object] | None:
    """Give the problem of an operation that did not come to a good end."""
    return dict(operation.problem) if operation.problem is not None else None


async def _described(fleet: Fleet, group: Group, max_age_s: float) -> GroupDesiredResponse:
    try:
        planned = await fleet.planned(group, max_age_s=max_age_s)
    except Problem as problem:  # its daemons are not configured any more
        return GroupDesiredResponse(group=group.to_json(), plan=None, problem=problem.detail)
    return GroupDesiredResponse(group=group.to_json(), plan=planned.to_json())
