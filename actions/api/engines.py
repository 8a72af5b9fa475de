"""Routes about inference engines: list, select, update. Changes need the scope admin.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response
from fastapi.responses import JSONResponse

from actions.api.authentication import Bearer
from actions.api.requests import Name, SelectEngineParameters, UpdateEngineParameters, merged, required
from actions.api.shared import OPERATION, Daemon, Key, submit
from actions.auth.authenticator import Authenticator
from actions.commands.engines import installed_engines, offered_engines, selected_engines
from actions.commands.service import Service
from actions.domain.actor import Actor
from actions.domain.command import SelectEngine, UpdateEngine


def add_routes(router: APIRouter, service: Service, authenticator: Authenticator) -> None:
    """Add them to a router."""
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]
    path = "/daemons/{daemon}/engines"

    @router.get(path, tags=["engines"])
    async def engines(
        actor: actor_of,
        daemon: Daemon,
        search: Annotated[
            Name | None, Query(description="Adds the engines to be had whose name has this.")
        ] = None,
    ) -> Response:
        """List the installed engines and which of them are selected."""
        session = service.daemon(daemon)
        selected = await selected_engines(session)
        found: dict[str, Any] = {
            "daemon": daemon,
            "engines": [
                {
                    "engine": one.name,
                    "version": one.version,
                    "formats": list(one.supported_model_format_names),
                    "selected_for": sorted(
                        name for name, chosen in selected.items() if chosen == (one.name, one.version)
                    ),
                }
                for one in await installed_engines(session)
            ],
        }
        if search is not None:
            authenticator.slow_down(actor)  # the daemon asks the internet
            found["available"] = [
                {"engine": one.name, "version": one.version, "installed": one.version in one.local_versions}
                for one in await offered_engines(session, search)
            ]
        return JSONResponse(found)

    @router.post(f"{path}/select", tags=["engines"], responses=OPERATION)
    async def select(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[SelectEngineParameters, Query()],
        body: Annotated[SelectEngineParameters | None, Body()] = None,
        key: Key = None,
    ) -> Response:
        """Select an installed engine for a model format."""
        given = merged(query, body)
        command = SelectEngine(
            daemon=daemon,
            reason=given.reason,
            engine=required(given, "engine"),
            version=required(given, "version"),
            model_format=required(given, "model_format"),
        )
        return await submit(service, authenticator, actor, command, key=key, wait_s=given.wait)

    @router.post(f"{path}/update", tags=["engines"], responses=OPERATION)
    async def update(
        actor: actor_of,
        daemon: Daemon,
        query: Annotated[UpdateEngineParameters, Query()],
        body: Annotated[UpdateEngineParameters | None, Body()] = None,
        key: Key = None,
    ) -> Response:
        """Download a version of an engine, and select it where another version of it is selected."""
        given = merged(query, body)
        command = UpdateEngine(
            daemon=daemon,
            reason=given.reason,
            engine=required(given, "engine"),
            version=required(given, "version"),
        )
        return await submit(service, authenticator, actor, command, key=key, wait_s=given.wait)
