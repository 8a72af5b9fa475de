"""What a fuzz target is: a name, a function that checks one input, and how often CI runs it.

Knows no target and no way of running one. A check returns where all is well and raises where an invariant breaks; its
failure names what it saw, because the bytes that led there tell nobody anything.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.choices import Choices

FOUND = Path(__file__).parent / "found"
"""Inputs that once broke a target, named TARGET-HASH; a test runs each of them for ever."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to break."""

    name: str
    check: Callable[[Choices], None]
    inputs: int = 1000
    """How many CI runs."""

    def run(self, data: bytes) -> None:
        """Check one input."""
        self.check(Choices(data))

    def found(self) -> list[Path]:
        """List the inputs that once broke it."""
        return sorted(FOUND.glob(f"{self.name}-*"))


def found_name(target: str, data: bytes) -> str:
    """Name an input that broke a target."""
    return f"{target}-{hashlib.sha256(data).hexdigest()[:16]}"
