"""Stores the desired state: which instances must be loaded, and after how much idle time others are ejected.

reconciler.py acts on it. An entry that a person ejected is suspended until it is set again, so that the
reconciler does not undo a kill switch.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from actions.domain.actor import Actor
from actions.domain.command import Load, from_json
from actions.domain.errors import invalid
from actions.store.audit import Audit, Entry
from actions.store.database import Storage
from actions.store.sizes import canonical

MAX_INSTANCES: Final = 256
"""Of one daemon, however they were added."""


@dataclass(frozen=True, slots=True)
class Desired:
    """One instance that must be loaded."""

    instance_id: str
    load: Load | None
    """None where another version of the program stored parameters that this one cannot read."""
    suspended: bool
    problem: str | None = None
    """Why the load is None."""

    def to_json(self) -> dict[str, Any]:
        """Write it as the API answers it."""
        if self.load is None:
            unreadable = {"instance_id": self.instance_id, "suspended": self.suspended}
            return {"model": None, **unreadable, "problem": self.problem}
        hidden = {"action", "daemon", "force", "reason", "replace"}
        parameters = {key: value for key, value in self.load.to_json().items() if key not in hidden}
        return {**parameters, "instance_id": self.instance_id, "suspended": self.suspended}


@dataclass(frozen=True, slots=True)
class DesiredState:
    """The desired state of one daemon."""

    instances: tuple[Desired, ...]
    reap_idle_seconds: float | None


class DesiredStore:
    """The desired states of one database."""

    def __init__(self, storage: Storage, audit: Audit) -> None:
        self._storage = storage
        self._audit = audit

    async def get(self, daemon: str) -> DesiredState:
        """Read the desired state of a daemon. Raises StorageFailed."""
        return await self._storage.read(lambda db: _read(db, daemon))

    async def replace(
        self, actor: Actor, daemon: str, loads: Iterable[Load], *, reap_idle_seconds: float | None
    ) -> DesiredState:
        """Set the whole of it, in one transaction with its audit row. Raises StorageFailed, Problem."""
        wanted = {load.instance_id or load.model: load for load in loads}

        def write(db: sqlite3.Connection) -> Entry:
            db.execute("DELETE FROM desired WHERE daemon = ?", (daemon,))
            for instance_id, load in wanted.items():
                _put(db, daemon, instance_id, load)
            _require_room(db, daemon)
            _reap(db, daemon, reap_idle_seconds)
            return self._record(
                db,
                actor,
                daemon,
                {"instances": sorted(wanted), "reap_idle_seconds": reap_idle_seconds, "whole": True},
            )

        self._audit.published(await self._storage.write(write))
        return await self.get(daemon)

    async def change(
        self,
        actor: Actor,
        daemon: str,
        *,
        add: Load | None = None,
        remove: str | None = None,
        reap_idle_seconds: float | None = None,
    ) -> DesiredState:
        """Add or remove one instance, or set the reaper (0 switches it off). Raises StorageFailed."""

        def write(db: sqlite3.Connection) -> Entry:
            detail: dict[str, Any] = {}
            if add is not None:
                detail["add"] = add.instance_id or add.model
                _put(db, daemon, detail["add"], add)
                _require_room(db, daemon)
            if remove is not None:
                detail["remove"] = remove
                db.execute("DELETE FROM desired WHERE daemon = ? AND instance_id = ?", (daemon, remove))
            if reap_idle_seconds is not None:
                detail["reap_idle_seconds"] = reap_idle_seconds
                _reap(db, daemon, reap_idle_seconds or None)
            return self._record(db, actor, daemon, detail)

        self._audit.published(await self._storage.write(write))
        return await self.get(daemon)

    async def suspend(self, daemon: str, instance_id: str | None) -> None:
        """Leave an instance (None: every one) alone from now on. Raises StorageFailed."""
        state = await self.get(daemon)
        hit = [
            one.instance_id
            for one in state.instances
            if not one.suspended and instance_id in {None, one.instance_id}
        ]
        if hit:
            await self._storage.write(
                lambda db: db.executemany(
                    "UPDATE desired SET suspended = 1 WHERE daemon = ? AND instance_id = ?",
                    [(daemon, name) for name in hit],
                )
            )

    def _record(self, db: sqlite3.Connection, actor: Actor, daemon: str, detail: dict[str, Any]) -> Entry:
        return self._audit.append(db, "event", actor=actor, action="desired", subject=daemon, detail=detail)


def _read(db: sqlite3.Connection, daemon: str) -> DesiredState:
    instances: list[Desired] = []
    for row in db.execute("SELECT * FROM desired WHERE daemon = ? ORDER BY instance_id", (daemon,)):
        load, problem = _load(row)
        instances.append(Desired(row["instance_id"], load, bool(row["suspended"]), problem))
    reaper = db.execute("SELECT idle_s FROM reaper WHERE daemon = ?", (daemon,)).fetchone()
    return DesiredState(tuple(instances), reaper["idle_s"] if reaper is not None else None)


def _load(row: sqlite3.Row) -> tuple[Load | None, str | None]:
    """Read a stored load, or return the reason why it cannot be read."""
    try:
        load = from_json(json.loads(row["request"]))
        if not isinstance(load, Load):
            raise TypeError(f"the action is {load.ACTION}")  # noqa: TRY301 - reported with the others
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"stored by another version of the program: {error}; pin it again"
    return dataclasses.replace(load, instance_id=row["instance_id"]), None  # the reconciler finds it by name


def _put(db: sqlite3.Connection, daemon: str, instance_id: str, load: Load) -> None:
    db.execute(
        "INSERT OR REPLACE INTO desired (daemon, instance_id, request) VALUES (?, ?, ?)",
        (daemon, instance_id, canonical(load.to_json())),
    )


def _require_room(db: sqlite3.Connection, daemon: str) -> None:
    (count,) = db.execute("SELECT count(*) FROM desired WHERE daemon = ?", (daemon,)).fetchone()
    if count > MAX_INSTANCES:
        raise invalid("instances", count, f"a daemon can have at most {MAX_INSTANCES} desired instances")


def _reap(db: sqlite3.Connection, daemon: str, idle_s: float | None) -> None:
    if idle_s is None:
        db.execute("DELETE FROM reaper WHERE daemon = ?", (daemon,))
    else:
        db.execute("INSERT OR REPLACE INTO reaper VALUES (?, ?)", (daemon, idle_s))
