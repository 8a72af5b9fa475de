"""A proxied request as call.py handles it: subject, arguments, callbacks; its grant or refusal.

Does not depend on MCP's methods and result types.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from actions.mcp.policy.rules import PolicyResult, Subject
from actions.mcp.upstream.streams import GATE_KEY

R = TypeVar("R")


class ToolChanged(Exception):
    """The tool on the present connection differs from the one that the decision was about."""


class Refused(Exception):
    """The call was not sent, or has no result. The message is for the caller and names the rule."""

    def __init__(
        self, outcome: str, message: str, policy_result: PolicyResult, approval: str | None = None
    ) -> None:
        self.outcome = outcome
        self.policy_result = policy_result
        self.approval = approval
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Grant:
    """The policy result and approval under which a call was sent."""

    policy_result: PolicyResult
    approval: str | None

    def to_meta(self) -> dict[str, Any]:
        """Return it in the form of a result's `_meta`."""
        return decision_meta(self.policy_result, self.approval)


class ResultLimit(Protocol[R]):
    """Limits the size of a result."""

    def __call__(self, result: R, /) -> tuple[R, str, bool]:
        """Return the result to forward, the outcome, and whether it was cut."""
        ...


@dataclass(frozen=True, slots=True)
class ProxyRequest(Generic[R]):
    """One request to an upstream server."""

    subject: Subject
    arguments: Mapping[str, Any]
    prepare: Callable[[], Awaitable[str | None]]
    """Looks up the subject; returns why the call is impossible, else None.

    May raise UpstreamDown, ConnectionLost, TimeoutError, MCPError, ValidationError.
    """
    invoke: Callable[[float, Mapping[str, Any], Callable[[], Awaitable[None]]], Awaitable[R]]
    """Sends the request with a timeout in seconds and the arguments that the decision was about.

    Awaits the third argument before anything is sent; it may raise StorageFailed.

    May raise UpstreamDown, ConnectionLost, ToolChanged, TimeoutError, MCPError, ValidationError.
    """
    limit: ResultLimit[R]
    about: Mapping[str, str] = field(default_factory=dict)
    """Span attributes of the transport."""
    fault: str | None = None
    """Why the subject has no normal form; the call is refused then."""
    declared: Callable[[], Mapping[str, Any]] = dict
    """Returns the properties of the tool's input schema, as last listed."""


def decision_meta(policy_result: PolicyResult, approval: str | None = None) -> dict[str, Any]:
    """Return decision and rule in the form of a result's `_meta`."""
    gate = {"decision": policy_result.decision.value, "rule": policy_result.rule}
    if approval is not None:
        gate["approval"] = approval
    return {GATE_KEY: gate}
