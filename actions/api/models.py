"""Routes that act on models: pre-flight, fit, load, eject, eject-all, download, probe.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query

from actions.api.authentication import Bearer
from actions.api.command_routes import CommandRoutes, requested_load, same_fields
from actions.api.requests import (
    DownloadParameters,
    EjectAllParameters,
    EjectParameters,
    FitParameters,
    LoadParameters,
    NamedDownload,
    NamedEject,
    NamedEjectAll,
    NamedLoad,
    NamedProbe,
    OnDaemon,
    PreflightParameters,
    ProbeParameters,
    Reasoned,
    load_command,
)
from actions.api.responses import FitResponse, PreflightResponse
from actions.api.shared import Daemon, require_options
from actions.auth.authenticator import Authenticator
from actions.commands.service import Service
from actions.domain.actor import Actor, Scope
from actions.domain.command import Command, Download, Eject, EjectAll, Probe


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

    routes = CommandRoutes(router, service, authenticator, tag="commands", scope=Scope.OPERATE)
    routes.add("models/load", "Load a model, if it fits.", LoadParameters, requested_load, named=NamedLoad)
    for path, description, parameters, kind, named in _COMMANDS:
        routes.add(path, description, parameters, same_fields(kind, parameters), named=named)


_COMMANDS: Final[tuple[tuple[str, str, type[Reasoned], type[Command], type[OnDaemon]], ...]] = (
    ("models/eject", "Eject one instance and verify that it is gone.", EjectParameters, Eject, NamedEject),
    (
        "models/eject-all", "Eject everything, busy or not: the kill switch.",
        EjectAllParameters, EjectAll, NamedEjectAll,
    ),
    ("models/download", "Download a model.", DownloadParameters, Download, NamedDownload),
    ("probe", "Send one short chat and time it.", ProbeParameters, Probe, NamedProbe),
)  # fmt: skip
"""Commands whose parameters have the names of their fields: path, description, parameters, command, for buttons."""
