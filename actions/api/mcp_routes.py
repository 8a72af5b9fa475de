"""Routes of `/v1/mcp/*`: servers, tools and their overrides, approvals, adoption of mcp.json. Changes are audited.

Reading requires any token; deciding one call requires `operate`; an override, `always` and adoption require `admin`.
The daemon's token has scope `read`, so that no tool can approve itself. Annotations are evaluated here, not
postponed: FastAPI reads them.
"""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import StringConstraints
from starlette.routing import BaseRoute

from actions.api.authentication import Bearer
from actions.api.mcp_responses import (
    AdoptionResponse,
    ApprovalResponse,
    ApprovalsResponse,
    McpServersResponse,
    OverrideResponse,
    ToolsResponse,
    servers_response,
)
from actions.api.requests import Name, Parameters
from actions.api.responses import errors
from actions.auth.authenticator import Authenticator
from actions.domain.actor import Actor, Scope
from actions.mcp.approval import State
from actions.mcp.mcp_json.adoption import Adoption
from actions.mcp.policy.file_watch import PolicyWatch
from actions.mcp.policy.rules import Decision
from actions.mcp.server_pool import ServerPool

_ERRORS: Final = errors(
    {
        403: "The token's scope is too low, or the request has a foreign Origin",
        404: "No such server, tool or approval",
        409: "The approval is settled already, the tool changed, or mcp.json cannot be changed",
        503: "The tool server cannot be reached, or the audit cannot be written",
    }
)

ServerName = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
ToolName = Annotated[str, Path(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class OverrideParameters(Parameters):
    """Parameters of an override."""

    decision: Literal["allow", "deny", "ask", "policy"]
    """policy: remove the override; the policy file decides."""
    definition_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The definition that was seen, as listed. Without it allow and ask are for the one first seen or last approved."""


class NamedOverrideParameters(OverrideParameters):
    """Parameters of an override, with the names of server and tool."""

    server: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    tool: Name


class ToolsParameters(Parameters):
    """Parameters of a list of tools."""

    tool: Name | None = None
    """Only this one, with its whole definition."""


class ApprovalParameters(Parameters):
    """Parameters of a decision about a call."""

    always: bool = False


class NamedApprovalParameters(ApprovalParameters):
    """Parameters of a decision about a call, with its id."""

    id: Name


class AdoptParameters(Parameters):
    """Parameters of an adoption, or of its undo."""

    dry_run: bool = False
    undo: bool = False


def routes(
    pool: ServerPool, authenticator: Authenticator, adoption: Adoption, policy: PolicyWatch
) -> list[BaseRoute]:
    """Return the routes."""
    made = APIRouter(prefix="/v1/mcp", tags=["mcp"], responses=_ERRORS)
    actor_of = Annotated[Actor, Depends(Bearer(authenticator))]
    operator_of = Annotated[Actor, Depends(Bearer(authenticator, Scope.OPERATE))]
    admin_of = Annotated[Actor, Depends(Bearer(authenticator, Scope.ADMIN))]
    _add_reads(made, actor_of, pool, adoption=adoption, policy=policy)

    @made.post("/gate")
    async def set_override_by_name(
        actor: admin_of, query: Annotated[NamedOverrideParameters, Query()]
    ) -> OverrideResponse:
        """Set or remove the override of a tool, with the names as parameters, for buttons."""
        return await change(actor, query.server, query.tool, query)

    @made.post("/servers/{server}/tools/{tool:path}/gate")
    async def set_override(
        actor: admin_of, server: ServerName, tool: ToolName, query: Annotated[OverrideParameters, Query()]
    ) -> OverrideResponse:
        """Set or remove the override of a tool."""
        return await change(actor, server, tool, query)

    async def change(actor: Actor, server: str, tool: str, query: OverrideParameters) -> OverrideResponse:
        await authenticator.require(
            actor,
            Scope.ADMIN,
            action="mcp.gate",
            subject=f"{server}/{tool}",
            is_limited=query.decision != Decision.DENY.value,
        )
        if query.decision == "policy":
            return OverrideResponse(**await pool.remove_override(server, tool, actor))
        decision, seen = Decision(query.decision), query.definition_sha256
        return OverrideResponse(**await pool.set_override(server, tool, decision, actor, seen=seen))

    def settling(verb: str, says: str, *, approve: bool) -> None:
        @made.post(f"/approvals/{verb}", name=f"{verb} by id", description=f"{says} The id is a parameter.")
        async def settle_by_id(
            actor: operator_of, query: Annotated[NamedApprovalParameters, Query()]
        ) -> ApprovalResponse:
            return await decide(actor, query.id, always=query.always)

        @made.post(f"/approvals/{{approval_id}}/{verb}", name=verb, description=says)
        async def settle(
            actor: operator_of, approval_id: Name, query: Annotated[ApprovalParameters, Query()]
        ) -> ApprovalResponse:
            return await decide(actor, approval_id, always=query.always)

        async def decide(actor: Actor, approval_id: str, *, always: bool) -> ApprovalResponse:
            needs = Scope.ADMIN if always else Scope.OPERATE
            await authenticator.require(
                actor, needs, action=f"mcp.{verb}", subject=approval_id, is_limited=approve
            )
            settled = await pool.settle(approval_id, approve=approve, always=always, actor=actor)
            return ApprovalResponse(**settled)

    settling("approve", "Approve a call; `always` also sets an override and requires admin.", approve=True)
    settling("deny", "Deny a call; `always` also sets an override and requires admin.", approve=False)

    @made.post("/adopt")
    async def adopt(
        actor: admin_of,
        query: Annotated[AdoptParameters, Query()],
    ) -> AdoptionResponse:
        """Route every server of mcp.json through the gate, or undo that."""
        await authenticator.require(actor, Scope.ADMIN, action="mcp.adopt", subject=str(adoption.path))
        return AdoptionResponse(**await adoption.run(actor, undo=query.undo, dry_run=query.dry_run))

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
    async def servers(_actor: actor_of) -> McpServersResponse:
        """List the tool servers behind the gate."""
        return servers_response(pool.servers(), adoption.drift.to_json(), policy.to_json())

    @made.get("/servers/{server}/tools")
    async def tools(
        actor: actor_of, server: ServerName, query: Annotated[ToolsParameters, Query()]
    ) -> ToolsResponse:
        """List a server's tools, with their decisions; or one tool, with its whole definition."""
        found = await pool.server_tools(server, actor, query.tool)
        return ToolsResponse.model_validate({"server": server, "tools": found})

    @made.get("/approvals")
    async def approvals(
        _actor: actor_of,
        state: Annotated[State | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> ApprovalsResponse:
        """List approvals, newest first."""
        found, more = await pool.approvals.list(state=state, limit=limit)
        return ApprovalsResponse(
            approvals=[ApprovalResponse(**pool.approvals.shown(one)) for one in found], more=more
        )
