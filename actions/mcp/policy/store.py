"""Overrides set through the API, pins of tools, the kept policy: in memory for decisions, in SQLite for restarts.

Does not depend on MCP types; a tool is a name and a fingerprint here.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from actions.domain.actor import Actor
from actions.mcp.policy.rules import Decision, Policy, Rule
from actions.store.database import Storage

MAX_PINS_OF_SERVER: Final = 5_000
"""A server has 500 tools at most; beyond ten times as many names its new tools require approval."""


@dataclass(frozen=True, slots=True)
class Override:
    """A decision set for one tool through the API. Exact names, no globs."""

    server: str
    tool: str
    decision: Decision
    actor: str
    at_ms: int


class PolicyStore:
    """Overrides and pins. Call `load` first."""

    def __init__(
        self, storage: Storage, policy: Policy, *, clock_ms: Callable[[], int] | None = None
    ) -> None:
        self._storage = storage
        self._file_policy = policy
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self._overrides: dict[tuple[str, str], Override] = {}
        self._pins: dict[tuple[str, str], str] = {}
        self._pins_of: Counter[str] = Counter()
        self.policy = policy
        """Overrides first, then the rules of the file."""
        self.policy_sha256 = ""
        """Of the policy file. Approvals are bound to it."""
        self._eras: dict[str, tuple[str, bool]] = {}

    async def load(self) -> None:
        """Read the database. Raises StorageFailed."""
        rules = await self._storage.read(lambda db: db.execute("SELECT * FROM mcp_rules").fetchall())
        pins = await self._storage.read(lambda db: db.execute("SELECT * FROM mcp_pins").fetchall())
        self._overrides = {
            (row["server"], row["tool"]): Override(
                row["server"], row["tool"], Decision(row["decision"]), row["actor"], row["at_ms"]
            )
            for row in rules
        }
        self._pins = {(row["server"], row["tool"]): row["fingerprint"] for row in pins}
        self._pins_of = Counter(row["server"] for row in pins)
        eras = await self._storage.read(lambda db: db.execute("SELECT * FROM mcp_servers").fetchall())
        self._eras = {row["server"]: (row["reach"], bool(row["speaks_initialize"])) for row in eras}
        self._compose()

    async def kept_policy(self) -> tuple[str, str] | None:
        """Return the kept policy and the SHA-256 of its file, or None. Raises StorageFailed."""
        row = await self._storage.read(
            lambda db: db.execute("SELECT document, sha256 FROM mcp_policy").fetchone()
        )
        return (str(row["document"]), str(row["sha256"])) if row is not None else None

    def keep_policy(self, db: sqlite3.Connection, kept: str, sha256: str) -> None:
        """Keep a policy for a restart, in the caller's transaction."""
        db.execute("INSERT OR REPLACE INTO mcp_policy VALUES (1, ?, ?, ?)", (sha256, kept, self._clock_ms()))

    def uses_initialize(self, server: str, reach: str) -> bool | None:
        """Tell whether a server reached this way uses `initialize`; None if unknown."""
        known = self._eras.get(server)
        return known[1] if known is not None and known[0] == reach else None

    async def save_uses_initialize(self, server: str, reach: str, *, uses_initialize: bool) -> None:
        """Save whether a server uses `initialize`. Raises StorageFailed."""
        self._eras[server] = (reach, uses_initialize)
        await self._storage.write(
            lambda db: db.execute(
                "INSERT OR REPLACE INTO mcp_servers VALUES (?, ?, ?)", (server, reach, int(uses_initialize))
            )
        )

    def override(self, server: str, tool: str) -> Override | None:
        """Return the override of a tool, None if there is none."""
        return self._overrides.get((server, tool))

    def is_changed(self, server: str, tool: str, fingerprint: str | None) -> bool:
        """Tell whether a tool differs from its pin, or is one too many to be pinned. Others without a pin are new."""
        pinned = self._pins.get((server, tool))
        return self._pins_of[server] >= MAX_PINS_OF_SERVER if pinned is None else fingerprint != pinned

    def pin(self, server: str, tool: str) -> str | None:
        """Return the fingerprint of a tool as it was first seen or last approved, None if it has no pin."""
        return self._pins.get((server, tool))

    async def pin_new(self, server: str, fingerprints: Mapping[str, str]) -> None:
        """Pin tools that have no pin, up to the limit: trust on first use. Raises StorageFailed."""
        unknown = ((tool, mark) for tool, mark in fingerprints.items() if (server, tool) not in self._pins)
        new = dict(islice(unknown, max(0, MAX_PINS_OF_SERVER - self._pins_of[server])))
        if not new:
            return
        now_ms = self._clock_ms()
        await self._storage.write(
            lambda db: db.executemany(
                "INSERT OR IGNORE INTO mcp_pins VALUES (?, ?, ?, ?)",
                [(server, tool, mark, now_ms) for tool, mark in new.items()],
            )
        )
        for tool, mark in new.items():
            self._pin(server, tool, mark)

    def write_override(
        self, db: sqlite3.Connection, actor: Actor, rule: tuple[str, str, Decision], fingerprint: str | None
    ) -> Callable[[], None]:
        """Set an override and pin the tool, in the caller's transaction. Call the result after the commit."""
        server, tool, decision = rule
        now_ms = self._clock_ms()
        override = Override(server, tool, decision, actor.person or actor.name, now_ms)
        db.execute(
            "INSERT OR REPLACE INTO mcp_rules VALUES (?, ?, ?, ?, ?)",
            (server, tool, decision.value, override.actor, now_ms),
        )
        if fingerprint is not None:
            db.execute(
                "INSERT OR REPLACE INTO mcp_pins VALUES (?, ?, ?, ?)", (server, tool, fingerprint, now_ms)
            )

        def committed() -> None:
            self._overrides[(server, tool)] = override
            if fingerprint is not None:
                self._pin(server, tool, fingerprint, replaces=True)
            self._compose()

        return committed

    def remove_override(self, db: sqlite3.Connection, server: str, tool: str) -> Callable[[], None]:
        """Remove an override in the caller's transaction. Call the result after the commit. Pins stay."""
        db.execute("DELETE FROM mcp_rules WHERE server = ? AND tool = ?", (server, tool))

        def committed() -> None:
            self._overrides.pop((server, tool), None)
            self._compose()

        return committed

    def take_policy(self, policy: Policy, sha256: str) -> None:
        """Apply the rules of a policy file below the overrides."""
        self._file_policy = policy
        self.policy_sha256 = sha256
        self._compose()

    def _pin(self, server: str, tool: str, mark: str, *, replaces: bool = False) -> None:
        is_new = (server, tool) not in self._pins
        self._pins_of[server] += is_new
        if is_new or replaces:
            self._pins[(server, tool)] = mark

    def _compose(self) -> None:
        overrides = tuple(
            Rule(
                f"override:{one.server}/{one.tool}",
                one.decision,
                _literal(one.server),
                "tool",
                _literal(one.tool),
            )
            for one in self._overrides.values()
        )
        self.policy = replace(self._file_policy, overrides=overrides)


def _literal(name: str) -> str:
    """Return a glob that matches only this name."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)
