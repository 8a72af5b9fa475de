"""The policy decision of a call: allow, deny or ask, with the rule that decided. Pure.

Does not depend on MCP, the database or the file system; the caller passes a function that resolves paths.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from actions.mcp.identifiers import bare_uri
from actions.mcp.policy.constraints import NOTHING_DECLARED, UNCONSTRAINED, Constraints, Resolve

Kind = Literal["tool", "prompt", "resource"]
"""What a rule applies to; tools by default."""

KINDS: Final[tuple[Kind, ...]] = ("tool", "prompt", "resource")


class Decision(enum.StrEnum):
    """The decision of a rule."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the policy. `server`, `target` and `token` are case-sensitive globs; `*` also matches `/` and `.`."""

    name: str
    decision: Decision
    server: str = "*"
    kind: Kind = "tool"
    target: str = "*"
    """The tool's or prompt's name, the resource's URI."""
    token: str = "*"  # noqa: S105 - a glob
    """The name of the caller's token."""
    constraints: Constraints = UNCONSTRAINED
    """Constraints on the arguments. A call that violates them is refused by this rule."""

    def matches(self, subject: Subject) -> bool:
        """Tell whether the rule applies. One that restricts a host applies to every user and port of it."""
        return (
            self.kind == subject.kind
            and fnmatchcase(subject.server, self.server)
            and (
                fnmatchcase(subject.name, self.target)
                or (self._restricts_resources and fnmatchcase(bare_uri(subject.name), self.target))
            )
            and fnmatchcase(subject.token, self.token)
        )

    @property
    def _restricts_resources(self) -> bool:
        return self.kind == "resource" and self.decision is not Decision.ALLOW


@dataclass(frozen=True, slots=True)
class Subject:
    """The target of a call, and the caller's token."""

    server: str
    kind: Kind
    name: str
    token: str


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """The decision, the rule that made it, and the reason if it differs from the rule's own decision."""

    decision: Decision
    rule: str
    reason: str = ""


def _defaults() -> Mapping[Kind, Decision]:
    # A model calls tools by itself; prompts and resources are chosen by a person or an application.
    return {"tool": Decision.ASK, "prompt": Decision.ALLOW, "resource": Decision.ALLOW}


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of the file in order, and the overrides set through the API, which come first."""

    rules: tuple[Rule, ...] = ()
    defaults: Mapping[Kind, Decision] = field(default_factory=_defaults)
    overrides: tuple[Rule, ...] = ()

    def winner(self, subject: Subject) -> Rule:
        """Return the rule that decides: the first that matches."""
        return next((rule for rule in self.overrides if rule.matches(subject)), None) or self.written(subject)

    def written(self, subject: Subject) -> Rule:
        """Return the file's rule, `default` if none matches. Its constraints apply under an override too."""
        for rule in self.rules:
            if rule.matches(subject):
                return rule
        return Rule("default", self.defaults[subject.kind], kind=subject.kind)

    def hides(self, subject: Subject) -> bool:
        """Tell whether the subject is left out of lists."""
        return self.winner(subject).decision is Decision.DENY


def decide(
    policy: Policy,
    subject: Subject,
    arguments: Mapping[str, Any],
    *,
    changed: bool,
    resolve: Resolve,
    declared: Mapping[str, Any] = NOTHING_DECLARED,
) -> PolicyResult:
    """Decide one call, with subject and arguments in their normal forms.

    `changed`: the tool differs from its pin, and allow becomes ask. `declared`: the properties of the tool's schema.
    """
    rule = policy.winner(subject)
    if rule.decision is Decision.DENY:
        return PolicyResult(Decision.DENY, rule.name)
    written = policy.written(subject)
    violation = written.constraints.violation(arguments, resolve, declared)
    if violation is not None:
        return PolicyResult(Decision.DENY, written.name, violation)
    if changed and rule.decision is Decision.ALLOW:
        return PolicyResult(Decision.ASK, rule.name, "the tool definition changed")
    return PolicyResult(rule.decision, rule.name)
