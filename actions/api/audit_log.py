"""The route that reads the audit.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from actions.api.authentication import Bearer
from actions.api.responses import AuditEntryResponse, AuditResponse
from actions.api.shared import Limit
from actions.auth.authenticator import Authenticator
from actions.commands.service import Service
from actions.domain.actor import Actor


def add_routes(router: APIRouter, service: Service, authenticator: Authenticator) -> None:
    """Add them to a router."""
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]

    @router.get("/audit", tags=["read"])
    async def audit(
        _actor: actor_of,
        since: Annotated[
            int | None,
            Query(ge=0, le=2**62, description="The rows right after this `seq`, oldest first."),
        ] = None,
        before: Annotated[
            int | None, Query(ge=1, le=2**62, description="The rows right before this `seq`, newest first.")
        ] = None,
        limit: Limit = 100,
    ) -> AuditResponse:
        """List the audit, newest first; with `since` oldest first. A page ends at `limit` rows or 512 KiB."""
        entries = await service.audit.read(since=since, before=before, limit=limit)
        return AuditResponse(entries=[AuditEntryResponse.of(entry) for entry in entries])
