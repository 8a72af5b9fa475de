"""Stores the groups: a model that must be loaded on at least so many of several daemons.

commands/fleet.py acts on it. A daemon where a person ejected the instance is suspended in its group until the group
is set again, so that a kill switch is not undone.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from actions.domain.actor import Actor
from actions.domain.command import Load, from_json
from actions.domain.errors import invalid, not_found
from actions.domain.fleet import Goal
from actions.store.audit import Audit, Entry
from actions.store.database import Storage
from actions.store.sizes import canonical

log = logging.getLogger(__name__)

MAX_GROUPS: Final = 64


@dataclass(frozen=True, slots=True)
class Group:
    """One desired instance of several daemons: those named, those of a site, or those named that are of it."""

    name: str
    load: Load
    """What each daemon of the group loads; its `daemon` is empty."""
    goal: Goal
    daemons: tuple[str, ...] = ()
    site: str | None = None
    suspended: tuple[str, ...] = ()
    """Daemons where a person ejected it."""

    @property
    def instance_id(self) -> str:
        """The name under which it is loaded."""
        return self.load.instance_id or self.load.model

    def includes(self, daemon: str, site: str) -> bool:
        """Whether a daemon is of the group."""
        return daemon in (self.daemons or (daemon,)) and self.site in {None, site}

    def on(self, daemon: str) -> Load:
        """Make the load of one daemon."""
        return dataclasses.replace(
            self.load, daemon=daemon, instance_id=self.instance_id, group=f"desired:{self.name}"
        )

    def to_json(self) -> dict[str, Any]:
        """Write it as the API answers it."""
        hidden = {"action", "daemon", "force", "reason", "replace", "group"}
        parameters = {key: value for key, value in self.load.to_json().items() if key not in hidden}
        return {
            **parameters,
            "name": self.name,
            "instance_id": self.instance_id,
            "at_least": self.goal.at_least,
            "wave": self.goal.wave,
            "daemons": list(self.daemons),
            "site": self.site,
            "suspended": list(self.suspended),
        }


class FleetStore:
    """The groups of one database."""

    def __init__(self, storage: Storage, audit: Audit) -> None:
        self._storage = storage
        self._audit = audit

    async def all(self) -> tuple[Group, ...]:
        """Read every group; one that another version of the program wrote is left out. Raises StorageFailed."""
        return await self._storage.read(_read)

    async def kept(self, daemon: str, site: str) -> frozenset[str]:
        """Name the instances that a group keeps on a daemon. Raises StorageFailed."""
        return frozenset(group.instance_id for group in await self.all() if group.includes(daemon, site))

    async def put(self, actor: Actor, group: Group) -> None:
        """Set a group, with its audit row. Raises StorageFailed, and Problem when there are too many."""

        def write(db: sqlite3.Connection) -> Entry:
            _put(db, group)
            (count,) = db.execute("SELECT count(*) FROM fleet").fetchone()
            if count > MAX_GROUPS:
                raise invalid("name", group.name, f"there can be at most {MAX_GROUPS} groups")
            return self._audit.append(
                db, "event", actor=actor, action="fleet", subject=group.name, detail=group.to_json()
            )

        self._audit.published(await self._storage.write(write))

    async def remove(self, actor: Actor, name: str) -> None:
        """Remove a group, with its audit row. What it loaded stays. Raises StorageFailed, Problem."""

        def write(db: sqlite3.Connection) -> Entry:
            if not db.execute("DELETE FROM fleet WHERE name = ?", (name,)).rowcount:
                raise not_found("group", name)
            return self._audit.append(
                db, "event", actor=actor, action="fleet", subject=name, detail={"removed": True}
            )

        self._audit.published(await self._storage.write(write))

    async def suspend(self, daemon: str, instance_id: str | None) -> None:
        """Leave an instance (None: every one) alone on a daemon from now on, in every group. Raises StorageFailed."""

        def write(db: sqlite3.Connection) -> None:
            for group in _read(db):
                if instance_id in {None, group.instance_id} and daemon not in group.suspended:
                    _put(db, dataclasses.replace(group, suspended=(*group.suspended, daemon)))

        if await self.all():
            await self._storage.write(write)


def _put(db: sqlite3.Connection, group: Group) -> None:
    stored = {
        "load": group.load.to_json(),
        "at_least": group.goal.at_least,
        "wave": group.goal.wave,
        "daemons": list(group.daemons),
        "site": group.site,
        "suspended": list(group.suspended),
    }
    db.execute("INSERT OR REPLACE INTO fleet (name, request) VALUES (?, ?)", (group.name, canonical(stored)))


def _read(db: sqlite3.Connection) -> tuple[Group, ...]:
    groups: list[Group] = []
    for row in db.execute("SELECT name, request FROM fleet ORDER BY name"):
        try:
            stored = json.loads(row["request"])
            load = from_json(stored["load"])
            if not isinstance(load, Load):
                raise TypeError(load.ACTION)  # noqa: TRY301 - reported with the others
            groups.append(
                Group(
                    row["name"],
                    load,
                    Goal(stored["at_least"], stored["wave"]),
                    tuple(stored["daemons"]),
                    stored["site"],
                    tuple(stored["suspended"]),
                )
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("group unreadable", extra={"group": row["name"], "problem": str(error)})
    return tuple(groups)
