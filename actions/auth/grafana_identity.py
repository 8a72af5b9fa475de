"""Verifies X-Grafana-Id, a JWT signed by Grafana that names the person; X-Grafana-User is not signed.

The result is recorded and grants nothing. When Grafana's keys cannot be fetched, the command continues without proof.

Source: grafana/grafana pkg/services/auth/idimpl/service.go (claims, 10 minutes), pkg/util/proxyutil (the header), and
its documentation of GET /api/signing-keys/keys (a JWK set). Not tested with a running Grafana.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import jwt
import msgspec

from exporter.llmster import http_body

KEYS_PATH: Final = "/api/signing-keys/keys"
KEYS_AGE_S: Final = 3600.0
"""Keys older than this are asked for again, so that one that was taken back ends."""
RETRY_S: Final = 60.0
"""The keys are fetched at most this often, even after errors or for unknown key ids."""
_TIMEOUT_S: Final = 2.0
_LONGEST_LIFE_S: Final = 600 + 60
"""Grafana signs for 10 minutes."""
_LEEWAY_S: Final = 10
_MOST_CHARS: Final = 8192
_MOST_KEYS: Final = 100
"""Grafana has one or two."""
_ORG: Final = re.compile(r"org:[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of an X-Grafana-Id."""

    person: str | None
    """Their login as Grafana signed it, or the subject where there is none; None if nothing is proven."""
    record: Mapping[str, Any]
    """For the audit."""


class GrafanaId:
    """Checks tokens of one Grafana."""

    def __init__(self, url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._url = url.rstrip("/") + KEYS_PATH
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._got_at = float("-inf")
        self._asked_at = float("-inf")

    async def check(self, token: str) -> Proof:
        """Verify a token and name its subject. Never raises for its content."""
        try:
            claims = await self._verified(token)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:  # the last two of odd times
            return Proof(None, {"verified": False, "why": type(error).__name__})
        person = claims.get("username") or claims["sub"]
        return Proof(str(person), {"verified": True, "subject": claims["sub"], "org": claims["aud"]})

    async def _verified(self, token: str) -> dict[str, Any]:
        if len(token) > _MOST_CHARS:
            raise jwt.InvalidTokenError("too long")
        header = jwt.get_unverified_header(token)
        key = await self._key(header.get("kid"))
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=["ES256"],
            leeway=_LEEWAY_S,
            options={"require": ["exp", "iat", "sub", "aud"], "verify_aud": False},
        )
        audience = claims["aud"]
        claims["aud"] = audience[0] if isinstance(audience, list) and len(audience) == 1 else audience
        if not isinstance(claims["aud"], str) or not _ORG.fullmatch(claims["aud"]):
            raise jwt.InvalidAudienceError("not an organisation of Grafana's")
        if claims["exp"] - claims["iat"] > _LONGEST_LIFE_S:
            raise jwt.InvalidTokenError("lives longer than Grafana's do")
        return claims

    async def _key(self, kid: Any) -> jwt.PyJWK:
        if not isinstance(kid, str):
            raise jwt.InvalidTokenError("names no key")
        async with self._lock:
            now = self._monotonic()
            is_old = now - self._got_at > KEYS_AGE_S
            if (is_old or kid not in self._keys) and now - self._asked_at >= RETRY_S:
                self._asked_at = now
                await self._fetch()
            if self._monotonic() - self._got_at > KEYS_AGE_S + RETRY_S or kid not in self._keys:
                raise jwt.InvalidKeyError("a key that Grafana does not name")
            return self._keys[kid]

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S), httpx.AsyncClient(trust_env=False) as http:
                answer = await http_body.ask(http, "GET", self._url)
            found = msgspec.json.decode(answer.body)["keys"] if answer.is_success else []
            keys = {
                one["kid"]: jwt.PyJWK(one, algorithm="ES256")
                for one in found[:_MOST_KEYS]
                if one.get("kty") == "EC" and one.get("crv") == "P-256"
            }
        except (httpx.HTTPError, TimeoutError, jwt.PyJWTError):
            return
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # not a JWK set
            return
        if answer.is_success:
            self._keys, self._got_at = keys, self._monotonic()
