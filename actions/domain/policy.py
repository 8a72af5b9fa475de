"""Decides whether a command is allowed. Pure: actor, command and facts in, one decision and its rule out.

Does not depend on the daemon or the database. Rules apply in order; the first that denies decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from actions.domain.actor import Actor
from actions.domain.command import Command, Eject, Load, Probe
from actions.domain.errors import Param, Problem, forbidden, invalid
from actions.domain.load_plan import LoadPlan, does_not_fit
from actions.domain.preflight import Preflight, Verdict


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the daemon when the decision is made."""

    preflight: Preflight | None = None
    queued: Mapping[str, int | None] = field(default_factory=dict)
    """Requests in flight by instance id; None where the daemon does not report them."""
    plan: LoadPlan | None = None
    """Of a load: what was found out, for its turn."""
    download: object = None
    """Of a download: what the daemon's search found."""


@dataclass(frozen=True, slots=True)
class CommandDecision:
    """Allowed or not, the rule that decided, and the reason as text."""

    rule: str
    problem: Problem | None = None

    @property
    def allowed(self) -> bool:
        """Whether nothing objects."""
        return self.problem is None

    @property
    def reason(self) -> str:
        """The objection in words, "" when there is none."""
        return self.problem.detail if self.problem is not None else ""


def decide(actor: Actor, command: Command, facts: Facts) -> CommandDecision:
    """Decide."""
    for name, rule in RULES:
        problem = rule(actor, command, facts)
        if problem is not None:
            return CommandDecision(name, problem)
    return CommandDecision("forced" if getattr(command, "force", False) else "allowed")


def _scope(actor: Actor, command: Command, _facts: Facts) -> Problem | None:
    if actor.scope.includes(command.needs):
        return None
    return forbidden(command.ACTION, actor=actor.name, has=actor.scope.value, needs=command.needs.value)


def _force_says_why(_actor: Actor, command: Command, _facts: Facts) -> Problem | None:
    if isinstance(command, Load | Probe) and command.force and not (command.reason or "").strip():
        return invalid("reason", None, "required by ", Param("force", value=True), "; it goes into the audit")
    return None


def _fits(_actor: Actor, command: Command, facts: Facts) -> Problem | None:
    if not isinstance(command, Load | Probe) or command.force or facts.preflight is None:
        return None
    if facts.preflight.verdict is not Verdict.DOES_NOT_FIT:
        return None
    return does_not_fit(command.model, facts.preflight)


def _replaced_is_idle(_actor: Actor, command: Command, facts: Facts) -> Problem | None:
    if not isinstance(command, Load) or command.force:
        return None
    for name in command.replace:
        queued = facts.queued.get(name)
        if queued:
            return busy(name, queued)
    return None


def _ejected_is_idle(_actor: Actor, command: Command, facts: Facts) -> Problem | None:
    if not isinstance(command, Eject) or command.may_end_requests:
        return None
    queued = facts.queued.get(command.instance_id)
    return busy(command.instance_id, queued) if queued else None


def busy(instance_id: str, queued: int | None) -> Problem:
    """Say that an instance has requests in flight, which an eject would end."""
    count = "an unknown number of" if queued is None else queued
    plural = "" if queued == 1 else "s"
    return Problem(
        "instance-busy",
        f"{instance_id} has {count} request{plural} in flight, which an eject ends; wait, use ",
        Param("drain_seconds"),
        ", or use ",
        Param("force", value=True),
        instance_id=instance_id,
        queued=queued,
    )


Rule = Callable[[Actor, Command, Facts], Problem | None]

RULES: Final[tuple[tuple[str, Rule], ...]] = (
    ("scope", _scope),
    ("force-says-why", _force_says_why),
    ("fits", _fits),
    ("replaced-is-idle", _replaced_is_idle),
    ("ejected-is-idle", _ejected_is_idle),
)
"""In order."""
