"""Routes about inference engines: list, select, update. Changes need the scope admin.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from actions.api.authentication import Bearer
from actions.api.command_routes import CommandRoutes, same_fields
from actions.api.requests import Name, SelectEngineParameters, UpdateEngineParameters
from actions.api.responses import AvailableEngineResponse, EngineResponse, EnginesResponse
from actions.api.shared import Daemon
from actions.auth.authenticator import Authenticator
from actions.commands.engines import installed_engines, offered_engines, selected_engines
from actions.commands.service import Service
from actions.domain.actor import Actor, Scope
from actions.domain.command import SelectEngine, UpdateEngine


def add_routes(router: APIRouter, service: Service, authenticator: Authenticator) -> None:
    """Add them to a router."""
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]

    @router.get("/daemons/{daemon}/engines", tags=["engines"])
    async def list_engines(
        actor: actor_of,
        daemon: Daemon,
        search: Annotated[
            Name | None, Query(description="Adds the engines to be had whose name has this.")
        ] = None,
    ) -> EnginesResponse:
        """List the installed engines and which of them are selected."""
        session = service.daemon(daemon)
        selected = await selected_engines(session)
        installed = await installed_engines(session)
        engines = [
            EngineResponse(
                engine=one.name,
                version=one.version,
                formats=list(one.supported_model_format_names),
                selected_for=sorted(
                    name for name, chosen in selected.items() if chosen == (one.name, one.version)
                ),
            )
            for one in installed.read
        ]
        available: list[AvailableEngineResponse] | None = None
        unreadable = installed.unreadable
        if search is not None:
            authenticator.slow_down(actor)  # the daemon asks the internet
            offered = await offered_engines(session, search)
            unreadable += offered.unreadable
            available = [
                AvailableEngineResponse(
                    engine=one.name,
                    version=one.version,
                    installed=None if one.local_versions is None else one.version in one.local_versions,
                )
                for one in offered.read
            ]
        return EnginesResponse(daemon=daemon, engines=engines, available=available, unreadable=unreadable)

    routes = CommandRoutes(router, service, authenticator, tag="engines", scope=Scope.ADMIN)
    routes.add(
        "engines/select",
        "Select an installed engine for a model format.",
        SelectEngineParameters,
        same_fields(SelectEngine, SelectEngineParameters),
    )
    routes.add(
        "engines/update",
        "Download a version of an engine, and select it where another version of it is selected.",
        UpdateEngineParameters,
        same_fields(UpdateEngine, UpdateEngineParameters),
    )
