"""Pure: checks Host headers against the listener's names, and Origin headers against the Host.

By DNS rebinding, a web page can point its own name at 127.0.0.1 and read a listener of this host as its own origin.
It cannot change the Host header that the browser sends. Beyond loopback the name proves nothing; tokens, passwords
and certificates protect such a listener.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

_HOST: Final = re.compile(r"(?P<name>\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address is a loopback name, which other hosts cannot reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def accepted(listen_host: str, allowed: Iterable[str]) -> frozenset[str] | None:
    """Give the names that a listener answers to; None for any, beyond loopback."""
    return LOOPBACK_NAMES | {listen_host.lower(), *allowed} if is_loopback(listen_host) else None


def name_of(host: str) -> str:
    """Take the port off a Host header; "" for one that is not a name, or an address in brackets, and then a port."""
    named = _HOST.fullmatch(host.lower())
    return named["name"] if named is not None else ""


def is_same_place(origin: str, host: str, allowed: Iterable[str]) -> bool:
    """Tell whether an Origin is the very place that was asked, or one that was allowed by name.

    Another port of the same host is another origin. `null` (a sandboxed frame, a file) is none.
    """
    try:
        parts = urlsplit(origin)
        place, name = parts.netloc.lower(), name_of(parts.netloc)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(place) and (place == host.lower() or name in allowed)
