"""How the client verbs print an answer: as JSON or as words, as a table, with sizes and ages."""

from __future__ import annotations

from typing import Any

from exporter.shared.terminal import say, say_json


def show(answer: Any, words: str, *, as_json: bool) -> None:
    """Print an answer whole, or a line of words instead."""
    if as_json:
        say_json(answer)
    else:
        say(words)


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Print a table with aligned columns; None is a dash."""
    cells = [head, *([("-" if value is None else str(value)) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def gib(*sizes: float) -> str:
    """Write bytes, or bytes of bytes: `3.20 GiB`, `3.20 of 24.00 GiB`."""
    return f"{' of '.join(f'{size / 1024**3:.2f}' for size in sizes)} GiB"


def age_of(seconds: float | None) -> str:
    """Say how old a reading of memory is, where it was not read now."""
    return f", {seconds:.0f} s ago" if seconds else ""
