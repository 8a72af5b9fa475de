"""Overrides of single series and columns of a panel: by name, by expression, by query.

Does not depend on metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dashboards.kit import theme
from dashboards.kit.theme import Json


def _properties(told: Mapping[str, Any]) -> list[Json]:
    return [{"id": key.replace("__", "."), "value": value} for key, value in told.items()]


def named(name: str, **told: Any) -> Json:
    """Tell the series or column of that name; custom__x is custom.x."""
    return {"matcher": {"id": "byName", "options": name}, "properties": _properties(told)}


def matching(pattern: str, **told: Any) -> Json:
    """Tell the series whose names match the regular expression."""
    return {"matcher": {"id": "byRegexp", "options": f"/{pattern}/i"}, "properties": _properties(told)}


def colored(colors: Mapping[str, str]) -> list[Json]:
    """Give each name its colour."""
    return [named(name, color=theme.fixed(color)) for name, color in colors.items()]


def leveled(colors: Mapping[str, str]) -> list[Json]:
    """Give each log level its colour, however a program writes it (warn, WARN, warning)."""
    return [matching(f"^{name}", color=theme.fixed(color)) for name, color in colors.items()]


PERCENTILES: Final = (
    named("p50", color=theme.fixed(theme.PERCENTILES["p50"]), custom__fillOpacity=14),
    named("p95", color=theme.fixed(theme.PERCENTILES["p95"]), custom__lineWidth=2, custom__fillOpacity=0),
    named(
        "p99",
        color=theme.fixed(theme.PERCENTILES["p99"]),
        custom__fillOpacity=0,
        custom__lineStyle={"fill": "dash", "dash": [6, 4]},
    ),
)
"""p50 filled, p95 bold, p99 dashed: the same on every board."""

MODELS: Final = tuple(
    matching(f".*({pattern}).*", color={"mode": "shades", "fixedColor": color})
    for pattern, color in theme.FAMILIES
)
"""A hue per family of models, a shade per model."""


NAMES: Final = tuple(
    matching(f"^[{initials}].*", color={"mode": "shades", "fixedColor": color})
    for initials, color in zip(("a-c", "d-f", "g-l", "m-o", "p-r", "s-z"), theme.HUES, strict=True)
)
"""A hue by the initial of a name, for names that are not known in advance: clients, tools, routes; shades within."""

GPUS: Final = tuple(
    matching(f".*GPU {index}( .*)?$", color={"mode": "shades", "fixedColor": color})
    for index, color in enumerate(theme.GPUS)
)
"""A hue per GPU index, a shade per host."""


def limit(name: str, color: str = theme.SLATE) -> Json:
    """Draw a limit: dashed, not filled, not stacked."""
    return named(
        name,
        color=theme.fixed(color),
        custom__lineStyle={"fill": "dash", "dash": [8, 6]},
        custom__fillOpacity=0,
        custom__lineWidth=1,
        custom__stacking={"mode": "none", "group": "B"},
    )


def line(name: str, color: str = theme.INDIGO, **told: Any) -> Json:
    """Give one series its colour."""
    return named(name, color=theme.fixed(color), **told)
