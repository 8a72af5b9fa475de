"""May this tool be called? Pure: policy, caller and arguments in; allow, deny or ask out, with the rule that won.

Knows no MCP, no database and no file system; constraints.py judges arguments, and is told how to resolve a path.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from actions.mcp.policy.constraints import UNCONSTRAINED, Constraints, Resolve

Kind = Literal["tool", "prompt", "resource"]
"""What MCP servers offer. Rules speak of tools unless they say otherwise."""

KINDS: Final[tuple[Kind, ...]] = ("tool", "prompt", "resource")


class Decision(enum.StrEnum):
    """What a rule says."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the policy. `server`, `target` and `token` are globs; case counts, `*` also crosses `/` and `.`."""

    name: str
    decision: Decision
    server: str = "*"
    kind: Kind = "tool"
    target: str = "*"
    """The tool's or prompt's name, the resource's URI."""
    token: str = "*"  # noqa: S105 - a glob
    """The name of the caller's token."""
    constraints: Constraints = UNCONSTRAINED
    """What the arguments must be for allow or ask to hold; broken, the call is refused by this rule."""

    def matches(self, subject: Subject) -> bool:
        """Tell whether the rule speaks of this."""
        return (
            self.kind == subject.kind
            and fnmatchcase(subject.server, self.server)
            and fnmatchcase(subject.name, self.target)
            and fnmatchcase(subject.token, self.token)
        )


@dataclass(frozen=True, slots=True)
class Subject:
    """What is about to be used, and by whom."""

    server: str
    kind: Kind
    name: str
    token: str


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """What the policy says, which rule said it, and why if not simply so."""

    decision: Decision
    rule: str
    reason: str = ""


def _defaults() -> Mapping[Kind, Decision]:
    # A model calls tools by itself; prompts and resources are chosen by the person or the program that uses it.
    return {"tool": Decision.ASK, "prompt": Decision.ALLOW, "resource": Decision.ALLOW}


@dataclass(frozen=True, slots=True)
class Policy:
    """The file's rules in order, and gates set through the API, which come before them."""

    rules: tuple[Rule, ...] = ()
    defaults: Mapping[Kind, Decision] = field(default_factory=_defaults)
    overrides: tuple[Rule, ...] = ()

    def winner(self, subject: Subject) -> Rule:
        """Find the rule that decides: the first that matches."""
        return next((rule for rule in self.overrides if rule.matches(subject)), None) or self.written(subject)

    def written(self, subject: Subject) -> Rule:
        """Find the file's rule, whose constraints hold whatever gate is set; one named `default` when none matches."""
        for rule in self.rules:
            if rule.matches(subject):
                return rule
        return Rule("default", self.defaults[subject.kind], kind=subject.kind)

    def hides(self, subject: Subject) -> bool:
        """Tell whether the thing is not even listed."""
        return self.winner(subject).decision is Decision.DENY


def decide(
    policy: Policy,
    subject: Subject,
    arguments: Mapping[str, Any],
    *,
    changed: bool,
    resolve: Resolve,
    declared: frozenset[str] = frozenset(),
) -> PolicyResult:
    """Decide about one call, whose subject and arguments are in their normal forms.

    `changed` says that the tool is not what was approved: then allow becomes ask, and deny stays deny. `declared` are
    the properties of the tool's own schema.
    """
    rule = policy.winner(subject)
    if rule.decision is Decision.DENY:
        return PolicyResult(Decision.DENY, rule.name)
    written = policy.written(subject)
    violation = written.constraints.violation(arguments, resolve, declared)
    if violation is not None:
        return PolicyResult(Decision.DENY, written.name, violation)
    if changed and rule.decision is Decision.ALLOW:
        return PolicyResult(Decision.ASK, rule.name, "it is not what was approved any more")
    return PolicyResult(rule.decision, rule.name)
