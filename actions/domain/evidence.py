"""What an action needs of a daemon's answers, and what it does where a field of them cannot be read. Pure.

Fields are written as in the catalogue: `call:path`, the call without its namespace, or the method and path of REST.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

KNOWS_LESS: Final = "knows less"
"""It goes on: it decides with less, or tells less."""
AS_EVER: Final = ""
"""It does all the same."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What an action does when one of some fields cannot be read."""

    fields: tuple[str, ...]
    effect: str
    """The type of the Problem that it ends with, KNOWS_LESS, or AS_EVER."""
    when: str = ""
    """The situation in which the fields are read; "" always."""

    def is_hit(self, field: str) -> bool:
        """Tell whether a field that cannot be read is one of these, or one of these is inside it."""
        if self.effect == AS_EVER:
            return field in self.fields
        return any(own == field or own.startswith(f"{field}.") for own in self.fields)


Evidence = tuple[Lack, ...]
"""Of one action; of a field the first lack that applies decides."""

LISTED = ("type", "modelKey", "identifier", "instanceReference")
"""Of listLoaded: without one of them an instance is listed and cannot be read, and may be any."""
MODEL = ("type", "modelKey")
"""Of listDownloadedModels: without one of them a model is not known."""
STATE = ("status", "queued")
"""Of getInstanceProcessingState."""
ESTIMATE = ("memory", "memory.totalVramBytes", "memory.totalBytes", "passesGuardrails")
"""Of estimateModelUsage."""
LOADING = ("data", "data.id", "data.state")
"""Of GET /api/v0/models, the only answer that tells of what is being loaded."""
PROCESS = ("pid", "isDaemon")
"""Of info: they are read together."""


def refuses(problem: str, call: str, *paths: str, when: str = "") -> Lack:
    """Say that an action ends with a Problem of this type without these fields."""
    return Lack(tuple(f"{call}:{path}" for path in paths), problem, when)


def knows_less(call: str, *paths: str, when: str = "") -> Lack:
    """Say that an action goes on without these fields."""
    return refuses(KNOWS_LESS, call, *paths, when=when)


def as_ever(call: str, *paths: str, when: str = "") -> Lack:
    """Say that an action needs these fields not, or finds out in another way what they tell."""
    return refuses(AS_EVER, call, *paths, when=when)


def lacking(evidence: Evidence, gone: Collection[str], when: str = "") -> Lack | None:
    """Tell what becomes of an action in a situation when these fields cannot be read; None where it does all the same.

    A refusal counts before less knowledge, and of two the one that is declared first. An answer that another one stands
    in for takes no knowledge away.
    """
    read = [lack for lack in evidence if lack.when in {"", when}]
    deciding = {field: next((lack for lack in read if lack.is_hit(field)), _NEEDED_BY_NONE) for field in gone}
    spared = {_call(field) for field, lack in deciding.items() if lack.effect == AS_EVER and lack.fields}
    found = [lack for lack in read if lack in deciding.values() and lack.effect != AS_EVER]
    counted = [lack for lack in found if lack.effect != KNOWS_LESS or _call(lack.fields[0]) not in spared]
    return min(counted, key=lambda lack: lack.effect == KNOWS_LESS, default=None)


_NEEDED_BY_NONE: Final = Lack((), AS_EVER)


def _call(field: str) -> str:
    return field.rpartition(":")[0]
