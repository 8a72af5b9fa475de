"""Bounds what is recorded: texts and JSON values from outside get a size before they reach the database. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

MAX_TEXT_CHARS: Final = 512
"""Of a name, subject or address in the audit."""
MAX_MARK_CHARS: Final = 200
"""Of an instance's reference or name, as it is kept to know it again."""
MAX_DETAIL_BYTES: Final = 16 * 1024
"""Of one audit row's detail, as JSON."""
MAX_RESULT_BYTES: Final = 128 * 1024
"""Of an operation's result or problem, as JSON."""
_CUTS: Final = ((1024, 64), (256, 32), (64, 16), (16, 4))
"""Characters of a text and items of a list or object that are kept, in the order they are tried."""
_MAX_DEPTH: Final = 6


canonical: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
).encode
"""Writes JSON the one way that is hashed: sorted keys, no spaces, ASCII."""


def text(value: str) -> str:
    """Cut a text to MAX_TEXT_CHARS, and make it one that every database takes."""
    short = value if len(value) <= MAX_TEXT_CHARS else f"{value[: MAX_TEXT_CHARS - 1]}…"
    return short.encode("utf-8", "backslashreplace").decode()


def mark(value: str) -> str:
    """Return a short text as it is, and for a long one, which a daemon may choose, one that tells it from others."""
    if len(value) <= MAX_MARK_CHARS:
        return value
    return f"{value[:64]}…{hashlib.sha256(value.encode('utf-8', 'backslashreplace')).hexdigest()[:32]}"


def bounded(value: Mapping[str, Any], most_bytes: int) -> tuple[dict[str, Any], str]:
    """Return a JSON object of at most `most_bytes` and its canonical text.

    A larger one keeps its structure with texts and lists cut shorter, and has `cut_from_bytes`; one that is still too
    large is replaced by its size and SHA-256.
    """
    written = canonical(value)
    if len(written) <= most_bytes:
        return dict(value), written
    size = len(written)
    for chars, items in _CUTS:
        shorter = {**_cut(value, chars, items, _MAX_DEPTH), "cut_from_bytes": size}
        text_of_it = canonical(shorter)
        if len(text_of_it) <= most_bytes:
            return shorter, text_of_it
    named = {"cut_from_bytes": size, "sha256": hashlib.sha256(written.encode()).hexdigest()}
    return named, canonical(named)


def _cut(value: Any, chars: int, items: int, depth: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= chars else f"{value[:chars]}…"
    if depth == 0 and isinstance(value, Mapping | list | tuple):
        return "…"
    if isinstance(value, Mapping):
        return {
            str(key)[:chars]: _cut(item, chars, items, depth - 1)
            for key, item in islice(value.items(), items)
        }
    if isinstance(value, list | tuple):
        return [_cut(item, chars, items, depth - 1) for item in value[:items]]
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * chars:
        return "…"
    return value
