"""The token for the text of running requests: read from a file, compared in constant time.

Tap, exporter and actions API share one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from typing import Final

from exporter.shared import bounded_file
from exporter.shared.settings_table import SettingsError

_TOKEN: Final = re.compile(r"[\x21-\x7e]{32,512}")
_MAX_FILE_BYTES: Final = 4096
_SCHEME: Final = "bearer "


class LiveToken:
    """A token that does not show itself in logs, errors or reprs."""

    __slots__ = ("_value", "digest")

    def __init__(self, value: str) -> None:
        self._value = value
        self.digest = hashlib.sha256(value.encode()).digest()

    @property
    def header(self) -> str:
        """The value of an Authorization header that opens the door."""
        return f"Bearer {self._value}"

    def __repr__(self) -> str:
        return "LiveToken(…)"


def opens(token: LiveToken, authorization: str) -> bool:
    """Tell whether an Authorization header carries the token."""
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        return False
    presented = authorization[len(_SCHEME) :].strip().encode("utf-8", "surrogateescape")
    return hmac.compare_digest(hashlib.sha256(presented).digest(), token.digest)


def from_file(value: str, key: str) -> LiveToken | None:
    """Read the file that a setting names; None without one. Raises SettingsError."""
    if not value:
        return None
    try:
        text = bounded_file.read_text(Path(value), at_most=_MAX_FILE_BYTES).strip()
    except (OSError, ValueError) as error:
        fix = f"the token file cannot be read ({bounded_file.why(error)})"
        raise SettingsError(key=key, value=value, fix=fix) from None
    if not _TOKEN.fullmatch(text):
        fix = "put 32 or more printable characters in it: head -c 32 /dev/urandom | base64"
        raise SettingsError(key=key, value=value, fix=fix)
    return LiveToken(text)
