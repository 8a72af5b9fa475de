"""Routes about the desired state: the pinned instances, and the idle time after which others are ejected.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from actions.api.authentication import Bearer
from actions.api.requests import DesiredChange, DesiredSet, load_command
from actions.api.responses import DesiredResponse
from actions.api.shared import Daemon, require_options
from actions.auth.authenticator import Authenticator
from actions.commands.service import Service
from actions.domain.actor import Actor, Scope
from actions.domain.command import Load
from actions.domain.errors import invalid
from actions.store.database import StorageFailed


def add_routes(router: APIRouter, service: Service, authenticator: Authenticator) -> None:
    """Add them to a router."""
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]
    operator_of = Annotated[Actor, Depends(Bearer(authenticator, Scope.OPERATE))]

    path = "/daemons/{daemon}/desired"

    @router.get(path, tags=["desired"])
    async def get_desired(_actor: actor_of, daemon: Daemon) -> DesiredResponse:
        """Return the pinned instances."""
        service.daemon(daemon)
        return DesiredResponse.of(daemon, await service.desired.get(daemon))

    @router.put(path, tags=["desired"])
    async def put_desired(actor: operator_of, daemon: Daemon, body: DesiredSet) -> DesiredResponse:
        """Replace the pinned instances."""
        await authenticator.require(actor, Scope.OPERATE, action="desired", subject=daemon)
        service.daemon(daemon)
        loads = [load_command(daemon, one) for one in body.instances]
        await require_options(authenticator, actor, loads, action="desired")
        try:
            state = await service.desired.replace(
                actor, daemon, loads, reap_idle_seconds=body.reap_idle_seconds
            )
        except StorageFailed as error:
            raise service.unrecordable(error) from error
        return DesiredResponse.of(daemon, state)

    @router.post(path, tags=["desired"])
    async def change_desired(
        actor: operator_of,
        daemon: Daemon,
        query: Annotated[DesiredChange, Query()],
    ) -> DesiredResponse:
        """Pin or unpin one instance."""
        await authenticator.require(actor, Scope.OPERATE, action="desired", subject=daemon)
        service.daemon(daemon)
        add = wanted(daemon, query)
        await require_options(authenticator, actor, [add] if add is not None else [], action="desired")
        return await change(service, actor, daemon, query, add)


def wanted(daemon: str, query: DesiredChange) -> Load | None:
    """Make the load that a change adds, if it adds one. Raises Problem when it changes nothing."""
    named = query.instance_id or query.model
    if named is None and query.reap_idle_seconds is None:
        raise invalid(
            "model", None, "give model to pin an instance, or instance_id with pinned=false to unpin one"
        )
    return load_command(daemon, query) if query.pinned and named is not None else None


async def change(
    service: Service, actor: Actor, daemon: str, query: DesiredChange, add: Load | None
) -> DesiredResponse:
    """Change what is desired of one daemon. Raises Problem."""
    try:
        state = await service.desired.change(
            actor,
            daemon,
            add=add,
            remove=None if query.pinned else query.instance_id or query.model,
            reap_idle_seconds=query.reap_idle_seconds,
        )
    except StorageFailed as error:
        raise service.unrecordable(error) from error
    return DesiredResponse.of(daemon, state)
