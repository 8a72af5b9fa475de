"""Bounds the length of label values that come from outside: names of models, instances, tools, devices."""

from __future__ import annotations

import hashlib
from typing import Final

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
