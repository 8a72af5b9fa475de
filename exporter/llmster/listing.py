"""Reads the daemon's lists entry by entry, and says which entries could not be read. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

from exporter.llmster import lenient
from exporter.llmster.lenient import UNDECODABLE

MOST_PROBLEMS: Final = 5
"""Entries of a list that are named when they cannot be read."""
MAX_NAME_CHARS: Final = 100
_NAMES: Final = ("identifier", "modelKey", "name", "path")
"""Keys of an entry whose value names it, if it has one of them."""

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """The entries of a list that could be read, and how many there are besides."""

    read: tuple[T, ...]
    unreadable: int
    problems: tuple[str, ...] = ()
    """The first of what could not be read: which entry, by number and name, and why."""

    @property
    def is_complete(self) -> bool:
        """Whether what is not in `read` is not there at all."""
        return self.unreadable == 0


def read_each(raw: msgspec.Raw | None, shape: type[T], what: str, odd: Counter[str]) -> Listing[T]:
    """Read a list entry by entry, so that an odd entry costs only itself, and an odd optional field only that field.

    Both are counted in `odd`, as `what` and `what_field`. Raises one of UNDECODABLE when it is no list at all.
    """
    entries = msgspec.json.decode(raw if raw is not None else b"null", type=list[msgspec.Raw])
    read: list[T] = []
    problems: list[str] = []
    for number, entry in enumerate(entries, 1):
        try:
            value, was_odd = lenient.decode(entry, shape)
        except UNDECODABLE as error:
            odd[what] += 1
            if len(problems) < MOST_PROBLEMS:
                problems.append(f"{what} {number}{_name_of(entry)}: {error}")
        else:
            read.append(value)
            if was_odd:
                odd[f"{what}_field"] += 1
    return Listing(tuple(read), len(entries) - len(read), tuple(problems))


def _name_of(entry: msgspec.Raw) -> str:
    """Name an entry that cannot be read, if it says anything that names it."""
    try:
        told = lenient.loads(entry)
    except UNDECODABLE:
        return ""
    names = (told.get(key) for key in _NAMES) if isinstance(told, dict) else ()
    return next((f" ({name[:MAX_NAME_CHARS]})" for name in names if isinstance(name, str)), "")
