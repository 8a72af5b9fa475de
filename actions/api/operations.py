"""Routes about operations: list them, look at one, cancel one.

Annotations are evaluated here, not postponed: FastAPI reads them.
"""

import functools
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from actions.api.authentication import Bearer
from actions.api.requests import MAX_WAIT_S, Name, NamedOperation
from actions.api.responses import OperationResponse, OperationsResponse
from actions.api.shared import OPERATION, Limit, answer, wait_for_end
from actions.auth.authenticator import Authenticator
from actions.commands.service import Service
from actions.domain.actor import Actor, Scope
from actions.store.operations import Operation


def add_routes(router: APIRouter, service: Service, authenticator: Authenticator) -> None:
    """Add them to a router."""
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]
    operator_of = Annotated[Actor, Depends(Bearer(authenticator, Scope.OPERATE))]

    @router.get("/operations", tags=["operations"])
    async def operations(
        _actor: actor_of,
        daemon: Annotated[Name | None, Query()] = None,
        before: Annotated[
            Name | None, Query(description="Only operations older than the one with this id.")
        ] = None,
        limit: Limit = 100,
    ) -> OperationsResponse:
        """List operations, newest first. A page ends at `limit` operations or 512 KiB."""
        found = await service.operations.recent(daemon=daemon, limit=limit, before=before)
        return OperationsResponse.model_construct(operations=[_described(one) for one in found])

    @router.get("/operations/{operation_id}", tags=["operations"])
    async def operation(
        actor: actor_of,
        operation_id: Name,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0,
    ) -> OperationResponse:
        """Tell how an operation stands; with `wait` when it has ended."""
        found = await service.operations.get(operation_id)
        await wait_for_end(found, wait, authenticator.waits, actor)
        return OperationResponse.of(found)

    @router.post("/operations/{operation_id}/cancel", tags=["operations"], responses=OPERATION)
    async def cancel(actor: operator_of, operation_id: Name, response: Response) -> OperationResponse:
        """Cancel an operation that has not ended."""
        return await give_up(actor, operation_id, response)

    @router.post("/operations/cancel", tags=["operations"], responses=OPERATION)
    async def cancel_by_id(
        actor: operator_of, query: Annotated[NamedOperation, Query()], response: Response
    ) -> OperationResponse:
        """Cancel an operation that has not ended. The id is a parameter, for buttons."""
        return await give_up(actor, query.id, response)

    async def give_up(actor: Actor, operation_id: str, response: Response) -> OperationResponse:
        await authenticator.require(actor, Scope.OPERATE, action="cancel", subject=operation_id)
        found = await service.operations.get(operation_id)
        await service.cancel(actor, found)
        await wait_for_end(found, 1.0, authenticator.waits, actor)
        return answer(found, response)


def _described(operation: Operation) -> OperationResponse:
    """Describe an operation; one that has ended is described once."""
    return _ended(operation) if operation.is_finished else OperationResponse.of(operation)


_ended = functools.lru_cache(maxsize=512)(OperationResponse.of)
