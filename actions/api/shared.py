"""What every router shares: documented errors, path and header types, submitting a command, waiting for its end.

Annotations are evaluated here, not postponed: FastAPI reads them, and could not find local names in them by text.
"""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Header, Path, Query, Response

from actions.api.responses import OperationResponse, errors
from actions.auth.authenticator import Authenticator
from actions.commands.service import Service
from actions.domain.actor import Actor, Scope
from actions.domain.command import Command, Load
from actions.domain.errors import Problem
from actions.domain.rate_limit import Shares
from actions.store.operations import Operation

ERRORS: Final = errors(
    {
        403: "The token's scope is too low, or a page of another place asks",
        404: "Not found",
        409: "It does not fit, is busy, exists already, or the daemon refused; the numbers are inside",
        503: "The daemon cannot be reached, or nothing can be recorded",
        504: "The daemon does not answer",
    }
)
OPERATION: Final[dict[int | str, dict[str, Any]]] = {
    **ERRORS,
    202: {"model": OperationResponse, "description": "Begun; Location leads to the operation"},
}

Daemon = Annotated[str, Path(description="Name of a configured daemon.", min_length=1, max_length=64)]
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$"),
]
Limit = Annotated[int, Query(ge=1, le=1000)]


async def submit(
    service: Service,
    authenticator: Authenticator,
    actor: Actor,
    command: Command,
    response: Response,
    *,
    key: str | None,
    wait_s: float,
) -> OperationResponse:
    """Submit a command and answer with its operation. Raises Problem. The kill switch is never rate limited."""
    if command.IS_RATE_LIMITED or not actor.scope.includes(command.needs):
        authenticator.slow_down(actor)
    operation = await service.submit(actor, command, key=key)
    await wait_for_end(operation, wait_s, authenticator.waits, actor)
    response.headers["Location"] = location = f"/v1/operations/{operation.id}"
    if operation.problem is not None:
        problem = Problem.from_body(operation.problem)
        problem.headers["Location"] = location
        problem.extra["operation"] = operation.to_json()
        raise problem
    return answer(operation, response)


async def require_options(
    authenticator: Authenticator, actor: Actor, loads: Iterable[Load], *, action: str
) -> None:
    """Refuse, on record, a load with options beyond the actor's scope. Raises Problem."""
    beyond = next((load for load in loads if load.needs is Scope.ADMIN), None)
    if beyond is not None:
        await authenticator.require(actor, Scope.ADMIN, action=action, subject=beyond.subject)


def answer(operation: Operation, response: Response) -> OperationResponse:
    """Answer with an operation: 200 when it has ended, else 202."""
    response.status_code = HTTPStatus.OK if operation.is_finished else HTTPStatus.ACCEPTED
    return OperationResponse.of(operation)


async def wait_for_end(operation: Operation, seconds: float, waits: Shares, actor: Actor) -> None:
    """Wait for the end of an operation, at most so long; not at all beyond the actor's share of waits."""
    if seconds <= 0 or operation.is_finished or not waits.take(actor.owner):
        return
    try:
        async with asyncio.timeout(seconds):
            await operation.done.wait()
    except TimeoutError:
        return
    finally:
        waits.give_back(actor.owner)
