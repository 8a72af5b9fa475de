"""What to do next so that a model is loaded on enough of several daemons: spread, in waves, without ending requests.

Pure: what the daemons look like in, the next steps out, and why the others wait. Nothing is ever evicted for a load; an
instance with another configuration is replaced only while it is idle, and while nothing failed lately.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from actions.domain.errors import Problem, invalid, not_found


class Has(enum.StrEnum):
    """What a daemon has of the instance that is wanted."""

    NONE = "none"
    LOADING = "loading"
    WANTED = "wanted"
    OTHER = "other"
    """An instance of that name with another configuration."""


@dataclass(frozen=True, slots=True)
class Member:
    """One daemon of a group, as it is now."""

    name: str
    site: str = ""
    is_up: bool = True
    has: Has = Has.NONE
    is_busy: bool = False
    """Whether the instance has requests in flight, or that is not known."""
    failed_lately: bool = False
    """Whether a load here failed, and is not to be tried again yet."""
    is_suspended: bool = False
    """Whether a person ejected the instance here."""
    loaded: int = 0
    """Instances of other models."""

    @property
    def serves(self) -> bool:
        """Whether requests for the model are answered here."""
        return self.is_up and self.has in {Has.WANTED, Has.OTHER}


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted of a group."""

    at_least: int
    """Daemons that shall have the instance."""
    wave: int = 1
    """Daemons that may be loading at the same time."""


@dataclass(frozen=True, slots=True)
class Step:
    """Load the instance on a daemon; `replaces` is whether it ejects the idle one of another configuration first."""

    daemon: str
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """The next steps, how many daemons serve, how many are missing, and why a daemon is left alone."""

    steps: tuple[Step, ...]
    serving: int
    missing: int
    """How many more must load than serve or load now."""
    waiting: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Write it as the API answers it."""
        return {
            "steps": [{"daemon": one.daemon, "replaces": one.replaces} for one in self.steps],
            "serving": self.serving,
            "missing": self.missing,
            "waiting": dict(self.waiting),
        }


def plan(goal: Goal, members: Iterable[Member]) -> FleetPlan:
    """Decide the next steps. At most `wave` daemons load at the same time, those that do so already included.

    Daemons are added until `at_least` serve or load; then those of another configuration follow, one wave after the
    other, and only while no load of the group failed lately: so at least `at_least - wave` go on serving. Where too
    few daemons can be read, those of another configuration stay, because they serve.
    """
    members = sorted(members, key=lambda one: one.name)
    serving = sum(one.serves for one in members)
    loading = sum(one.is_up and one.has is Has.LOADING for one in members)
    missing = max(0, goal.at_least - serving - loading)
    room = max(0, goal.wave - loading)
    steps = [Step(one.name) for one in _spread(members, min(missing, room))]
    added = len(steps)
    if not missing and not any(one.failed_lately for one in members):
        stale = [one for one in members if one.has is Has.OTHER and _refusal(one) is None]
        steps += [Step(one.name, replaces=True) for one in stale[:room]]
    chosen = {step.daemon for step in steps}
    lacks = missing > added
    waiting = {
        one.name: _refusal(one)
        or ("waits until enough serve" if lacks and one.has is Has.OTHER else "waits for its wave")
        for one in members
        if one.name not in chosen and (one.has is Has.OTHER or (one.has is Has.NONE and lacks))
    }
    return FleetPlan(tuple(steps), serving, missing, waiting)


def _spread(members: list[Member], count: int) -> list[Member]:
    """Choose daemons for further loads: where the site has fewest of the model, then where least else is loaded."""
    by_site = Counter(one.site for one in members if one.serves or (one.is_up and one.has is Has.LOADING))
    free = [one for one in members if one.has is Has.NONE and _refusal(one) is None]
    chosen: list[Member] = []
    while free and len(chosen) < count:
        best = min(free, key=lambda one: (by_site[one.site], one.loaded, one.name))
        free.remove(best)
        by_site[best.site] += 1
        chosen.append(best)
    return chosen


def _refusal(member: Member) -> str | None:
    """Say why nothing is loaded on a daemon now; None when it may be."""
    if not member.is_up:
        return "cannot be read"
    if member.is_suspended:
        return "ejected by a person; set the group again to load here"
    if member.failed_lately:
        return "a load failed here and is tried again later"
    if member.has is Has.OTHER and member.is_busy:
        return "has requests in flight, with another configuration"
    return None


def selected(
    sites: Mapping[str, str], *, daemons: Iterable[str] = (), site: str | None = None
) -> tuple[str, ...]:
    """Name the daemons of a selection, by name, by site, or by both together. Raises Problem when there is none.

    `sites` is the site of each configured daemon.
    """
    named = tuple(dict.fromkeys(daemons))
    unknown = next((name for name in named if name not in sites), None)
    if unknown is not None:
        raise not_found("daemon", unknown, tuple(sites))
    if not named and site is None:
        raise invalid("site", None, "say which daemons, with site or daemon")
    found = tuple(name for name in named or sites if site in {None, sites[name]})
    if not found:
        raise Problem("not-found", f"no such daemon is of site {(site or '')[:80]}", kind="site")
    return found
