"""Routes that act on models: pre-flight, load, eject, eject-all, download, probe.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Response

from actions.api.authentication import Bearer
from actions.api.requests import (
    DownloadParameters,
    EjectAllParameters,
    EjectParameters,
    FitParameters,
    LoadParameters,
    PreflightParameters,
    ProbeParameters,
    load_command,
)
from actions.api.responses import FitResponse, OperationResponse, PreflightResponse
from actions.api.shared import OPERATION, Daemon, Key, require_options, submit
from actions.auth.authenticator import Authenticator
from actions.commands.service import Service
from actions.domain.actor import Actor
from actions.domain.command import Download, Eject, EjectAll, Probe

Handler = TypeVar("Handler", bound=Callable[..., Any])


def add_routes(router: APIRouter, service: Service, authenticator: Authenticator) -> None:
    """Add them to a router."""
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]

    @router.post(
        "/daemons/{daemon}/preflight",
        tags=["read"],
    )
    async def preflight(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[PreflightParameters, Query()],
    ) -> PreflightResponse:
        """Tell whether a load would fit, and who holds the memory."""
        command = load_command(daemon, query, replace=query.replace)
        authenticator.slow_down(actor)  # each one asks the daemon
        await require_options(authenticator, actor, [command], action="preflight")
        return PreflightResponse.of(await service.preflight(command))

    @router.post("/daemons/{daemon}/fit", tags=["read"])
    async def fit(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[FitParameters, Query()],
    ) -> FitResponse:
        """Tell which context fits now, on which GPUs, and what would have to go for more."""
        command = load_command(daemon, query)
        authenticator.slow_down(actor)  # each one asks the daemon
        await require_options(authenticator, actor, [command], action="fit")
        return FitResponse(**await service.fit(command))

    def post(path: str) -> Callable[[Handler], Handler]:
        return router.post(path, tags=["commands"], responses=OPERATION)

    @post("/daemons/{daemon}/models/load")
    async def load(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[LoadParameters, Query()],
        response: Response,
        key: Key = None,
    ) -> OperationResponse:
        """Load a model, if it fits."""
        command = load_command(daemon, query, replace=query.replace, force=query.force, reason=query.reason)
        return await submit(service, authenticator, actor, command, response, key=key, wait_s=query.wait)

    @post("/daemons/{daemon}/models/eject")
    async def eject(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[EjectParameters, Query()],
        response: Response,
        key: Key = None,
    ) -> OperationResponse:
        """Eject one instance and verify that it is gone."""
        command = Eject(
            daemon=daemon,
            reason=query.reason,
            instance_id=query.instance_id,
            drain_seconds=query.drain_seconds,
            force=query.force,
        )
        return await submit(service, authenticator, actor, command, response, key=key, wait_s=query.wait)

    @post("/daemons/{daemon}/models/eject-all")
    async def eject_all(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[EjectAllParameters, Query()],
        response: Response,
        key: Key = None,
    ) -> OperationResponse:
        """Eject everything, busy or not: the kill switch."""
        return await submit(
            service,
            authenticator,
            actor,
            EjectAll(daemon=daemon, reason=query.reason),
            response,
            key=key,
            wait_s=query.wait,
        )

    @post("/daemons/{daemon}/models/download")
    async def download(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[DownloadParameters, Query()],
        response: Response,
        key: Key = None,
    ) -> OperationResponse:
        """Download a model."""
        command = Download(
            daemon=daemon,
            reason=query.reason,
            model=query.model,
            quantization=query.quantization,
        )
        return await submit(service, authenticator, actor, command, response, key=key, wait_s=query.wait)

    @post("/daemons/{daemon}/probe")
    async def probe(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[ProbeParameters, Query()],
        response: Response,
        key: Key = None,
    ) -> OperationResponse:
        """Send one short chat and time it."""
        command = Probe(daemon=daemon, reason=query.reason, model=query.model, force=query.force)
        return await submit(service, authenticator, actor, command, response, key=key, wait_s=query.wait)
