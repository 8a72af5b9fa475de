"""Makes the routes of commands: one below `/daemons/{daemon}`, and one with the daemon as a parameter, for buttons.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from actions.api.authentication import Bearer
from actions.api.requests import LoadParameters, OnDaemon, Reasoned, load_command
from actions.api.responses import OperationResponse
from actions.api.shared import OPERATION, Daemon, Key, submit
from actions.auth.authenticator import Authenticator
from actions.commands.service import Service
from actions.domain.actor import Actor, Scope
from actions.domain.command import Command, Load


class CommandRoutes:
    """Adds commands of one tag and scope to a router."""

    def __init__(
        self, router: APIRouter, service: Service, authenticator: Authenticator, *, tag: str, scope: Scope
    ) -> None:
        self._router = router
        self._service = service
        self._authenticator = authenticator
        self._options: dict[str, Any] = {"tags": [tag], "responses": OPERATION}
        self._actor_of = Annotated[Actor, Depends(Bearer(authenticator, scope))]

    def add(
        self,
        path: str,
        description: str,
        parameters: type[Reasoned],
        command: Callable[[str, Any], Command],
        *,
        named: type[OnDaemon] | None = None,
    ) -> None:
        """Add a command. `command` makes it of the daemon's name and the parameters; `named` are those for buttons."""
        actor_of, options = self._actor_of, self._options

        @self._router.post(f"/daemons/{{daemon}}/{path}", description=description, **options)
        async def of_path(
            actor: actor_of,  # type: ignore[valid-type]
            daemon: Daemon,
            query: Annotated[parameters, Query()],  # type: ignore[valid-type]
            response: Response,
            key: Key = None,
        ) -> OperationResponse:
            return await self._submit(actor, command(daemon, query), query, response, key)

        if named is None:
            return

        @self._router.post(
            f"/{path}", description=f"{description} The daemon is a parameter, for buttons.", **options
        )
        async def of_parameters(
            actor: actor_of,  # type: ignore[valid-type]
            query: Annotated[named, Query()],  # type: ignore[valid-type]
            response: Response,
            key: Key = None,
        ) -> OperationResponse:
            return await self._submit(actor, command(query.daemon, query), query, response, key)  # type: ignore[attr-defined]

    async def _submit(
        self, actor: Actor, command: Command, query: Reasoned, response: Response, key: str | None
    ) -> OperationResponse:
        return await submit(
            self._service, self._authenticator, actor, command, response, key=key, wait_s=query.wait
        )


def requested_load(daemon: str, query: LoadParameters) -> Load:
    """Make a load of its parameters. Raises Problem."""
    return load_command(daemon, query, replace=query.replace, force=query.force, reason=query.reason)


def same_fields(kind: type[Command], parameters: type[Reasoned]) -> Callable[[str, Any], Command]:
    """Make a command of the parameters with the names of its fields."""
    names = {one.name for one in dataclasses.fields(kind)} & parameters.model_fields.keys() - {"daemon"}
    return lambda daemon, query: kind(daemon=daemon, **{name: getattr(query, name) for name in names})
