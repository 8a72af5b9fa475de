"""Routes that act on models: pre-flight, load, eject, eject-all, download, probe.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from actions.api.authentication import Bearer
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
from actions.api.responses import FitResponse, OperationResponse, PreflightResponse
from actions.api.shared import OPERATION, Daemon, Key, require_options, submit
from actions.auth.authenticator import Authenticator
from actions.commands.service import Service
from actions.domain.actor import Actor, Scope
from actions.domain.command import Command, Download, Eject, EjectAll, Load, Probe


def add_routes(router: APIRouter, service: Service, authenticator: Authenticator) -> None:
    """Add them to a router."""
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]
    operator_of = Annotated[Actor, Depends(Bearer(authenticator, Scope.OPERATE))]

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

    def command_routes(
        path: str,
        description: str,
        parameters: type[Reasoned],
        named: type[OnDaemon],
        command: Callable[[str, Any], Command],
    ) -> None:
        """Add a command below `/daemons/{daemon}` and, with the daemon as a parameter, below `/` for buttons."""
        options: dict[str, Any] = {"tags": ["commands"], "responses": OPERATION}

        @router.post(f"/daemons/{{daemon}}/{path}", description=description, **options)
        async def of_path(
            actor: operator_of,
            daemon: Daemon,
            query: Annotated[parameters, Query()],  # type: ignore[valid-type]
            response: Response,
            key: Key = None,
        ) -> OperationResponse:
            return await run(actor, command(daemon, query), query, response, key)

        @router.post(
            f"/{path}", description=f"{description} The daemon is a parameter, for buttons.", **options
        )
        async def of_parameters(
            actor: operator_of,
            query: Annotated[named, Query()],  # type: ignore[valid-type]
            response: Response,
            key: Key = None,
        ) -> OperationResponse:
            return await run(actor, command(query.daemon, query), query, response, key)  # type: ignore[attr-defined]

    async def run(
        actor: Actor, command: Command, query: Reasoned, response: Response, key: str | None
    ) -> OperationResponse:
        return await submit(service, authenticator, actor, command, response, key=key, wait_s=query.wait)

    command_routes("models/load", "Load a model, if it fits.", LoadParameters, NamedLoad, _load)
    command_routes(
        "models/eject", "Eject one instance and verify that it is gone.", EjectParameters, NamedEject, _eject
    )
    command_routes(
        "models/eject-all",
        "Eject everything, busy or not: the kill switch.",
        EjectAllParameters,
        NamedEjectAll,
        lambda daemon, query: EjectAll(daemon=daemon, reason=query.reason),
    )
    command_routes("models/download", "Download a model.", DownloadParameters, NamedDownload, _download)
    command_routes("probe", "Send one short chat and time it.", ProbeParameters, NamedProbe, _probe)


def _load(daemon: str, query: LoadParameters) -> Load:
    return load_command(daemon, query, replace=query.replace, force=query.force, reason=query.reason)


def _eject(daemon: str, query: EjectParameters) -> Eject:
    return Eject(
        daemon=daemon,
        reason=query.reason,
        instance_id=query.instance_id,
        drain_seconds=query.drain_seconds,
        force=query.force,
    )


def _download(daemon: str, query: DownloadParameters) -> Download:
    return Download(daemon=daemon, reason=query.reason, model=query.model, quantization=query.quantization)


def _probe(daemon: str, query: ProbeParameters) -> Probe:
    return Probe(daemon=daemon, reason=query.reason, model=query.model, force=query.force)
