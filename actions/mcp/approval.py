"""One approval: what the approver is shown, what it is bound to, and its row of the database.

Does not depend on MCP; approvals.py decides.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any, Literal, Self

from actions.mcp.policy.rules import Kind, Subject

State = Literal["pending", "approved", "denied", "expired", "cancelled", "interrupted"]


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """What the approver is shown, and what the approval is bound to."""

    subject: Subject
    rule: str
    reason: str
    preview: str
    digest: str
    timeout_s: float
    definition: str
    """The tool as listed; "" for prompts and resources."""
    definition_sha256: str
    policy_sha256: str

    @property
    def bound_to(self) -> tuple[str, str]:
        """Digests that must be unchanged when it is approved: the tool and the policy file."""
        return self.definition_sha256, self.policy_sha256

    def refusal(self, state: State, *, is_closing: bool) -> tuple[str, str]:
        """Return outcome and message of a call that was not approved."""
        rule = f"rule {self.rule!r} requires approval, and"
        match state:
            case "denied":
                return "refused", f"{rule} it was denied"
            case "expired":
                return (
                    "expired",
                    f"{rule} no answer came within {self.timeout_s:g} s; the call was not sent",
                )
            case _:
                what = "the gate was restarted" if is_closing else "the tool or policy changed"
                return "interrupted", f"{rule} {what}; the call was not sent"


@dataclass(frozen=True, slots=True)
class Approval:
    """One row of the database."""

    id: str
    server: str
    kind: Kind
    name: str
    token: str
    rule: str
    reason: str
    preview: str | None
    digest: str
    created_ms: int
    expires_ms: int
    state: State
    decided_by: str | None
    decided_ms: int | None
    standing: bool
    definition: str | None
    definition_sha256: str
    policy_sha256: str

    @classmethod
    def of(cls, row: sqlite3.Row) -> Self:
        """Read a row."""
        values = {key: row[key] for key in row.keys()}  # noqa: SIM118 - a Row iterates over its values
        return cls(**{**values, "standing": bool(values["standing"])})

    @property
    def bound_to(self) -> tuple[str, str]:
        """Digests that must be unchanged when it is approved: the tool and the policy file."""
        return self.definition_sha256, self.policy_sha256

    def to_json(self, now_ms: int) -> dict[str, Any]:
        """Return the fields of the API, with the age."""
        return {
            "id": self.id,
            "state": self.state,
            "server": self.server,
            "kind": self.kind,
            "tool": self.name,
            "token": self.token,
            "rule": self.rule,
            "reason": self.reason,
            "arguments": self.preview,
            "arguments_digest": self.digest,
            "definition": self.definition,
            "definition_sha256": self.definition_sha256,
            "policy_sha256": self.policy_sha256,
            "age_seconds": max(0.0, (now_ms - self.created_ms) / 1000),
            "expires_in_seconds": max(0.0, (self.expires_ms - now_ms) / 1000)
            if self.state == "pending"
            else 0.0,
            "created_ms": self.created_ms,
            "decided_by": self.decided_by,
            "decided_ms": self.decided_ms,
            "always": self.standing,
        }
