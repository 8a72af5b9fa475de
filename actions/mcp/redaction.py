"""Redacts arguments for records and approvals, with bounded size, and computes their digest.

Redaction matches names and shapes of secrets; it cannot find every secret. Records hide more than necessary. Approvals
show every character around a secret, because a command must not be hidden as one.
"""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from actions.mcp.look_alikes import visible
from exporter.shared.linear import Pattern

REDACTED: Final = "[redacted]"

PREVIEW_CHARS: Final = 65_536
"""Limit of the arguments of a call that can be approved."""

_RECORD_CHARS: Final = 8_000
"""Of all arguments of one call in an audit row."""
_STRING_CHARS: Final = 500
_DEPTH: Final = 12
_ITEMS: Final = 50
_PASSWORD_CHARS: Final = 256
_SEARCHED_CHARS: Final = 20_000
"""Of a text or a name; what follows is in no record."""

_SECRET_NAME: Final = Pattern(
    r"(?i)pass(?:word|wd|phrase)?$|passw|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|authori[sz]ation|cookie"
    r"|credential|bearer|signature|^auth$|^pin$|^otp$"
)
_PROGRAM_NAME: Final = Pattern(
    r"(?i)(?:askpass|command|cmd|helper|process|program|script|file|path|ur[li]|host(?:name)?|domain|address|recipients?"
    r"|name|(?:max|min|num)_?(?:new_?)?tokens)$"
)
"""SSH_ASKPASS, credential_process, secret_name: an approver must see what is run, read or addressed."""
_KEY_BLOCK: Final = Pattern(
    r"(?s)(-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----).*?(-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z)"
)
_KEY_BODY: Final = Pattern(
    r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:\r?\n|\\n)"
    r"(?:[A-Za-z-]{3,20}: [A-Za-z0-9,. -]{1,100}(?:\r?\n|\\n)){0,4}(?:\r?\n|\\n)?)"
    r"((?:[A-Za-z0-9+/=]{60,76}(?:\r?\n|\\n))*[A-Za-z0-9+/=]{60,76})"
)
"""The full lines of a key only: a command after its first line stays visible, and so does the last, short line."""
_KEY_LINE: Final = Pattern(r"[A-Za-z0-9+/]{58,76}={0,2}")
_KEY_LINES: Final = 256
"""An RSA key of 16,384 bits has 200."""
_KEY_SLASHES: Final = 6
"""In a line of a key; a line of random base64 has more once in 10,000 times, a long path has nothing else."""
_SECRET_SHAPES: Final = tuple(
    Pattern(pattern)
    for pattern in (
        r"(?i)(\b(?:bearer|basic)[ \t]+)[a-z0-9._~+/=-]{8,}()",
        r"()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*()",
        r"()\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}()",
        r"()\b(?:gh[pousr]|github_pat|glpat|hf|npm|dop_v1)[-_][A-Za-z0-9_]{16,}()",
        r"()\bxox[abeoprs]-[A-Za-z0-9-]{8,}()",
        r"()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b()",
        r"()\bAIza[A-Za-z0-9_-]{30,}()",
        r"()\bdp_[a-z2-7]{8}_[A-Za-z0-9_-]{20,}()",
        r"(://)[^/?#\\\s:@]*:[^/?#\\\s@]+(@)",
        r"(?i)([?&](?:api_?key|access_token|token|key|secret|signature|sig|password)=)[^&\s#]+()",
    )
)
"""The groups before and after the secret stay."""
_NAMED: Final = tuple(
    Pattern(
        r"(?i)((?:password|passwd|passphrase|secret|api[_-]?key|(?:access|auth|refresh)[_-]?token|private[_-]?key)"
        + rest
    )
    for rest in (
        r"""\\{0,7}["']?[ \t]{0,4}[:=][ \t]{0,4}\\{0,7}["'])[^"'\\]+()""",  # JSON in a text, at any depth
        r"=)[^\s\"'\\&;,]+()",
    )
)
"""Values after the name of a secret, in records only: an approver must see a command after such a name."""
_COMMAND: Final = frozenset(";|&$<>`(){}'\"\\")
"""Characters that a shell interprets and that secrets of these shapes do not have."""

