"""Names the client: by the hash of the API key, by a header, else by the family of the program.

Keys are compared by their SHA-256 and never kept. Names are bounded in number, so that they can be a label.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from exporter.shared.labels import OTHER, FirstFew

UNKNOWN: Final = "unknown"
MAX_NAMES: Final = 100
"""Names taken from a header, apart from those of the file; more are `other`."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_BEARER: Final = re.compile(r"(?i:bearer)\s+(\S+)")

_FAMILIES: Final = (
    ("openai-python", re.compile(r"(Async)?OpenAI/Python", re.IGNORECASE)),
    ("openai-js", re.compile(r"(Async)?OpenAI/JS", re.IGNORECASE)),
    ("anthropic-python", re.compile(r"(Async)?Anthropic/Python", re.IGNORECASE)),
    ("anthropic-js", re.compile(r"Anthropic/JS", re.IGNORECASE)),
    ("claude-code", re.compile(r"claude-(cli|code)/", re.IGNORECASE)),
    ("lmstudio-python", re.compile(r"lmstudio-python", re.IGNORECASE)),
    ("langchain", re.compile(r"langchain", re.IGNORECASE)),
    ("litellm", re.compile(r"litellm", re.IGNORECASE)),
    ("open-webui", re.compile(r"open[-_ ]?webui", re.IGNORECASE)),
    ("n8n", re.compile(r"\bn8n\b", re.IGNORECASE)),
    ("curl", re.compile(r"curl/", re.IGNORECASE)),
    ("httpx", re.compile(r"python-httpx/", re.IGNORECASE)),
    ("requests", re.compile(r"python-requests/", re.IGNORECASE)),
    ("aiohttp", re.compile(r"aiohttp/", re.IGNORECASE)),
    ("websockets", re.compile(r"websockets/", re.IGNORECASE)),
    ("browser", re.compile(r"Mozilla/")),
    ("node", re.compile(r"node|undici", re.IGNORECASE)),
    ("go", re.compile(r"Go-http-client/", re.IGNORECASE)),
)


class Clients:
    """Maps requests to names. `keys` maps the SHA-256 of an API key, in hexadecimal, to a name."""

    def __init__(self, keys: Mapping[str, str], header: str = "") -> None:
        self._keys = dict(keys)
        self._header = header.lower()
        self._seen = FirstFew(MAX_NAMES)

    def of_request(self, headers: Mapping[str, str]) -> str:
        """Name the client of a request. `headers` by lower-case name."""
        bearer = _BEARER.fullmatch(headers.get("authorization", ""))
        key = bearer[1] if bearer is not None else headers.get("x-api-key", "")
        named = self.of_key(key)
        if named is not None:
            return named
        if self._header and (given := headers.get(self._header, "")):
            return self._bounded(given)
        agent = headers.get("user-agent", "")[:256]
        return next((name for name, family in _FAMILIES if family.search(agent)), UNKNOWN)

    def of_key(self, key: str) -> str | None:
        """Name the owner of an API key; None for a key that the map does not have."""
        if not key or not self._keys:
            return None
        return self._keys.get(hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest())

    def _bounded(self, name: str) -> str:
        return self._seen.name(name) if NAME.fullmatch(name) else OTHER


def read_keys(text: str) -> dict[str, str]:
    """Read the lines `SHA256 NAME` of a client file; # begins a comment. Raises ValueError, which names the line."""
    keys: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].split()
        if not content:
            continue
        if len(content) != 2 or not re.fullmatch(r"[0-9a-fA-F]{64}", content[0]):  # noqa: PLR2004 - hash and name
            raise ValueError(f"line {number}: write the SHA-256 of a key and a name, never the key itself")
        if not NAME.fullmatch(content[1]):
            raise ValueError(f"line {number}: a name has letters, digits, '.', '_' and '-', at most 63")
        keys[content[0].lower()] = content[1]
    if len(set(keys.values())) > MAX_NAMES:
        raise ValueError(f"more than {MAX_NAMES} names; they are values of a label")
    return keys
