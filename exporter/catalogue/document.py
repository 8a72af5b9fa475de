"""Prints docs/METRICS.md from the catalogue: `python -m exporter.catalogue.document > docs/METRICS.md`.

The meaning of each metric is in the catalogue.
"""

from __future__ import annotations

import sys
from collections import Counter
from types import ModuleType
from typing import Final

from exporter.catalogue import (
    CATALOGUE,
    Metric,
    actions,
    daemon,
    energy,
    engine,
    hardware,
    log_stream,
    mcp,
    self_metrics,
    tap,
)

COMMAND: Final = "python -m exporter.catalogue.document > docs/METRICS.md"

_SECTIONS: Final[tuple[tuple[str, ModuleType], ...]] = (
    ("Daemon, models and instances", daemon),
    ("Log stream: predictions and slots", log_stream),
    ("Engines", engine),
    ("Tap: clients and exact phases", tap),
    ("GPUs and host", hardware),
    ("Energy", energy),
    ("The exporter itself", self_metrics),
    ("Actions", actions),
    ("MCP gate", mcp),
)
_INTRODUCTION: Final = f"""# Metrics

Made from the catalogue; do not edit. To refresh: `{COMMAND}`

Missing data is an absent series, never 0. Units are base units, and part of
the name. Counters start with the program that serves them, unless their meaning states otherwise.
"""
_HEAD: Final = "| Metric | Kind | Labels | Meaning | Source |\n| --- | --- | --- | --- | --- |"


def page() -> str:
    """Write the whole page. Raises ValueError for rows that no section shows, and for a name that two rows have."""
    shown = [row for _, module in _SECTIONS for row in _rows(module)]
    names = Counter(row.name for row in shown)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"catalogued twice: {', '.join(twice)}; give each metric a name of its own")
    if missing := {row.name for row in CATALOGUE} - names.keys():
        raise ValueError(f"rows of no section: {', '.join(sorted(missing))}; add their module to _SECTIONS")
    return "\n".join([_INTRODUCTION, *(_section(title, module) for title, module in _SECTIONS)])


def _rows(module: ModuleType) -> tuple[Metric, ...]:
    rows: tuple[Metric, ...] = module.ROWS
    return rows


def _section(title: str, module: ModuleType) -> str:
    about = (module.__doc__ or "").strip().removeprefix("Catalogue: ")
    lines = [f"## {title}", "", about[:1].upper() + about[1:], "", _HEAD, *map(_line, _rows(module)), ""]
    return "\n".join(lines)


def _line(row: Metric) -> str:
    told = row.help
    if row.buckets:
        told += f" Buckets: {', '.join(f'{bound:g}' for bound in row.buckets)}."
    labels = ", ".join(f"`{label}`" for label in row.labels)
    cells = (f"`{row.name}`", row.kind.value, labels, told, row.source)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(page())