_TOKEN_CHARS: Final = 4_096
"""Longer words are no tokens: an approver sees them. A JWT with an RSA signature has 1,000 to 2,000."""
_PATH_STARTS: Final = ("/", "./", "../", "~", "-")
_SEPARATOR: Final = Pattern(r"[^A-Za-z0-9]+")
_SHORTEST_RANDOM: Final = 12
"""Longer parts of a word without a separator are taken for random."""

_SHORTEST_KNOWN: Final = 4
"""Shorter values (a port, "1") occur in ordinary text."""


def redact_text(text: str, known: Iterable[str] = ()) -> str:
    """Replace everything that looks like a secret, and every `known` secret, by `[redacted]`."""
    text = _KEY_BLOCK.replace(_marked, _without_known(text, known))
    for shape in (*_SECRET_SHAPES, *_NAMED):
        text = shape.replace(_marked, text)
    return text


def redact(value: Any, known: Iterable[str] = ()) -> Any:
    """Copy JSON without secrets for a record; depth, width and length are cut to about _RECORD_CHARS."""
    return _Record(tuple(known)).copy(value, _DEPTH)


def preview(arguments: Mapping[str, Any], known: Iterable[str] = ()) -> str | None:
    """Return the arguments as text for an approver; None if longer than PREVIEW_CHARS."""
    hidden = tuple(
        one for one in known if not _is_path(one) and "://" not in one
    )  # a folder, a server's address
    text = json.dumps(_for_person(arguments, hidden, hidden=False), ensure_ascii=False)
    return visible(text) if len(text) <= PREVIEW_CHARS else None


