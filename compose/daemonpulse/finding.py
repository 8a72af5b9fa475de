"""One thing that `daemonpulse check` looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether it works, what was seen, and the fix if it does not."""

    daemon: str
    what: str
    works: bool
    seen: str
    fix: str = ""
