"""LM Studio's API tokens: their form, and a value that does not show itself."""

from __future__ import annotations

import re
from typing import Final

PATTERN: Final = re.compile(r"sk-lm-([A-Za-z0-9]{8}):([A-Za-z0-9]{20})")
"""Group 1 is sent as clientIdentifier, group 2 as clientPasskey."""
EXAMPLE: Final = "sk-lm-XXXXXXXX:YYYYYYYYYYYYYYYYYYYY"


class Secret:
    """A token that does not show itself in logs, errors or reprs."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"