def digest(value: Any, key: bytes = b"") -> str:
    """Return the HMAC-SHA-256 of JSON: sorted keys, no spaces, ASCII.

    Without the `key`, a digest does not confirm a guess of the value.
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hmac.digest(key, canonical.encode(), "sha256").hex()


def redact_command(words: Iterable[str]) -> list[str]:
    """Redact a command line: the values of `--token`, `API_KEY=` and similar."""
    shown: list[str] = []
    hide_next = False
    for word in words:
        name, equals, _ = word.partition("=")
        if hide_next and not word.startswith("-"):
            shown.append(REDACTED)
        elif equals and _SECRET_NAME.found_in(name.lstrip("-")):
            shown.append(f"{name}={REDACTED}")
        else:
            shown.append(redact_text(word))
        hide_next = not equals and word.startswith("-") and _SECRET_NAME.found_in(word.lstrip("-"))
    return shown


class _Record:
    """One copy for a record, with the size that is left."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known
        self._left = _RECORD_CHARS

    def copy(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._copy_mapping(value, depth)
        if isinstance(value, list):
            return self._copy_list(value, depth)
        if isinstance(value, str):
            # Cut after redacting: a part of a secret is still secret.
            shown = redact_text(value[:_SEARCHED_CHARS], self._known)
            room = min(_STRING_CHARS, max(self._left, 0))
            if len(shown) > room:
                shown = f"{shown[:room]}... ({len(value)} characters)"
            self._left -= len(shown)
            return shown
        self._left -= 8
        # JSON has no NaN.
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    def _copy_mapping(self, value: Mapping[str, Any], depth: int) -> Any:
        if depth == 0 or self._left <= 0:
            return "{...}"
        kept: dict[str, Any] = {}
        for key, child in list(value.items())[:_ITEMS]:
            shown = redact_text(str(key)[:_SEARCHED_CHARS], self._known)[:100]
            self._left -= len(shown)
            hidden = _SECRET_NAME.found_in(str(key)[:_SEARCHED_CHARS])
            kept[_free(kept, shown)] = REDACTED if hidden else self.copy(child, depth - 1)
        if len(value) > _ITEMS:
            kept["..."] = f"{len(value) - _ITEMS} more"
        return kept

    def _copy_list(self, value: list[Any], depth: int) -> Any:
        if depth == 0 or self._left <= 0:
            return "[...]"
        items = [self.copy(child, depth - 1) for child in value[:_ITEMS]]
        return [*items, f"... {len(value) - _ITEMS} more"] if len(value) > _ITEMS else items


def _free(taken: Mapping[str, Any], key: str) -> str:
    """Return a key, numbered if it is taken: two secrets as keys are two entries."""
    return key if key not in taken else f"{key} ({len(taken) + 1})"


def _for_person(value: Any, known: tuple[str, ...], *, hidden: bool) -> Any:
    """Copy JSON in full. A short word under the name of a secret is hidden; a command or a path is not."""
    if isinstance(value, Mapping):
        shown: dict[str, Any] = {}
        for key, child in value.items():
            name = str(key)[:_SEARCHED_CHARS]
            is_hidden = (hidden or _SECRET_NAME.found_in(name)) and not _PROGRAM_NAME.found_in(name)
            place = _free(shown, _text_for_person(str(key), known))
            shown[place] = _for_person(child, known, hidden=is_hidden)
        return shown
    if isinstance(value, list):
        hidden = hidden and not any(isinstance(child, str) and _is_path(child) for child in value)
        return [_for_person(child, known, hidden=hidden) for child in value]
    if isinstance(value, str):
        return _value_for_person(value) if hidden and _is_value(value) else _text_for_person(value, known)
    if hidden and value is not None and not isinstance(value, bool):
        return REDACTED
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _text_for_person(text: str, known: tuple[str, ...]) -> str:
    text = _KEY_BODY.replace(_marked_key, _without_known(text, known))
    for shape in _SECRET_SHAPES:
        text = shape.replace(_marked_before_command, text)
    return text


def _is_value(text: str) -> bool:
    """Tell whether a text under the name of a secret can be a value rather than a command or a path."""
    return len(text) <= _PASSWORD_CHARS and not any(map(str.isspace, text)) and not _is_path(text)


def _value_for_person(text: str) -> str:
    """Hide a value up to the first character that a shell interprets."""
    end = next((at for at, char in enumerate(text) if char in _COMMAND), len(text))
    return f"{REDACTED if end else ''}{text[end:]}"


def _is_path(text: str) -> bool:
    return text.startswith(_PATH_STARTS) or "../" in text


def _is_token(text: str) -> bool:
    """Tell whether a word looks random, as tokens do: not a path, nor words joined by separators."""
    if not text.isascii() or len(text) > _TOKEN_CHARS or _is_path(text):
        return False
    if text.startswith("eyJ"):  # of a JWT the payload is a JSON object too
        return ".eyJ" in text
    return any(
        len(part) >= _SHORTEST_RANDOM
        or ("/" not in text and not part.isdigit() and any(map(str.isdigit, part)))
        for part in _SEPARATOR.replace(lambda _match: " ", text).split()
    )


def _without_known(text: str, known: Iterable[str]) -> str:
    for secret in sorted(known, key=len, reverse=True):  # longest first: one may contain another
        if len(secret) >= _SHORTEST_KNOWN:
            text = text.replace(secret, REDACTED)
    return text


def _marked(match: Any) -> str:
    return f"{match.group(1)}{REDACTED}{match.group(2)}"


def _marked_key(match: Any) -> str:
    """Hide the lines of a key up to the first one that can be a path, or another command of base64's letters."""
    body: str = match.group(2)
    separator = next((one for one in ("\r\n", "\\n") if one in body), "\n")
    lines = body.split(separator)
    end = next((at for at, line in enumerate(lines[:_KEY_LINES]) if not _is_key_line(line)), _KEY_LINES)
    return str(match.group(1)) + separator.join([*([REDACTED] if end else []), *lines[end:]])


def _is_key_line(line: str) -> bool:
    return (
        _KEY_LINE.is_all_of(line)
        and line.count("/") <= _KEY_SLASHES
        and any(map(str.isdigit, line))
        and any(map(str.isupper, line))
        and any(map(str.islower, line))
    )


def _marked_before_command(match: Any) -> str:
    """Hide a secret up to the first character that a shell interprets or tokens do not have, if it looks like one."""
    before, after = match.group(1), match.group(2)
    whole: str = match.group(0)
    secret = whole[len(before) : len(whole) - len(after)]
    end = next((at for at, char in enumerate(secret) if char in _COMMAND or not char.isascii()), len(secret))
    is_user = after == "@" and 0 < end <= _PASSWORD_CHARS and secret.isascii()
    is_hidden = is_user or _is_token(secret[:end])
    return f"{before}{REDACTED}{secret[end:]}{after}" if is_hidden else whole
