"""Routes that act on models: pre-flight, load, eject, eject-all, download, probe.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Depends, Query, Response
from fastapi.responses import JSONResponse

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
    merged,
    required,
)
from actions.api.responses import FitDocument, PreflightDocument
from actions.api.shared import OPERATION, Daemon, Key, submit
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
        responses={200: {"model": PreflightDocument, "description": "The verdict"}},
    )
    async def preflight(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[PreflightParameters, Query()],
        body: Annotated[PreflightParameters | None, Body()] = None,
    ) -> Response:
        """Tell whether a load would fit, and who holds the memory."""
        authenticator.slow_down(actor)  # each one asks the daemon
        given = merged(query, body)
        command = load_command(daemon, given, replace=given.replace)
        return JSONResponse((await service.preflight(command)).to_json())

    @router.post(
        "/daemons/{daemon}/fit",
        tags=["read"],
        responses={200: {"model": FitDocument, "description": "What fits"}},
    )
    async def fit(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[FitParameters, Query()],
        body: Annotated[FitParameters | None, Body()] = None,
    ) -> Response:
        """Tell which context fits now, on which GPUs, and what would have to go for more."""
        authenticator.slow_down(actor)  # each one asks the daemon
        return JSONResponse(await service.fit(load_command(daemon, merged(query, body))))

    def post(path: str) -> Callable[[Handler], Handler]:
        return router.post(path, tags=["commands"], responses=OPERATION)

    @post("/daemons/{daemon}/models/load")
    async def load(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[LoadParameters, Query()],
        body: Annotated[LoadParameters | None, Body()] = None,
        key: Key = None,
    ) -> Response:
        """Load a model, if it fits."""
        given = merged(query, body)
        command = load_command(daemon, given, replace=given.replace, force=given.force, reason=given.reason)
        return await submit(service, authenticator, actor, command, key=key, wait_s=given.wait)

    @post("/daemons/{daemon}/models/eject")
    async def eject(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[EjectParameters, Query()],
        body: Annotated[EjectParameters | None, Body()] = None,
        key: Key = None,
    ) -> Response:
        """Eject one instance and make sure that it is gone."""
        given = merged(query, body)
        command = Eject(
            daemon=daemon,
            reason=given.reason,
            instance_id=required(given, "instance_id"),
            drain_seconds=given.drain_seconds,
            force=given.force,
        )
        return await submit(service, authenticator, actor, command, key=key, wait_s=given.wait)

    @post("/daemons/{daemon}/models/eject-all")
    async def eject_all(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[EjectAllParameters, Query()],
        body: Annotated[EjectAllParameters | None, Body()] = None,
        key: Key = None,
    ) -> Response:
        """Eject everything, busy or not: the kill switch."""
        given = merged(query, body)
        return await submit(
            service,
            authenticator,
            actor,
            EjectAll(daemon=daemon, reason=given.reason),
            key=key,
            wait_s=given.wait,
        )

    @post("/daemons/{daemon}/models/download")
    async def download(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[DownloadParameters, Query()],
        body: Annotated[DownloadParameters | None, Body()] = None,
        key: Key = None,
    ) -> Response:
        """Download a model."""
        given = merged(query, body)
        command = Download(
            daemon=daemon,
            reason=given.reason,
            model=required(given, "model"),
            quantization=given.quantization,
        )
        return await submit(service, authenticator, actor, command, key=key, wait_s=given.wait)

    @post("/daemons/{daemon}/probe")
    async def probe(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[ProbeParameters, Query()],
        body: Annotated[ProbeParameters | None, Body()] = None,
        key: Key = None,
    ) -> Response:
        """Send one short chat and time it."""
        given = merged(query, body)
        command = Probe(daemon=daemon, reason=given.reason, model=required(given, "model"), force=given.force)
        return await submit(service, authenticator, actor, command, key=key, wait_s=given.wait)
