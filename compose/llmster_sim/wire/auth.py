"""Decide who may connect: API tokens, and passkeys fixed by the first connection under an identifier.

Does not depend on sockets: a packet in, None or the reason of the refusal out.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

# Official schema: the prefix is not sent over a WebSocket, the two parts are.
_TOKEN = re.compile(r"sk-lm-(?P<identifier>[A-Za-z0-9]{8}):(?P<passkey>[A-Za-z0-9]{20})")
_IDENTIFIER_OF_TOKEN = re.compile(r"[A-Za-z0-9]{8}")
_LONGEST = 256

REST_UNAUTHORIZED = (
    "An LM Studio API token is required to make requests to this server, but none was provided using the"
    " Authorization header using the 'Bearer' scheme (i.e., 'Authorization: Bearer $LM_API_TOKEN'). Learn more"
    " at: https://lmstudio.ai/docs/developer/core/authentication."
)


class Authority:
    """Holds the token and the passkeys of connected clients."""

    def __init__(self, *, token: str | None) -> None:
        if token is not None and _TOKEN.fullmatch(token) is None:
            raise ValueError(
                "token must look like sk-lm-XXXXXXXX:YYYYYYYYYYYYYYYYYYYY (8 and 20 letters or digits)"
            )
        self._token = token
        self._revoked = False
        self._passkeys: dict[str, str] = {}
        self._connections: Counter[str] = Counter()

    def revoke(self) -> None:
        """Refuse the token from now on."""
        self._revoked = True

    def rotate(self, token: str) -> None:
        """Take another token from now on, and no longer the one before."""
        self._token = token

    def packet(self, frame: Any) -> tuple[str, str] | None:
        """Give identifier and passkey of an auth packet; None when it is none (and is ignored then)."""
        if not isinstance(frame, dict) or frame.get("authVersion") != 1:
            return None
        identifier, passkey = frame.get("clientIdentifier"), frame.get("clientPasskey")
        if not isinstance(identifier, str) or not isinstance(passkey, str):
            return None
        return (identifier, passkey) if max(len(identifier), len(passkey)) <= _LONGEST else None

    def admit(self, *, identifier: str, passkey: str) -> str | None:
        """Let a client in (None) or say why not, in the daemon's words (recorded)."""
        if self._token is not None:
            match = _TOKEN.fullmatch(self._token)
            known = match is not None and (identifier, passkey) == (match["identifier"], match["passkey"])
            if not known or self._revoked:
                if _IDENTIFIER_OF_TOKEN.fullmatch(identifier):
                    return "Invalid API token."
                return "An LM Studio API token is required to connect to this server, but none was provided."
        elif self._passkeys.setdefault(identifier, passkey) != passkey:
            return f'Failed to validate client: Invalid client passkey for client "{identifier}"'
        self._connections[identifier] += 1
        return None

    def leave(self, identifier: str) -> None:
        """Note that a connection ended. Assumed: with a client's last one its passkey is forgotten."""
        self._connections[identifier] -= 1
        if self._connections[identifier] <= 0:
            del self._connections[identifier]
            self._passkeys.pop(identifier, None)

    def rest_refusal(self, header: str | None) -> str | None:
        """Why an HTTP request is refused; None when it may pass."""
        if self._token is None:
            return None
        if header is None or not header.startswith("Bearer "):
            return REST_UNAUTHORIZED
        if self._revoked or header.removeprefix("Bearer ").strip() != self._token:
            return "Invalid API token."  # Assumed: the WebSocket's words; no REST sample is known.
        return None
