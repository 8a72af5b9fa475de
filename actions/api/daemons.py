"""Routes that read a daemon: its state, the models on its disk, the loaded instances.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends

from actions.api.authentication import Bearer
from actions.api.responses import (
    DaemonResponse,
    DaemonsResponse,
    InstanceResponse,
    InstancesResponse,
    MemoryResponse,
    ModelResponse,
    ModelsResponse,
)
from actions.api.shared import Daemon
from actions.auth.authenticator import Authenticator
from actions.capacity.load_history import LoadHistory
from actions.commands.daemon_session import SNAPSHOT_MAX_AGE_S
from actions.commands.service import Service
from actions.domain.actor import Actor
from actions.domain.errors import Problem


def add_routes(
    router: APIRouter, service: Service, authenticator: Authenticator, history: LoadHistory
) -> None:
    """Add them to a router."""
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]

    @router.get("/daemons", tags=["read"])
    async def daemons(_actor: actor_of) -> DaemonsResponse:
        """List the daemons, how each is, and what it holds."""
        found = await asyncio.gather(*(_describe(service, name) for name in service.daemons))
        return DaemonsResponse(daemons=found)

    @router.get("/daemons/{daemon}/models", tags=["read"])
    async def models(_actor: actor_of, daemon: Daemon) -> ModelsResponse:
        """List the models on disk, and what loads of each really took."""
        snapshot = await service.daemon(daemon).snapshot(max_age_s=SNAPSHOT_MAX_AGE_S)
        if snapshot.models is None:
            raise Problem(
                "daemon-unreadable", f"daemon {daemon}: the list of its models cannot be read", daemon=daemon
            )
        learned = await history.learned(daemon)
        found = [ModelResponse.of(one, snapshot, learned) for one in snapshot.models]
        return ModelsResponse(daemon=daemon, models=found, unreadable=snapshot.unreadable_models)

    @router.get("/daemons/{daemon}/instances", tags=["read"])
    async def instances(_actor: actor_of, daemon: Daemon) -> InstancesResponse:
        """List what is loaded."""
        snapshot = await service.daemon(daemon).snapshot(max_age_s=SNAPSHOT_MAX_AGE_S)
        found = [InstanceResponse.of(one, snapshot) for one in snapshot.instances]
        return InstancesResponse(daemon=daemon, instances=found, unreadable=snapshot.unreadable_instances)

    @router.get("/daemons/{daemon}/memory", tags=["read"])
    async def memory(_actor: actor_of, daemon: Daemon) -> MemoryResponse:
        """Tell how much GPU memory is free on the daemon's host, and who holds the rest."""
        session = service.daemon(daemon)
        snapshot = await session.snapshot(max_age_s=SNAPSHOT_MAX_AGE_S)
        return MemoryResponse.of(daemon, await session.local_memory([one.info for one in snapshot.instances]))


async def _describe(service: Service, name: str) -> DaemonResponse:
    daemon = service.daemons[name]
    try:
        snapshot = await daemon.snapshot(max_age_s=SNAPSHOT_MAX_AGE_S)
    except Problem:
        snapshot = None
    return DaemonResponse.of(name, daemon.site, daemon.client.url, daemon.client.health(), snapshot)
