"""Pure: tells whether a text is a URL that can be used, for every setting and every file that names one.

Knows no setting and no answer. urlsplit() takes nearly anything, and overlooks line breaks and tabs as it goes; what
it takes fails later, far from the line that is wrong.
"""

from __future__ import annotations

from urllib.parse import urlsplit


def is_http(text: str) -> bool:
    """Tell whether a URL can be asked: one word, http or https, a host, and a port that is one if there is any."""
    try:
        parts = urlsplit(text)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is no number
        return False
    return is_whole and text.isprintable() and " " not in text


def is_base(text: str) -> bool:
    """Tell whether paths can be put behind a URL: is_http(), with no user, query or fragment, no `//` in its path.

    The last is what a URL pasted into another one looks like: of https://http://host, the host is "http".
    An @ is refused wherever it stands: of http://user:1/2@host, the host is "user" and the password a path.
    """
    return is_http(text) and not any(sign in text for sign in "@?#") and text.count("//") == 1
