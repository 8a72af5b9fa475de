"""Regular expressions whose work grows linearly with the text, whatever the text is: RE2's, behind Python's names.

Patterns have no lookaround and no back-references, and their classes of characters (blanks, digits, letters) are
ASCII. Use it for every pattern on text from outside. The caller bounds the text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import re2

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False  # an invalid pattern is an exception, not a line on standard error


class PatternError(ValueError):
    """RE2 rejects the pattern; the message is the reason."""


class Pattern:
    """One compiled pattern."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        """Compile. Raises PatternError."""
        self.text = text
        try:
            self._compiled: Any = re2.compile(text, _OPTIONS)
        except re2.error as error:
            why = error.args[0] if error.args else ""
            raise PatternError(
                why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
            ) from None

    def found_in(self, text: str) -> bool:
        """Tell whether it matches anywhere."""
        return self._compiled.search(_encodable(text)) is not None

    def is_all_of(self, text: str) -> bool:
        """Tell whether it matches the whole text."""
        return self._compiled.fullmatch(_encodable(text)) is not None

    def replace(self, with_: Callable[[Any], str], text: str) -> str:
        """Replace every match by what `with_` makes of it; a match has `group(n)` as Python's."""
        return str(self._compiled.sub(with_, _encodable(text)))


def _encodable(text: str) -> str:
    """Write halves of surrogate pairs, which UTF-8 does not have, as question marks."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
