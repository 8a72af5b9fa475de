"""What a call is to the gate: what is to be done, how it was decided, and why it did not happen.

Does not know MCP's methods and result types.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from actions.mcp.policy.rules import PolicyResult, Subject

R = TypeVar("R")


class ToolChanged(Exception):
    """The tool on the connection that is used is not the one that was decided about."""


class Refused(Exception):
    """The call does not happen, or came to no result. The message is for whoever called, and names the rule."""

    def __init__(
        self, outcome: str, message: str, policy_result: PolicyResult, approval: str | None = None
    ) -> None:
        self.outcome = outcome
        self.policy_result = policy_result
        self.approval = approval
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Grant:
    """How a call that came to a result was decided."""

    policy_result: PolicyResult
    approval: str | None

    def to_meta(self) -> dict[str, Any]:
        """Write it for a result's `_meta`."""
        return decision_meta(self.policy_result, self.approval)


class ResultLimit(Protocol[R]):
    """Looks at a result."""

    def __call__(self, result: R, /) -> tuple[R, str, bool]:
        """Return what to hand on, the outcome, and whether it was cut."""
        ...


@dataclass(frozen=True, slots=True)
class ProxyRequest(Generic[R]):
    """What is to be done, in the words of MCP's side."""

    subject: Subject
    arguments: Mapping[str, Any]
    prepare: Callable[[], Awaitable[str | None]]
    """Makes sure that what is decided about is known; says why the call cannot be.

    May raise UpstreamDown, ConnectionLost, TimeoutError, MCPError, ValidationError.
    """
    invoke: Callable[[float, Mapping[str, Any]], Awaitable[R]]
    """Does it within so many seconds, with the arguments as they were decided about.

    May raise UpstreamDown, ConnectionLost, ToolChanged, TimeoutError, MCPError, ValidationError.
    """
    judge: ResultLimit[R]
    about: Mapping[str, str] = field(default_factory=dict)
    """Attributes of the request's span that its transport knows."""
    fault: str | None = None
    """Why what is asked for has no normal form, and is refused."""
    declared: Callable[[], frozenset[str]] = frozenset
    """Names the properties of the tool's own schema, as last listed."""


def decision_meta(policy_result: PolicyResult, approval: str | None = None) -> dict[str, Any]:
    """Name the decision and the rule in an answer's `_meta`."""
    gate = {"decision": policy_result.decision.value, "rule": policy_result.rule}
    if approval is not None:
        gate["approval"] = approval
    return {"io.daemonpulse/gate": gate}
