"""Colour arithmetic: WCAG contrast, colour blindness after Machado, distance as the eye sees it (CIE Lab).

Proves that colours of different meaning differ enough.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

Matrix: TypeAlias = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
Triple: TypeAlias = tuple[float, float, float]

BLINDNESS: Final[dict[str, Matrix]] = {
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
"""Machado, Oliveira, Fernandes (2009), severity 1.0, for linear RGB."""

_WHITE: Final = (0.95047, 1.0, 1.08883)
_TO_XYZ: Final[Matrix] = (
    (0.4124, 0.3576, 0.1805),
    (0.2126, 0.7152, 0.0722),
    (0.0193, 0.1192, 0.9505),
)


def contrast(one: str, other: str) -> float:
    """Compute the contrast ratio of two #rrggbb colours as WCAG 2.2 defines it, 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def distance(one: str, other: str, blindness: str = "") -> float:
    """Compute the distance of two #rrggbb colours in CIE Lab (delta E 1976), as seen with that blindness."""
    first, second = (_lab(_seen(color, blindness)) for color in (one, other))
    return math.dist(first, second)


def _linear(color: str) -> Triple:
    def linear(channel: int) -> float:
        value = channel / 255
        return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)

    red, green, blue = (linear(int(color[at : at + 2], 16)) for at in (1, 3, 5))
    return red, green, blue


def _luminance(color: str) -> float:
    red, green, blue = _linear(color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _seen(color: str, blindness: str) -> Triple:
    linear = _linear(color)
    if not blindness:
        return linear
    red, green, blue = (min(1.0, max(0.0, value)) for value in _times(BLINDNESS[blindness], linear))
    return red, green, blue


def _times(matrix: Matrix, triple: Triple) -> Triple:
    first, second, third = (sum(a * b for a, b in zip(line, triple, strict=True)) for line in matrix)
    return first, second, third


def _lab(linear: Triple) -> Triple:
    def curve(value: float) -> float:
        return value ** (1 / 3) if value > 216 / 24389 else (24389 / 27 * value + 16) / 116

    x, y, z = (curve(value / white) for value, white in zip(_times(_TO_XYZ, linear), _WHITE, strict=True))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)
