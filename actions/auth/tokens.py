"""Bearer tokens: shown once, stored as hashes, compared in constant time.

A token reads `dp_<id>_<secret>`: the id finds the row and may be logged, the secret (256 random bits)
is only ever stored as SHA-256, which needs no salt or stretching at that length.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from actions.domain.actor import Actor, Scope
from actions.store.database import Storage

_FORM: Final = re.compile(r"dp_([a-z2-7]{8})_([A-Za-z0-9_-]{43})")
_ID_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_NO_HASH: Final = bytes(32)
"""Compared with when the token does not exist, so that timing does not reveal an id."""

UNKNOWN_ID: Final = "unknown"
"""Stands for every id that is not a token's in the audit."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret."""

    id: str
    name: str
    scope: Scope
    created_ms: int
    expires_ms: int | None
    revoked_ms: int | None

    def is_live(self, now_ms: int) -> bool:
        """Tell whether it is neither revoked nor expired."""
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a presented token: an actor, or the id to record and the reason."""

    actor: Actor | None
    token_id: str
    reason: str = ""


class NoSuchToken(Exception):
    """There is no live token with this id or name."""


class TokenStore:
    """The tokens of one database. `clock_ms` is wall time: expiry is a date."""

    def __init__(self, storage: Storage, *, clock_ms: Callable[[], int] | None = None) -> None:
        self._storage = storage
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)

    def add(
        self, db: sqlite3.Connection, *, name: str, scope: Scope, expires_ms: int | None = None
    ) -> tuple[Token, str]:
        """Make a token in the caller's transaction (with its audit row); returns it and the text to show once."""
        token_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))
        secret = secrets.token_urlsafe(32)
        token = Token(token_id, name, scope, self._clock_ms(), expires_ms, None)
        db.execute(
            "INSERT INTO tokens (id, name, scope, hash, created_ms, expires_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (token_id, name, scope.value, _hash(secret), token.created_ms, expires_ms),
        )
        return token, f"dp_{token_id}_{secret}"

    def revoke(self, db: sqlite3.Connection, id_or_name: str) -> tuple[Token, ...]:
        """Revoke the live token of this id, or all of this name. Raises NoSuchToken."""
        found = tuple(
            token
            for token in _all(db)
            if id_or_name in {token.id, token.name} and token.is_live(self._clock_ms())
        )
        if not found:
            raise NoSuchToken(id_or_name)
        for token in found:
            db.execute("UPDATE tokens SET revoked_ms = ? WHERE id = ?", (self._clock_ms(), token.id))
        return found

    async def all(self) -> tuple[Token, ...]:
        """List every token ever made, oldest first. Raises StorageFailed."""
        return await self._storage.read(_all)

    async def is_empty(self) -> bool:
        """Tell whether no token was ever made. One that was revoked or expired counts. Raises StorageFailed."""
        return not await self._known()

    async def is_live(self, token_id: str) -> bool:
        """Tell whether there is such a token, neither revoked nor expired. Raises StorageFailed."""
        row = (await self._known()).get(token_id)
        return row is not None and _token(row).is_live(self._clock_ms())

    async def check(self, presented: str) -> Checked:
        """Tell whose token this is. Raises StorageFailed."""
        match = _FORM.fullmatch(presented)
        if match is None:
            return Checked(None, UNKNOWN_ID, "it does not have the form dp_ID_SECRET")
        row = (await self._known()).get(match[1])
        right = hmac.compare_digest(_hash(match[2]), row["hash"] if row is not None else _NO_HASH)
        if row is None:
            return Checked(None, UNKNOWN_ID, "there is no such token")
        token = _token(row)
        if not right:
            return Checked(None, token.id, "there is no such token")
        if token.revoked_ms is not None:
            return Checked(None, token.id, "it was revoked")
        if not token.is_live(self._clock_ms()):
            return Checked(None, token.id, "it has expired")
        return Checked(Actor(f"token:{token.name}", token.scope, token_id=token.id), token.id)

    async def _known(self) -> Mapping[str, sqlite3.Row]:
        """Give the rows by id."""
        return await self._storage.recall("tokens", _by_id)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _by_id(db: sqlite3.Connection) -> Mapping[str, sqlite3.Row]:
    return {row["id"]: row for row in db.execute("SELECT * FROM tokens")}


def _all(db: sqlite3.Connection) -> tuple[Token, ...]:
    return tuple(_token(row) for row in db.execute("SELECT * FROM tokens ORDER BY created_ms, id"))


def _token(row: sqlite3.Row) -> Token:
    return Token(
        row["id"], row["name"], Scope(row["scope"]), row["created_ms"], row["expires_ms"], row["revoked_ms"]
    )
