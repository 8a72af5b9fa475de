"""What may be shown or recorded of arguments: secrets out, length bounded; and a digest of all of it.

Knows no policy. Redaction is by name and by shape: it catches what looks like a secret, not every secret.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

REDACTED: Final = "[redacted]"

PREVIEW_CHARS: Final = 2_000
_STRING_CHARS: Final = 500
_DEPTH: Final = 12
_ITEMS: Final = 50

_SECRET_NAME: Final = re.compile(
    r"pass(word|wd|phrase)?$|passw|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|authori[sz]ation|cookie"
    r"|credential|bearer|signature|^auth$|^pin$|^otp$",
    re.IGNORECASE,
)
_SECRET_SHAPES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)",
        r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}",
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*",
        r"\b(sk|pk|rk)[-_][A-Za-z0-9_-]{16,}",
        r"\b(gh[pousr]|github_pat|glpat|hf|npm|dop_v1)[-_][A-Za-z0-9_]{16,}",
        r"\bxox[abeoprs]-[A-Za-z0-9-]{8,}",
        r"\b(AKIA|ASIA)[A-Z0-9]{16}\b",
        r"\bAIza[A-Za-z0-9_-]{30,}",
        r"\bdp_[a-z2-7]{8}_[A-Za-z0-9_-]{20,}",
        r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",
        r"(?i)(?<=[?&])(api_?key|access_token|token|key|secret|signature|sig|password)=[^&\s#]+",
    )
)


def redact_text(text: str, known: Iterable[str] = ()) -> str:
    """Replace what looks like a secret, and every `known` one, with a mark."""
    for secret in sorted(known, key=len, reverse=True):  # the longest first: one may begin or end another
        if len(secret) >= 4:  # noqa: PLR2004 - shorter values (a port, "1") are in everything
            text = text.replace(secret, REDACTED)
    for shape in _SECRET_SHAPES:
        text = shape.sub(REDACTED, text)
    return text


def redact(value: Any, known: Iterable[str] = (), *, depth: int = _DEPTH) -> Any:
    """Copy JSON without secrets, cut where it is deep, wide or long."""
    secrets = tuple(known)
    if isinstance(value, Mapping):
        if depth == 0:
            return "{...}"
        kept = {}
        for key, child in list(value.items())[:_ITEMS]:
            shown = redact_text(str(key)[:20_000], secrets)[:100]
            hidden = _SECRET_NAME.search(str(key)) is not None
            kept[shown] = REDACTED if hidden else redact(child, secrets, depth=depth - 1)
        if len(value) > _ITEMS:
            kept["..."] = f"{len(value) - _ITEMS} more"
        return kept
    if isinstance(value, list):
        if depth == 0:
            return "[...]"
        items = [redact(child, secrets, depth=depth - 1) for child in value[:_ITEMS]]
        return [*items, f"... {len(value) - _ITEMS} more"] if len(value) > _ITEMS else items
    if isinstance(value, str):
        # Cut only after redacting: half a secret is one still. Bounded first, generously, for the expressions' sake.
        shown = redact_text(value[:20_000], secrets)
        return (
            shown if len(shown) <= _STRING_CHARS else f"{shown[:_STRING_CHARS]}... ({len(value)} characters)"
        )
    # NaN is no JSON, and no record takes it as a number.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def preview(arguments: Mapping[str, Any], known: Iterable[str] = ()) -> str:
    """Write arguments for a person who decides about them: JSON, redacted, at most PREVIEW_CHARS."""
    text = json.dumps(redact(arguments, known), ensure_ascii=False, default=str)
    return text if len(text) <= PREVIEW_CHARS else text[:PREVIEW_CHARS] + "..."


def digest(arguments: Mapping[str, Any]) -> str:
    """Name arguments without showing them: SHA-256 of their canonical JSON."""
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def redact_command(words: Iterable[str]) -> list[str]:
    """Show a command line: what follows `--token`, `API_KEY=` and the like is a mark."""
    shown: list[str] = []
    hide_next = False
    for word in words:
        name, equals, _ = word.partition("=")
        if hide_next and not word.startswith("-"):
            shown.append(REDACTED)
        elif equals and _SECRET_NAME.search(name.lstrip("-")):
            shown.append(f"{name}={REDACTED}")
        else:
            shown.append(redact_text(word))
        hide_next = not equals and word.startswith("-") and bool(_SECRET_NAME.search(word.lstrip("-")))
    return shown
