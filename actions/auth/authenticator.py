"""Authenticates requests by bearer token, checks scopes, limits wrong tokens per address and commands per token.

Only wrong tokens are limited: a correct one is always accepted. Does not depend on any route.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from fastapi import Request

from actions.auth.denial_log import DenialLog
from actions.auth.grafana_identity import GrafanaId, Proof
from actions.auth.tokens import TokenStore
from actions.domain.actor import LOOPBACK, Actor, Scope, on_behalf
from actions.domain.errors import Problem, forbidden, unrecordable
from actions.domain.rate_limit import Buckets, Shares
from actions.metrics import Metrics
from actions.store.audit import Audit
from actions.store.database import StorageFailed
from exporter.catalogue import actions as rows

FAILURES_BURST: Final = 5
"""Wrong tokens in a row before answers become 429."""
FAILURES_REFILL_S: Final = 10.0
"""One more try is allowed after so long."""
MAX_WAITS: Final = 64
"""Of one token at once."""
_ONLY_LOOKS: Final = frozenset({"GET", "HEAD"})


class Authenticator:
    """Names the actor of a request. Wrong tokens are counted, limited per address, and a sample of them audited."""

    def __init__(
        self,
        tokens: TokenStore,
        audit: Audit,
        metrics: Metrics,
        *,
        is_loopback: bool,
        commands_per_minute: int,
        grafana: GrafanaId | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = tokens
        self._denials = DenialLog(audit, metrics, clock=clock)
        self._metrics = metrics
        self._is_loopback = is_loopback
        self._grafana = grafana
        self.waits = Shares(MAX_WAITS)
        """Requests that wait for an operation; one beyond the share is answered at once."""
        self._failures = Buckets(FAILURES_BURST, FAILURES_REFILL_S, clock)
        self._commands = (
            Buckets(commands_per_minute, 60 / commands_per_minute, clock) if commands_per_minute else None
        )

    async def actor(self, request: Request) -> Actor:
        """Name the actor of a request. Raises Problem."""
        address = request.client.host if request.client is not None else "unknown"
        person = request.headers.get("x-grafana-user")
        presented = request.headers.get("authorization", "")
        try:
            if not presented:
                return await self._stranger(request, address, person)
            actor = await self._bearer(request, presented, address)
            proof = await self._proof(request)
            if proof is None:
                return on_behalf(actor, person=person, address=address)
            return on_behalf(actor, person=proof.person or person, address=address, grafana=proof.record)
        except StorageFailed as error:
            raise Problem("audit-unavailable", f"tokens cannot be read: {error}") from error

    async def _proof(self, request: Request) -> Proof | None:
        """Check the person that Grafana names, where it is recorded."""
        presented = request.headers.get("x-grafana-id")
        if self._grafana is None or presented is None or request.method in _ONLY_LOOKS:
            return None
        return await self._grafana.check(presented)

    async def require(
        self, actor: Actor, needs: Scope, *, action: str, subject: str, is_limited: bool = True
    ) -> None:
        """Refuse, on record, an actor whose scope is too low, and one that is too fast. Raises Problem.

        Without `is_limited` an actor whose scope suffices is always heard: for what only closes, as a denial does.
        """
        is_allowed = actor.scope.includes(needs)
        if is_limited or not is_allowed:
            self.slow_down(actor)
        if is_allowed:
            return
        self._metrics.count(rows.AUTH_FAILURES, "scope")
        problem = forbidden(action, actor=actor.name, has=actor.scope.value, needs=needs.value)
        await self._record_denial(actor, action, subject, problem.detail)
        raise problem

    def slow_down(self, actor: Actor) -> None:
        """Refuse an actor that is too fast; not on record, for a refusal must not cost a row each. Raises Problem."""
        wait_s = self._commands.of(actor.owner).take() if self._commands is not None else 0.0
        if wait_s > 0:
            self._metrics.count(rows.AUTH_FAILURES, "too_fast")
            raise Problem(
                "too-fast",
                f"{actor.name} exceeds commands_per_minute; the kill switch and denials are not limited",
                headers={"Retry-After": str(math.ceil(wait_s))},
            )

    async def _stranger(self, request: Request, address: str, person: str | None) -> Actor:
        if self._is_loopback and await self._tokens.is_empty():
            return on_behalf(LOOPBACK, person=person, address=address)
        self._metrics.count(rows.AUTH_FAILURES, "missing")
        raise _unauthorized("send a token: Authorization: Bearer dp_…", path=request.url.path)

    async def _bearer(self, request: Request, presented: str, address: str) -> Actor:
        scheme, _, text = presented.partition(" ")
        if scheme.lower() != "bearer":
            self._metrics.count(rows.AUTH_FAILURES, "missing")
            raise _unauthorized("only Bearer tokens are taken", path=request.url.path)
        checked = await self._tokens.check(text.strip())
        if checked.actor is not None:
            return checked.actor
        # Only for wrong tokens: a limit that a correct one could meet would let strangers lock its owner out.
        wait_s = self._failures.of(address).take()
        if wait_s > 0:
            self._metrics.count(rows.AUTH_FAILURES, "limited")
            seconds = max(1, round(wait_s))
            raise Problem(
                "too-many-failures",
                f"too many wrong tokens from {address}; try again in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )
        self._metrics.count(rows.AUTH_FAILURES, "wrong")
        stranger = Actor(f"token-id:{checked.token_id}", Scope.READ, address=address)
        await self._record_denial(
            stranger, "authenticate", request.url.path[:200], checked.reason, is_authenticated=False
        )
        raise _unauthorized(f"this token is not accepted: {checked.reason}", path=request.url.path)

    async def _record_denial(
        self, actor: Actor, action: str, subject: str, reason: str, *, is_authenticated: bool = True
    ) -> None:
        try:
            await self._denials.record(actor, action, subject, reason, is_authenticated=is_authenticated)
        except StorageFailed as error:
            raise unrecordable(error) from error


def _unauthorized(detail: str, *, path: str) -> Problem:
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"}, path=path[:200])
