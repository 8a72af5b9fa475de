"""Validates URLs of settings and files. Pure.

urlsplit() accepts nearly anything and drops line breaks and tabs; such a URL would fail later, far from its setting.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def is_http(text: str) -> bool:
    """Tell whether a URL can be asked: one word, http or https, a host, and a port that is one if there is any."""
    try:
        parts = urlsplit(text)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is no number
        return False
    return is_whole and text.isprintable() and " " not in text


def is_base(text: str) -> bool:
    """Return whether paths can be appended to a URL: is_http(), with no user, query or fragment, no `//` in its path.

    A `//` comes from a URL pasted into another one: the host of https://http://host is "http". An @ is always
    refused: the host of http://user:1/2@host is "user" and the password a path.
    """
    return is_http(text) and not any(sign in text for sign in "@?#") and text.count("//") == 1


def port_of(parts: SplitResult) -> int:
    """Return the port of a URL, the scheme's own if it names none."""
    return parts.port or (443 if parts.scheme in {"https", "wss"} else 80)
