"""The dependency of every route with a token: returns the actor, documents the scheme in OpenAPI.

Does not depend on routes. Annotations are evaluated here, not postponed: FastAPI reads them.
"""

from typing import Final

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from actions.auth.authenticator import Authenticator
from actions.domain.actor import Actor, Scope

_CALLER: Final = "daemonpulse.caller"


class Bearer(SecurityBase):
    """One object for both, because FastAPI resolves every dependency of a route at every request.

    `needs` is the scope without which no parameters of the route are explained: its handler checks the scope when the
    parameters are valid, and `require_scope` when they are not.
    """

    def __init__(self, authenticator: Authenticator, needs: Scope = Scope.READ) -> None:
        self.model = HTTPBearer(description="dp_…, made by: daemonpulse actions token new")
        self.scheme_name = "HTTPBearer"
        self._authenticator = authenticator
        self._needs = needs

    async def __call__(self, request: Request) -> Actor:
        """Return the actor of a request. Raises Problem."""
        actor = await self._authenticator.actor(request)
        request.scope[_CALLER] = self, actor
        return actor

    async def require(self, actor: Actor, path: str) -> None:
        """Refuse an actor whose scope is too low for the route, with an audit row. Raises Problem."""
        if not actor.scope.includes(self._needs):
            action = path.rpartition("/")[2][:64]
            await self._authenticator.require(actor, self._needs, action=action, subject=path[:200])


async def require_scope(request: Request) -> None:
    """Check the scope of a request with invalid parameters: 403 comes before 422. Raises Problem."""
    caller = request.scope.get(_CALLER)
    if caller is not None:
        bearer, actor = caller
        await bearer.require(actor, request.url.path)
