"""Masks text that looks like a secret or an address before export. Best effort, no guarantee."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from exporter.shared.linear import Pattern


def _mask(text: str) -> Callable[[Any], str]:
    return lambda _match: text


_SECRETS: Final[tuple[tuple[Pattern, Callable[[Any], str]], ...]] = (
    (Pattern(r"(?s)-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\z)"), _mask("[key]")),
    (Pattern(r"sk-[A-Za-z0-9_-]{2,}:?[A-Za-z0-9_-]{8,}"), _mask("[token]")),
    (Pattern(r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}"), _mask("Bearer [token]")),
    (Pattern(r"\b(?:gh[pousr]_|glpat-|xox[baprs]-|AKIA)[A-Za-z0-9_-]{8,}"), _mask("[token]")),
    (Pattern(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}"), _mask("[token]")),
    (
        Pattern(r"(?i)\b(password|passwd|secret|api[_-]?key|token)(\"?\s*[:=]\s*\"?)[^\s\",;}]{3,}"),
        lambda match: f"{match.group(1)}{match.group(2)}[secret]",
    ),
    (Pattern(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]+\.[A-Za-z]{2,24}"), _mask("[email]")),
)


MARGIN_CHARS: Final = 1_000
"""Dropped at the end of a text that was shortened first: a secret cut in half there would not be recognised."""


def redact(text: str, *, limit_chars: int | None = None) -> str:
    """Mask what looks like a secret or an e-mail address, in time linear in the text.

    With a limit, at most twice so many characters are looked at: what is left of the text after them is dropped.
    """
    most = len(text) if limit_chars is None else 2 * limit_chars + MARGIN_CHARS
    masked = text[:most]
    for pattern, mask in _SECRETS:
        masked = pattern.replace(mask, masked)
    return masked[:-MARGIN_CHARS] if len(text) > most else masked
