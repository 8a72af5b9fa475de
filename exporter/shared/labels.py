"""Bounds label values from outside, names of models, instances, tools and devices, in length and in number."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import Final

OTHER: Final = "other"
"""The value of those that are too many."""
MAX_CHARS: Final = 200
"""Longer than any name that a person gave; three names of 100 kB made a scrape of 41 MB."""


def bounded(value: str) -> str:
    """Return a value that is short enough as it is, else its beginning and a digest of all of it.

    Values that differ stay different.
    """
    if len(value) <= MAX_CHARS:
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{value[: MAX_CHARS - 17]}~{digest}"


class FirstFew:
    """Remembers the first so many different values, or tuples of values."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[Hashable] = set()

    def admits(self, value: Hashable) -> bool:
        """Tell whether it is one of them; one that is not counts as OTHER."""
        if value not in self._known:
            if len(self._known) >= self._most:
                return False
            self._known.add(value)
        return True

    def name(self, value: str) -> str:
        """Return a value that is bounded in length, OTHER where there are too many."""
        name = bounded(value)
        return name if self.admits(name) else OTHER
