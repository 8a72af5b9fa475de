"""Responses of `/v1/mcp/*` as Pydantic models. Missing data is null, never 0."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from actions.mcp.approval import State

DecisionName = Literal["allow", "deny", "ask"]


class McpServer(BaseModel):
    """A tool server behind the gate, without its secrets."""

    server: str
    state: Literal["up", "starting", "failed", "idle"]
    problem: str | None = Field(description="The last failure.")
    circuit_open: bool = Field(description="Whether calls are refused after repeated failures.")
    adopted: bool = Field(description="Whether the server comes from mcp.json.")
    tokens: list[str] | None = Field(description="Names of the tokens that may use it; null for all.")
    tools: int | None = Field(description="Number of tools; null before the first listing.")


class StdioServer(McpServer):
    """A tool server with MCP on standard input and output."""

    transport: Literal["stdio"]
    command: list[str] = Field(description="Redacted.")
    env: list[str] = Field(description="Names of the variables.")


class HttpServer(McpServer):
    """A tool server at a URL."""

    transport: Literal["http"]
    url: str = Field(description="Without user and query.")
    headers: list[str] = Field(description="Names of the headers.")


class DriftResponse(BaseModel):
    """The servers of mcp.json that bypass the gate."""

    mcp_json: str
    bypassing: list[str] | None = Field(description="Names of the servers; null while unknown.")
    problem: str | None


class PolicyFileResponse(BaseModel):
    """The state of the policy file."""

    file: str
    loaded: bool = Field(description="Whether the present file is in force.")
    problem: str | None


class McpServersResponse(BaseModel):
    """The tool servers behind the gate, the drift of mcp.json, the policy file."""

    servers: list[Annotated[StdioServer | HttpServer, Field(discriminator="transport")]]
    drift: DriftResponse
    policy: PolicyFileResponse


class ToolResponse(BaseModel):
    """A tool, with its decision for the token that asks."""

    tool: str
    description: str = Field(description="The first 500 characters; what does not show is escaped.")
    definition: str | None = Field(description="The whole definition, where one tool was asked for.")
    definition_sha256: str = Field(description="Of the whole definition. An override can be bound to it.")
    decision: DecisionName
    rule: str
    changed: bool = Field(description="Whether the definition differs from the approved one.")
    set_by: str | None = Field(description="Who set the override; null without one.")


class ToolsResponse(BaseModel):
    """The tools of a server."""

    server: str
    tools: list[ToolResponse]


class OverrideResponse(BaseModel):
    """The decision for a tool after a change, and its rule."""

    server: str
    tool: str
    decision: DecisionName
    rule: str


class ApprovalResponse(BaseModel):
    """A call that waits for approval, or waited."""

    id: str
    state: State
    server: str
    kind: Literal["tool", "prompt", "resource"]
    tool: str = Field(description="Name of the tool or prompt, or URI of the resource.")
    token: str
    rule: str
    reason: str
    arguments: str | None = Field(description="Redacted; null once settled, unless capture_arguments is set.")
    arguments_digest: str
    definition: str | None = Field(description="The tool's definition; null once settled.")
    definition_sha256: str
    policy_sha256: str
    age_seconds: float
    expires_in_seconds: float
    created_ms: int
    decided_by: str | None
    decided_ms: int | None
    always: bool = Field(description="Whether the decision became an override.")


class ApprovalsResponse(BaseModel):
    """Approvals, newest first."""

    approvals: list[ApprovalResponse]
    more: bool


class AdoptionResponse(BaseModel):
    """A change of mcp.json, done or planned."""

    done: bool
    mcp_json: str
    servers: list[str] = Field(description="Servers whose entry changes.")
    skipped: dict[str, str] = Field(description="Servers that stay unchanged, and why.")
    diff: str = Field(description="Without secrets.")
    backup: str | None
    warning: str | None


def servers_response(
    servers: list[dict[str, Any]], drift: dict[str, Any], policy: dict[str, Any]
) -> McpServersResponse:
    """Build the response from what the gate's parts describe."""
    return McpServersResponse.model_validate({"servers": servers, "drift": drift, "policy": policy})
