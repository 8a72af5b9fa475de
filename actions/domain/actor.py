"""Scopes and actors. Pure.

Does not depend on HTTP or the database; tokens.py stores the tokens.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

MAX_PERSON_CHARS: Final = 120


class Scope(enum.Enum):
    """The scope of a token: read, operate and admin each include the ones before.

    Text includes read only, and no other scope includes it: prompts and outputs need this scope.
    """

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"
    TEXT = "text"

    def includes(self, other: Scope) -> bool:
        """Tell whether this scope is enough where `other` is asked for."""
        if Scope.TEXT in {self, other}:
            return other in {self, Scope.READ}
        order = list(Scope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a token, a client on loopback without one, or a part of the service."""

    name: str
    """`token:NAME`, `token-id:ID` of one that is not accepted, `loopback`, `cli`; of the service itself `reconciler`,
    `reaper`, `observer`, `recovery`, `policy file`."""
    scope: Scope
    token_id: str | None = None
    person: str | None = None
    """The person that Grafana names. For the audit only; it grants nothing."""
    grafana: Mapping[str, Any] | None = None
    """What became of X-Grafana-Id, if there was one: whether Grafana's signature proves the person."""
    address: str | None = None

    @property
    def token_name(self) -> str:
        """The name of the token, as the MCP gate's rules use it; for others the name as it is."""
        return self.name.removeprefix("token:")

    @property
    def owner(self) -> str:
        """Whose idempotency keys and operations these are; two tokens of one name are two owners."""
        return self.token_id or self.name


LOOPBACK: Final = Actor("loopback", Scope.READ)
"""Any client on this host while no token exists: scope read."""


CLI: Final = Actor("cli", Scope.ADMIN)
"""Who may write the database in its folder: a command on the service's own host."""


def internal(name: str) -> Actor:
    """Name a part of the service as an actor."""
    return Actor(name, Scope.OPERATE)


DATABASE: Final = internal("database")
"""Who writes audit rows that only cover rows of other tables."""

RECOVERY: Final = internal("recovery")
"""Who writes outcomes that were found out after a restart."""


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
