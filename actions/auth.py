"""Who may: scopes, actors, and the limit on wrong tokens. Pure, and without a clock of its own.

Knows no HTTP and no database; tokens.py keeps the tokens, routes ask here.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

MAX_PERSON_CHARS: Final = 120

FAILURES_BURST: Final = 5
"""Wrong tokens in a row before answers become 429."""
FAILURES_REFILL_S: Final = 10.0
"""One more try is allowed after so long."""
_MAX_BUCKETS: Final = 4096
"""Callers remembered; the one not seen for longest is forgotten first."""


class Scope(enum.Enum):
    """What a token is good for; each includes the ones before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        """Tell whether this scope is enough where `other` is asked for."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever acts: a token, a stranger on loopback, or a part of ourselves."""

    name: str
    """`token:NAME`, `loopback`, `reconciler`, `reaper`, `recovery`, `cli`."""
    scope: Scope
    token_id: str | None = None
    person: str | None = None
    """Who Grafana says it is. For the audit only; it grants nothing."""
    grafana: Mapping[str, Any] | None = None
    """What became of X-Grafana-Id, if there was one: whether Grafana's signature proves the person."""
    address: str | None = None

    @property
    def token_name(self) -> str:
        """The name of the token, as the MCP gate's rules know it; for others the name as it is."""
        return self.name.removeprefix("token:")

    @property
    def owner(self) -> str:
        """Whose idempotency keys and operations these are; two tokens of one name are two owners."""
        return self.token_id or self.name


LOOPBACK: Final = Actor("loopback", Scope.READ)
"""Anyone on this machine, while no token was ever made: may look, may not touch."""


def internal(name: str) -> Actor:
    """Name a part of ourselves as an actor."""
    return Actor(name, Scope.OPERATE)


def on_behalf(
    actor: Actor,
    *,
    person: str | None,
    address: str | None,
    grafana: Mapping[str, Any] | None = None,
) -> Actor:
    """Add the person Grafana names and the address of the caller. Control characters are dropped."""
    kept = "".join(char for char in person or "" if char.isprintable())[:MAX_PERSON_CHARS].strip()
    return replace(actor, person=kept or None, address=address, grafana=grafana)


class FailureLimit:
    """Counts wrong tokens by (address, token id) and says when to stop listening.

    A right token of another id from the same address (a proxy's, say) is not held up. Monotonic time, so that a
    clock that jumps neither locks out nor lets in.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def wait_s(self, address: str, token_id: str) -> float:
        """Tell how long this caller must wait before it is listened to again; 0 if it need not."""
        tries = self._tries((address, token_id))
        return 0.0 if tries >= 1 else (1 - tries) * FAILURES_REFILL_S

    def failed(self, address: str, token_id: str) -> None:
        """Take note of a wrong token."""
        key = (address, token_id)
        self._buckets[key] = (self._tries(key) - 1, self._clock())
        self._buckets.move_to_end(key)
        while len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)

    def _tries(self, key: tuple[str, str]) -> float:
        left, at = self._buckets.get(key, (float(FAILURES_BURST), self._clock()))
        return min(float(FAILURES_BURST), left + (self._clock() - at) / FAILURES_REFILL_S)
