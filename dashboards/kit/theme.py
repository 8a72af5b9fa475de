"""How the boards look: the palette, the words for states, the units. One place, so that a meaning has one colour.

Slate and indigo on Grafana's dark theme. Blue is well, amber wants attention, red is a fault: told apart by lightness
too, and never alone: a state is always a word as well.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from dashboards.kit.promql import QueryError

Json: TypeAlias = dict[str, Any]

# Grafana's dark theme: what the colours below lie on.
CANVAS: Final = "#111217"
PANEL: Final = "#181b1f"

INDIGO: Final = "#a5b4fc"
SLATE: Final = "#94a3b8"
WELL: Final = "#7dd3fc"
ATTENTION: Final = "#fbbf24"
FAULT: Final = "#f87171"
QUIET: Final = "#cbd5e1"

PALETTE: Final = {
    "indigo": INDIGO,
    "slate": SLATE,
    "well": WELL,
    "attention": ATTENTION,
    "fault": FAULT,
    "quiet": QUIET,
}

BUTTON: Final = "#3730a3"
"""Behind the white words of a button; danger below."""
BUTTON_DANGER: Final = "#991b1b"
BUTTON_TEXT: Final = "#ffffff"

_UNITS: Final = {
    "": "short",
    "seconds": "s",
    "bytes": "bytes",
    "ratio": "percentunit",
    "tokens": "short",
    "tokens_per_second": "suffix: tok/s",
    "tokens/s": "suffix: tok/s",
    "celsius": "celsius",
    "watts": "watt",
    "joules": "joule",
    "joules/s": "watt",
    "hertz": "hertz",
    "bytes_per_second": "binBps",
    "bytes/s": "binBps",
    "seconds/s": "percentunit",
    "/s": "suffix: /s",
}
"""Grafana's unit by the catalogue's."""


def unit(base: str) -> str:
    """Give Grafana's unit for a catalogued one. Raises QueryError for one it does not know."""
    if base not in _UNITS:
        raise QueryError(f"unit {base!r} has no display; add it to dashboards/kit/theme.py")
    return _UNITS[base]


def words(**states: tuple[str, str]) -> list[Json]:
    """Map values to words: `_1=("Running", WELL)`; a leading _ is dropped, so that numbers can be keys."""
    return [
        {
            "type": "value",
            "options": {
                value.removeprefix("_"): {"text": text, "color": color, "index": index}
                for index, (value, (text, color)) in enumerate(states.items())
            },
        }
    ]


YES_NO: Final = words(_0=("No", SLATE), _1=("Yes", INDIGO))
UP_DOWN: Final = words(_0=("Down", FAULT), _1=("Up", WELL))
RISK: Final = words(_0=("No", WELL), _1=("Yes", ATTENTION))
GUARD: Final = words(_0=("No", ATTENTION), _1=("Yes", WELL))
FAULTY: Final = words(_0=("Fine", WELL), _1=("Fault", FAULT))
DAEMON_STATES: Final = ("down", "stalled", "refused", "running")
DAEMON_WORDS: Final = words(
    _1=("Down", FAULT), _2=("Stalled", ATTENTION), _3=("Refused", ATTENTION), _4=("Running", WELL)
)
INSTANCE_STATES: Final = ("idle", "processing_prompt", "generating", "computing_embedding")
INSTANCE_WORDS: Final = words(
    _0=("Unknown", QUIET),  # a newer daemon may be in a state that none of these is
    _1=("Idle", SLATE),
    _2=("Reading", ATTENTION),
    _3=("Writing", INDIGO),
    _4=("Embedding", WELL),
)
SLOT_WORDS: Final = words(_0=("Free", SLATE), _1=("Busy", INDIGO))


def steps(base: str, *marks: tuple[float, str]) -> Json:
    """Colour by thresholds: `steps(WELL, (0.8, ATTENTION), (0.95, FAULT))`."""
    return {
        "mode": "absolute",
        "steps": [
            {"value": None, "color": base},
            *({"value": value, "color": color} for value, color in marks),
        ],
    }


PLAIN: Final = steps(INDIGO)
FULL: Final = steps(WELL, (0.85, ATTENTION), (0.95, FAULT))
NONE_IS_WELL: Final = steps(WELL, (1, FAULT))
FEW_IS_WELL: Final = steps(WELL, (1, ATTENTION))


def contrast(one: str, other: str) -> float:
    """Compute the contrast ratio of two #rrggbb colours as WCAG 2.2 defines it."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    def linear(channel: int) -> float:
        value = channel / 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4  # noqa: PLR2004 - sRGB

    red, green, blue = (linear(int(color[at : at + 2], 16)) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
