"""`/v1/mcp/*`: servers, tools and their gates, approvals, adoption. Every change is audited by whoever does it.

Knows no tool server. Who may: reading needs any token; approving or denying one call needs operate; what stands
(a gate, "always", mcp.json) needs admin. The token that llmster holds needs read only, so that no tool it calls can
approve itself. Annotations are evaluated here, not postponed: FastAPI reads them.
"""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import StringConstraints
from starlette.routing import BaseRoute

from actions.api.authentication import Bearer
from actions.api.requests import Name, Parameters
from actions.api.responses import errors
from actions.auth.authenticator import Authenticator
from actions.domain.actor import Actor, Scope
from actions.mcp.approvals import State
from actions.mcp.mcp_json.adoption import Adoption
from actions.mcp.policy.file_watch import PolicyWatch
from actions.mcp.policy.rules import Decision
from actions.mcp.server_pool import ServerPool

_ERRORS: Final = errors(
    {
        403: "The token's scope is too low, or a page of another place asks",
        404: "No such server, tool or approval",
        409: "It is settled already, or mcp.json cannot be changed",
        503: "The tool server cannot be used, or nothing can be recorded",
    }
)

ServerName = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
ToolName = Annotated[str, Path(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class OverrideParameters(Parameters):
    """Of a gate."""

    decision: Literal["allow", "deny", "ask", "policy"]
    """policy: no gate of our own; the policy file decides."""


class NamedOverrideParameters(OverrideParameters):
    """Of a gate, and whose it is."""

    server: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    tool: Name


class ApprovalParameters(Parameters):
    """Of an answer to a waiting call."""

    always: bool = False


class NamedApprovalParameters(ApprovalParameters):
    """Of an answer to a waiting call, and which call."""

    id: Name


class AdoptParameters(Parameters):
    """Of an adoption, or of undoing it."""

    dry_run: bool = False
    undo: bool = False


def routes(
    pool: ServerPool, authenticator: Authenticator, adoption: Adoption, policy: PolicyWatch
) -> list[BaseRoute]:
    """Make the routes."""
    made = APIRouter(prefix="/v1/mcp", tags=["mcp"], responses=_ERRORS)
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]
    _add_reads(made, actor_of, pool, adoption=adoption, policy=policy)

    @made.post("/gate")
    async def set_override_by_name(
        actor: actor_of, query: Annotated[NamedOverrideParameters, Query()]
    ) -> Response:
        """Set a tool's gate, with every name a parameter: what buttons use."""
        return await change(actor, query.server, query.tool, query.decision)

    @made.post("/servers/{server}/tools/{tool:path}/gate")
    async def set_override(
        actor: actor_of, server: ServerName, tool: ToolName, query: Annotated[OverrideParameters, Query()]
    ) -> Response:
        """Set a tool's gate, or take it away again: then the policy decides."""
        return await change(actor, server, tool, query.decision)

    async def change(actor: Actor, server: str, tool: str, decision: str) -> Response:
        await authenticator.require(actor, Scope.ADMIN, action="mcp.gate", subject=f"{server}/{tool}")
        if decision == "policy":
            return JSONResponse(await pool.remove_override(server, tool, actor))
        return JSONResponse(await pool.set_override(server, tool, Decision(decision), actor))

    def settling(verb: str, says: str, *, approve: bool) -> None:
        @made.post(
            f"/approvals/{verb}", name=f"{verb} by id", description=f"{says} With the id as a parameter."
        )
        async def settle_by_id(
            actor: actor_of, query: Annotated[NamedApprovalParameters, Query()]
        ) -> Response:
            return await decide(actor, query.id, always=query.always)

        @made.post(f"/approvals/{{approval_id}}/{verb}", name=verb, description=says)
        async def settle(
            actor: actor_of, approval_id: Name, query: Annotated[ApprovalParameters, Query()]
        ) -> Response:
            return await decide(actor, approval_id, always=query.always)

        async def decide(actor: Actor, approval_id: str, *, always: bool) -> Response:
            needs = Scope.ADMIN if always else Scope.OPERATE
            await authenticator.require(actor, needs, action=f"mcp.{verb}", subject=approval_id)
            return JSONResponse(await pool.settle(approval_id, approve=approve, always=always, actor=actor))

    settling("approve", "Let a call of a tool through; `always` needs admin.", approve=True)
    settling("deny", "Refuse a call of a tool; `always` needs admin.", approve=False)

    @made.post("/adopt")
    async def adopt(
        actor: actor_of,
        query: Annotated[AdoptParameters, Query()],
    ) -> Response:
        """Route every server of mcp.json through the gate, or take that back."""
        await authenticator.require(actor, Scope.ADMIN, action="mcp.adopt", subject=str(adoption.path))
        return JSONResponse(await adoption.run(actor, undo=query.undo, dry_run=query.dry_run))

    return made.routes


def _add_reads(
    made: APIRouter,
    actor_of: Any,
    pool: ServerPool,
    *,
    adoption: Adoption,
    policy: PolicyWatch,
) -> None:
    @made.get("/servers")
    async def servers(_actor: actor_of) -> Response:
        """List the tool servers behind the gate."""
        state = {"drift": adoption.drift.to_json(), "policy": policy.to_json()}
        return JSONResponse({"servers": pool.servers(), **state})

    @made.get("/servers/{server}/tools")
    async def tools(actor: actor_of, server: ServerName) -> Response:
        """List a server's tools, with their gates."""
        return JSONResponse({"server": server, "tools": await pool.server_tools(server, actor)})

    @made.get("/approvals")
    async def approvals(
        _actor: actor_of,
        state: Annotated[State | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """List the calls of tools that wait for a person."""
        found, more = await pool.approvals.list(state=state, limit=limit)
        return JSONResponse({"approvals": [pool.approvals.shown(one) for one in found], "more": more})
