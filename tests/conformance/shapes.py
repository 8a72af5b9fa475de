"""Compare JSON values by shape: the same keys, the same JSON types, and the same words where words are official.

Knows no protocol; numbers and free texts may differ.
"""

from collections.abc import Iterator
from typing import Any

# Texts that both sides must word alike.
LITERAL_KEYS = {
    "type",
    "warning",
    "kind",
    "error",
    "code",
    "title",
    "rootTitle",
    "endpoint",
    "status",
    "stopReason",
}

# Optional fields of a prediction's stats differ from engine to engine; the SDKs' tests check what is sent.
FREE = {"stats"}


def differences(expected: Any, actual: Any, path: str = "") -> Iterator[str]:
    """Compare two values: the same keys, the same JSON types, and literal texts where both must be alike."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        yield from (f"{path}.{key} is missing" for key in sorted(expected.keys() - actual.keys() - FREE))
        yield from (f"{path}.{key} is too much" for key in sorted(actual.keys() - expected.keys() - FREE))
        for key in sorted((expected.keys() & actual.keys()) - FREE):
            if key in LITERAL_KEYS and isinstance(expected[key], str):
                if expected[key] != actual[key]:
                    yield f"{path}.{key} is {actual[key]!r} instead of {expected[key]!r}"
            else:
                yield from differences(expected[key], actual[key], f"{path}.{key}")
    elif isinstance(expected, list) and isinstance(actual, list):
        for first, other in list(zip(expected, actual, strict=False))[:1]:
            yield from differences(first, other, f"{path}[0]")
    elif _json_type(expected) != _json_type(actual):
        yield f"{path} is {actual!r} instead of something like {expected!r}"


def _json_type(value: Any) -> str:
    return (
        "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    )
