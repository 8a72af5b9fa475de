"""Routes about the desired state: what shall stay loaded, and after how much idleness the rest may go.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Response
from fastapi.responses import JSONResponse

from actions.api.authentication import Bearer
from actions.api.requests import DesiredChange, DesiredSet, load_command, merged, required
from actions.api.shared import Daemon
from actions.auth.authenticator import Authenticator
from actions.commands.service import Service
from actions.domain.actor import Actor, Scope
from actions.store.database import StorageFailed
from actions.store.desired_state import DesiredState


def add_routes(router: APIRouter, service: Service, authenticator: Authenticator) -> None:
    """Add them to a router."""
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]

    path = "/daemons/{daemon}/desired"

    @router.get(path, tags=["desired"])
    async def get_desired(_actor: actor_of, daemon: Daemon) -> Response:
        """Tell what shall stay loaded."""
        service.daemon(daemon)
        return _desired(daemon, await service.desired.get(daemon))

    @router.put(path, tags=["desired"])
    async def put_desired(actor: actor_of, daemon: Daemon, body: DesiredSet) -> Response:
        """Say all that shall stay loaded."""
        service.daemon(daemon)
        await authenticator.require(actor, Scope.OPERATE, action="desired", subject=daemon)
        loads = [load_command(daemon, one) for one in body.instances]
        try:
            state = await service.desired.replace(
                actor, daemon, loads, reap_idle_seconds=body.reap_idle_seconds
            )
        except StorageFailed as error:
            raise service.unrecordable(error) from error
        return _desired(daemon, state)

    @router.post(path, tags=["desired"])
    async def change_desired(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[DesiredChange, Query()],
        body: Annotated[DesiredChange | None, Body()] = None,
    ) -> Response:
        """Say whether one instance shall stay loaded."""
        service.daemon(daemon)
        await authenticator.require(actor, Scope.OPERATE, action="desired", subject=daemon)
        given = merged(query, body)
        named = given.instance_id or given.model
        if named is None and given.reap_idle_seconds is None:
            required(given, "model")
        add = load_command(daemon, given) if given.pinned and given.model is not None else None
        if given.pinned and named is not None and add is None:
            required(given, "model")
        try:
            state = await service.desired.change(
                actor,
                daemon,
                add=add,
                remove=named if not given.pinned else None,
                reap_idle_seconds=given.reap_idle_seconds,
            )
        except StorageFailed as error:
            raise service.unrecordable(error) from error
        return _desired(daemon, state)


def _desired(daemon: str, state: DesiredState) -> Response:
    return JSONResponse(
        {
            "daemon": daemon,
            "instances": [one.to_json() for one in state.instances],
            "reap_idle_seconds": state.reap_idle_seconds,
        }
    )
