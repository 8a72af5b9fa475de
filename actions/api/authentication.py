"""The FastAPI dependency of every route that requires a token, and its entry in the OpenAPI document.

Does not depend on routes or tokens; the authenticator checks them. Annotations are evaluated here, not postponed:
FastAPI reads them.
"""

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from actions.auth.authenticator import Authenticator
from actions.domain.actor import Actor


class Bearer(SecurityBase):
    """One object for both, because FastAPI resolves every dependency of a route at every request."""

    def __init__(self, authenticator: Authenticator) -> None:
        self.model = HTTPBearer(description="dp_…, made by: daemonpulse actions token new")
        self.scheme_name = "HTTPBearer"
        self._authenticator = authenticator

    async def __call__(self, request: Request) -> Actor:
        """Name the actor of a request. Raises Problem."""
        return await self._authenticator.actor(request)
